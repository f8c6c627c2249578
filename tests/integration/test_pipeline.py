"""The recorded market through the whole pipeline: every window equals the one computed straight from the trade file."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from klinestream.market.topics import DEAD_LETTERS, KLINES, LATE_DATA, WINDOWS
from tests import truth
from tests.eventually import eventually
from tests.topics import Topic, windows_by_identity
from tests.whole_stack import TestStack

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
SPEED = 30
RECORDED_S = 650
LEAD_S = 40  # until the producer has connected, on a busy machine too
PATIENT_S = 600.0  # with silence: there is nothing to hear until the recording begins, and a producer about to reconnect misses that
SYMBOLS = {"BTCUSDT", "ETHUSDT"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestStack]:
    """A stack whose exchange serves the recorded frames, thirty times as fast, so that they end now."""
    if not FRAMES.is_dir():
        pytest.skip(f"no recorded frames at {FRAMES.name}: the same check runs on the seeded market in test_stack_up.py")
    standin = {"frames": str(FRAMES), "speed": SPEED, "lead_s": LEAD_S, "ago_s": RECORDED_S}
    producer = {"silence_s": PATIENT_S}
    started = TestStack(tmp_path_factory.mktemp("recorded"), ",".join(sorted(SYMBOLS)), standin=standin, producer=producer)
    try:
        started.launch()
        yield started
    finally:
        started.stop()


def test_every_window_equals_the_one_from_the_trade_file(stack: TestStack) -> None:
    """Exchange, producer, Kafka, Flink: no window is missing, none is extra, and each is right to 1e-9."""
    seconds = truth.seconds_of(truth.recorded_trades(FRAMES))
    stack.wait_for("producer")
    klines, windows = Topic(stack.bootstrap_servers, KLINES.name), Topic(stack.bootstrap_servers, WINDOWS.name)
    whole = {symbol: sorted(time for name, time in seconds if name == symbol) for symbol in SYMBOLS}
    enough = sum(len(times) - 3 for times in whole.values())
    eventually(lambda: len(klines.read()) >= enough, LEAD_S + RECORDED_S / SPEED + 60, f"{enough} klines")
    # The recording's first and last second are cut off: what is served lies between.
    served = {symbol: sorted({value["t"] for value in klines.values() if value["s"] == symbol}) for symbol in SYMBOLS}
    eventually(lambda: len(windows.read()) >= 2 * sum(map(len, served.values())), 60, "two windows a kline")
    shift = served["BTCUSDT"][-1] - whole["BTCUSDT"][-2]

    found = [orjson.loads(value) for value in windows_by_identity(windows.read()).values()]
    for symbol in SYMBOLS:
        inner = [time + shift for time in whole[symbol][1:-1]]
        assert served[symbol][-len(inner) + 1 :] == inner[1:], "klines are missing"
        assert {window["window_end"] for window in found if window["symbol"] == symbol} == truth.ends_of(served[symbol])
    assert len({window["since"] for window in found}) <= len(SYMBOLS), "a run was broken"
    mistakes = [mistake for window in found if (mistake := truth.wrong(window, seconds, shift))]
    assert not mistakes, mistakes[:5]
    for name in (DEAD_LETTERS.name, LATE_DATA.name):
        empty = Topic(stack.bootstrap_servers, name)
        assert empty.read() == []
        empty.close()
    klines.close()
    windows.close()
