"""The trade windows job on a real broker and a real Flink cluster: its windows are those of a few lines, whatever is killed meanwhile."""

import gzip
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market import batch, decimals
from klinestream.market.codec import encode_event
from klinestream.market.events import Kline, Trade
from klinestream.market.topics import DEAD_LETTERS, KLINES, PIPELINE_EVENTS, TRADE_WINDOWS, TRADES
from klinestream.market.trade_batch import decode
from klinestream.market.trade_windows import TradeWindowEngine, TradeWindowSettings
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.stack.commands import configuration, script_of
from klinestream.standin.seeded.market import SeededMarket
from tests.eventually import eventually
from tests.stack import TestBroker, TestFlink
from tests.topics import Topic, kafka, publish, record_of
from tests.trades import klines_of, trade, windows_of

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
RECORDED = ("BTCUSDT", "ETHUSDT")
WITHIN_S = 90.0
Identity = tuple[str, int, int]


@pytest.fixture
def submit(job_broker: TestBroker, flink: TestFlink, configured: Callable[..., Config]) -> Iterator[Callable[..., str]]:
    """`submit(restore_from=…)`: the job's id; what still runs is cancelled afterwards."""
    started: list[str] = []

    def run(restore_from: str = "") -> str:
        config = configured(kafka=kafka(job_broker.bootstrap_servers).model_dump(exclude={"sasl_password"}))
        started.append(flink.submit(script_of("trade_windows"), restore_from=restore_from, env=configuration(config)))
        return started[-1]

    yield run
    for job in flink.cluster.jobs():
        if job.id in started and not job.ended:
            flink.cancel(job.id)


def seeded(seconds: int) -> dict[str, list[Trade]]:
    """The seeded market's newest trades of two symbols."""
    market = SeededMarket(1, 2)
    until_ms = int(time.time()) * 1000
    found: dict[str, list[Trade]] = {}
    for symbol in market.symbols:
        found[symbol] = [
            trade(symbol, t.id, t.time_ms, aggregate_id=None, price=t.price, quantity=t.quantity, buyer_is_maker=t.buyer_is_maker)
            for t in market.trades(symbol, until_ms - seconds * 1000, until_ms)
        ]
    return found


def recorded(seconds: int) -> dict[str, list[Trade]]:
    """The recorded trades, as of now: their last one was made just now."""
    found: dict[str, list[Trade]] = {}
    for symbol in RECORDED:
        for file in sorted(FRAMES.glob(f"{symbol.lower()}_*.gz")):
            with gzip.open(file) as lines:
                frames = [orjson.loads(line.split(b" ", 1)[1])["data"] for line in lines if b"@trade" in line]
            found.setdefault(symbol, []).extend(
                trade(
                    symbol,
                    data["t"],
                    data["T"],
                    aggregate_id=None,
                    price=decimals.parse(data["p"]),
                    quantity=decimals.parse(data["q"]),
                    buyer_is_maker=data["m"],
                )
                for data in frames
            )
    first = max(series[0].time_ms for series in found.values())
    newest = min(first + seconds * 1000, max(series[-1].time_ms for series in found.values()))
    shift = (int(time.time() * 1000) - newest) // 1000 * 1000
    return {s: [replace(t, time_ms=t.time_ms + shift) for t in series if t.time_ms <= newest] for s, series in found.items()}


def market(seconds: int) -> dict[str, list[Trade]]:
    """Trades of two symbols: recorded ones, or the seeded market's where none are there."""
    return recorded(seconds) if FRAMES.is_dir() else seeded(seconds)


def records_of(trades: list[Trade], klines: list[Kline]) -> list[Record]:
    """Both as their feeds publish them, a second's trades and then its kline."""
    told = [(t.time_ms, 0, Record(TRADES.name, t.symbol.encode(), encode_event(t), t.time_ms)) for t in trades]
    told += [(k.close_time_ms, 1, record_of(k)) for k in klines]
    return [record for _, _, record in sorted(told, key=lambda each: each[:2])]


def by_identity(topic: Topic) -> dict[Identity, dict[str, Any]]:
    """Windows by symbol, end and since. Fails where one of them has two values."""
    found: dict[Identity, bytes] = {}
    for record in topic.read():
        value = orjson.loads(record.value or b"")
        identity = (value["symbol"], value["window_end"], value["since"])
        held = found.setdefault(identity, record.value or b"")
        assert held == record.value, f"expected one value an identity, got two: {held!r} and {record.value!r}"
    return {identity: orjson.loads(value) for identity, value in found.items()}


def expected(series: dict[str, list[Trade]], klines: list[Kline]) -> dict[Identity, dict[str, Any]]:
    """What a few lines make of them, all but the RSI."""
    s = TradeWindowSettings()
    found = {}
    for symbol, trades in series.items():
        mine = [kline for kline in klines if kline.symbol == symbol]
        for window in windows_of(trades, mine, s.size_ms, s.slide_ms, s.silence_ms):
            found[symbol, window["window_end"], window["since"]] = window
    return found


def replayed(bootstrap_servers: str) -> dict[Identity, dict[str, Any]]:
    """What the engine alone makes of what stands in the two topics: of all trades first, then of all klines."""
    engine = TradeWindowEngine(replace(TradeWindowSettings(), waiting_most=100_000))
    with closing(Topic(bootstrap_servers, TRADES.name)) as topic:
        lines = [record.value or b"" for record in topic.read()]
        steps = [engine.take_trades(decode(lines)[0])]
    with closing(Topic(bootstrap_servers, KLINES.name)) as topic:
        steps += [engine.take_klines(batch.decode([record.value or b""])[0]) for record in topic.read()]
    values = [record for step in steps for rows in step.windows for record in rows.records()]
    return {(str(v["symbol"]), int(v["window_end"]), int(v["since"])): v for v in values}  # type: ignore[call-overload]


def check(windows: Topic, right: dict[Identity, dict[str, Any]], bootstrap_servers: str) -> None:
    """The job's windows are the right ones in every field, and those of the engine alone to the last bit."""
    eventually(lambda: len(by_identity(windows)) >= len(right), WITHIN_S, f"{len(right)} windows")
    found = by_identity(windows)
    assert {
        i: {name: v for name, v in window.items() if name not in {"rsi", "rsi_ready", "revision"}} for i, window in found.items()
    } == right
    assert found == replayed(bootstrap_servers)


def test_windows_over_trades_are_those_of_a_few_lines(job_broker: TestBroker, flink: TestFlink, submit: Callable[..., str]) -> None:
    """With its TaskManager killed in mid-flow each window is right in every field, a replay gives the same bits, bad lines have a place."""
    _run(job_broker, flink, submit, 40)


@pytest.mark.soak
def test_ten_minutes_of_windows_over_trades(job_broker: TestBroker, flink: TestFlink, submit: Callable[..., str]) -> None:
    """The same of all that was recorded."""
    _run(job_broker, flink, submit, 650)


def _run(job_broker: TestBroker, flink: TestFlink, submit: Callable[..., str], seconds: int) -> None:
    series = market(seconds)
    assert all(len(trades) > 20 for trades in series.values())
    klines = [kline for trades in series.values() for kline in klines_of(trades)]
    symbol, held = next(iter(series.items()))
    lost = held[len(held) // 3 : len(held) // 3 + 5]
    series[symbol] = [each for each in held if each not in lost]
    wrong = next(k for k in reversed(klines) if k.symbol == symbol and k.trades > 1)
    told = [replace(k, quote_volume=k.quote_volume + 1) if k is wrong else k for k in klines]
    records = records_of([t for trades in series.values() for t in trades], told)
    half = len(records) // 2
    publish(job_broker.bootstrap_servers, records[:half])
    job = submit()
    with (
        closing(Topic(job_broker.bootstrap_servers, TRADE_WINDOWS.name)) as windows,
        closing(Topic(job_broker.bootstrap_servers, DEAD_LETTERS.name)) as dead,
        closing(Topic(job_broker.bootstrap_servers, PIPELINE_EVENTS.name)) as events,
    ):
        eventually(windows.read, WITHIN_S, "windows")
        eventually(lambda: flink.cluster.checkpoints_completed(job) > 0, WITHIN_S, "a checkpoint completes")
        late = Record(TRADES.name, symbol.encode(), encode_event(lost[0]), lost[0].time_ms)
        bad = Record(TRADES.name, symbol.encode(), b"garbage", lost[0].time_ms)
        again = [r for r in records[half - 20 : half] if r.topic == TRADES.name]
        publish(job_broker.bootstrap_servers, [*again, late, bad, *records[half:]])
        flink.kill_task_manager()
        flink.start_task_manager()
        check(windows, expected(series, told), job_broker.bootstrap_servers)
        eventually(lambda: len(dead.read()) >= 2, WITHIN_S, "dead letters")
        reasons = {letter["reason"] for letter in dead.values()}
        assert reasons == {"not JSON", "f, l: too late, these ids were missing when later ones came"}
        ours, built = (decimals.show(value) for value in (wrong.quote_volume + 1, wrong.quote_volume))
        wanted = {f"{symbol} {wrong.open_time_ms}: q {ours} in the kline, {built} from its trades"}

        def told_once() -> bool:
            details = {event["detail"] for event in events.values() if event["event"] == "kline_differs"}
            assert details == wanted
            return True

        eventually(told_once, WITHIN_S, "the kline that differs is told, and no other")
