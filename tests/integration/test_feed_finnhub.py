"""The feed of Finnhub's trades between the stand-in for its protocol and a real broker."""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import httpx
import orjson
import pytest
import websocket

from klinestream.market.codec import decode_id_gap, decode_kline, decode_trade
from klinestream.market.events import SECOND_MS, IdGapState, Kline, Proof, Trade
from klinestream.market.topics import ID_GAPS, KLINES, TOPICS, TRADES
from klinestream.runtime.config import Config
from klinestream.standin.faults import Drop, Garbage, Reorder, Silence
from klinestream.standin.finnhub.listing import Kind
from klinestream.standin.finnhub.messages import INVALID_SYMBOL
from klinestream.standin.finnhub.session import PREFIX
from klinestream.standin.garbage import Form
from tests.eventually import eventually
from tests.integration.running_feed import START_S, RunningFeed, all_of
from tests.integration.running_standin import RunningStandin, running
from tests.ports import free_ports
from tests.stack import TestBroker

NAMES = ("AAPL", "TSLA", "BINANCE:BTCUSDT", "BINANCE:ETHUSDT", "OANDA:EUR_USD")
TOKEN = "standin-c0ffee-and-no-one-may-read-it"  # noqa: S105  # opens nothing
GRACE_S = 3.0  # a trade may come so late on a busy machine
UNNOTICED_MS = 12_000
"""For how long a dead connection may pass for a quiet one: two silences of 2 s, the grace, and what a busy machine adds."""


@pytest.fixture
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def config(configured: Callable[..., Config], job_broker: TestBroker, standin: RunningStandin) -> Config:
    (port,) = free_ports(1)
    return configured(
        kafka={"bootstrap_servers": job_broker.bootstrap_servers},
        producer={"silence_s": 2.0, "backoff_first_s": 0.1, "backoff_most_s": 0.5, "name": "test"},
        finnhub={"websocket_url": standin.ws, "token": TOKEN, "symbols": NAMES, "metrics_port": port, "grace_s": GRACE_S},
    )


@pytest.fixture
def start(config: Config) -> Iterator[Callable[[], RunningFeed]]:
    """Start the feed and wait until klines flow."""
    started: list[RunningFeed] = []

    def start() -> RunningFeed:
        feed = RunningFeed("finnhub", config, config.finnhub.metrics_port)
        started.append(feed)
        before = len(all_of(config, KLINES))
        eventually(lambda: len(all_of(config, KLINES)) > before + 2 * len(NAMES), START_S, "klines come")
        return feed

    yield start
    for feed in started:
        feed.end(signal.SIGKILL)


def trades_of(config: Config) -> dict[str, list[Trade]]:
    """Finnhub's name → its trades in the order of the topic."""
    found: dict[str, list[Trade]] = defaultdict(list)
    for record in all_of(config, TRADES):
        trade = decode_trade(record.value or b"")
        assert (record.key, record.timestamp_ms) == (trade.symbol.encode(), trade.time_ms)
        assert (trade.source, trade.proof, trade.buyer_is_maker) == ("finnhub", Proof.NONE, None)
        found[trade.symbol.removeprefix("FINNHUB:")].append(trade)
    return found


def klines_of(config: Config) -> dict[str, list[Kline]]:
    """Finnhub's name → its klines in the order of the topic; each second once, and marked."""
    found: dict[str, list[Kline]] = defaultdict(list)
    for record in all_of(config, KLINES):
        kline = decode_kline(record.value or b"")
        marks = orjson.loads(record.value or b"")
        assert (marks["source"], marks["proof"], marks["origin"]) == ("finnhub", "none", "built")
        found[kline.symbol.removeprefix("FINNHUB:")].append(kline)
    for klines in found.values():
        assert all(after.open_time_ms > before.open_time_ms for before, after in pairwise(klines))
    return found


def assert_served(standin: RunningStandin, name: str, trades: list[Trade], contiguous: bool = True) -> None:
    """They are trades of the market, none twice; `contiguous`: and none between them is missing."""
    listed = standin.exchange.finnhub.listed[name]
    said = standin.exchange.market.trades(listed.symbol, trades[0].time_ms, trades[-1].time_ms + 1)
    served = [(t.price, 0 if listed.kind is Kind.RATE else t.quantity, t.time_ms) for t in said]
    ours = [(t.price, t.quantity, t.time_ms) for t in trades]
    if contiguous:
        assert ours == served[served.index(ours[0]) :][: len(ours)]
    else:
        left = iter(served)
        assert all(one in left for one in ours)


def assert_built(klines: list[Kline], trades: list[Trade]) -> None:
    """Each kline is what a few lines make of the topic's own trades."""
    carried = {kline.close_time_ms: kline for kline in klines}
    for k in klines:
        mine = [t for t in trades if k.open_time_ms <= t.time_ms <= k.close_time_ms]
        ours = (k.open, k.high, k.low, k.close, k.base_volume, k.quote_volume, k.trades, k.first_trade_id, k.last_trade_id)
        if mine:
            prices = [t.price for t in mine]
            quote = sum(t.price * t.quantity for t in mine) // 10**8
            volume = sum(t.quantity for t in mine)
            ids = mine[0].first_id, mine[-1].last_id
            assert ours == (prices[0], max(prices), min(prices), prices[-1], volume, quote, len(mine), *ids)
        else:
            newest = [t for t in trades if t.time_ms < k.open_time_ms][-1]
            assert ours == (*[newest.price] * 4, 0, 0, 0, -1, newest.last_id)
            before = carried.get(k.open_time_ms - 1)
            assert before is None or before.close == k.close
        assert (k.taker_base_volume, k.taker_quote_volume) == (0, 0)


def test_trades_are_those_served_and_klines_are_made_of_them(
    config: Config, standin: RunningStandin, start: Callable[[], RunningFeed], capfd: pytest.CaptureFixture[str]
) -> None:
    """To the last digit, numbered without a break; over kills, lost connections, silence, garbage and disorder no number comes twice.

    The key is in no log, no metric and no record.
    """
    feed = start()
    klines = klines_of(config)  # first: the feed goes on, and each kline needs its trades
    trades = trades_of(config)
    assert set(trades) == set(NAMES)
    for name in NAMES:
        assert [t.first_id for t in trades[name]] == list(range(1, len(trades[name]) + 1))
        assert_served(standin, name, trades[name])
        assert_built(klines[name], trades[name])
        seconds = [k.open_time_ms for k in klines[name]]
        assert seconds == list(range(seconds[0], seconds[0] + len(seconds) * SECOND_MS, SECOND_MS))
    assert all(t.quantity == 0 for t in trades["OANDA:EUR_USD"])
    assert any(t.conditions for t in trades["AAPL"])

    standin.client.inject(Garbage(streams=PREFIX + "*", form=Form.NULL_FIELDS, seconds=2))
    eventually(lambda: feed.metric("dead_letters_total") > 0, START_S, "garbage is told")
    standin.client.inject(Drop(streams=PREFIX + "*"))
    feed.publishes(20)
    standin.client.inject(Silence(streams=PREFIX + "*", seconds=10))
    feed.publishes(20)
    standin.client.inject(Reorder(streams=PREFIX + "*", seconds=2))
    feed.publishes(20)
    scraped = httpx.get(f"http://127.0.0.1:{config.finnhub.metrics_port}/metrics", trust_env=False).text
    feed.end(signal.SIGKILL)
    feed = start()
    feed.publishes(20)
    feed.end()

    trades, klines = trades_of(config), klines_of(config)
    gaps = [decode_id_gap(record.value or b"") for record in all_of(config, ID_GAPS)]
    assert {gap.state for gap in gaps} == {IdGapState.UNFILLABLE}
    for name in NAMES:
        numbers = [t.first_id for t in trades[name]]
        left_out = {gap.from_id for gap in gaps if gap.symbol == "FINNHUB:" + name}
        assert left_out
        assert sorted({*numbers, *left_out}) == list(range(1, numbers[-1] + 1))
        assert len(set(numbers)) == len(numbers)
        assert numbers == sorted(numbers)
        assert_built(klines[name], trades[name])
    busy = "BINANCE:BTCUSDT"
    left_out = {gap.from_id for gap in gaps if gap.symbol == "FINNHUB:" + busy}
    assert len(left_out) >= 2  # the drop and the kill at least; others may not have traded in between
    for gap in left_out:  # no kline speaks of a time in which nobody listened, but for a dead connection that wasn't noticed yet
        before = max(t.time_ms for t in trades[busy] if t.first_id < gap)
        after = min(t.time_ms for t in trades[busy] if t.first_id > gap)
        assert not [k for k in klines[busy] if before // 1000 * 1000 + UNNOTICED_MS < k.open_time_ms < after // 1000 * 1000]
    held = [record.value or b"" for topic in TOPICS for record in all_of(config, topic)]
    assert not any(TOKEN.encode() in value for value in held)
    output = capfd.readouterr()
    assert TOKEN not in output.out + output.err + scraped


def test_a_wrong_key_is_refused_and_not_told(config: Config, standin: RunningStandin, capfd: pytest.CaptureFixture[str]) -> None:
    """The feed tries again with a growing pause, and its log names the address without the key."""
    wrong = config.model_copy(update={"finnhub": config.finnhub.model_copy(update={"token": type(config.finnhub.token)("no-such-key")})})
    feed = RunningFeed("finnhub", wrong, config.finnhub.metrics_port)
    try:
        seen: list[str] = []

        def refused() -> bool:
            output = capfd.readouterr()
            seen.append(output.out + output.err)
            return "401" in "".join(seen)

        eventually(refused, START_S, "the refusal stands in the log")
        assert "no-such-key" not in "".join(seen)
        assert standin.address in "".join(seen)
    finally:
        feed.end(signal.SIGKILL)


def test_the_stand_in_answers_as_finnhub_does(standin: RunningStandin) -> None:
    """401 for a wrong key, an error for an unknown name, and a second connection of a key ends the first."""
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        websocket.create_connection(standin.ws + "?token=other", timeout=10)
    assert refusal.value.status_code == 401
    with standin.connected(f"?token={TOKEN}") as first:
        first.send(orjson.dumps({"type": "subscribe", "symbol": "NOBODY"}).decode())
        assert orjson.loads(first.recv()) == {"type": "error", "msg": INVALID_SYMBOL}
        first.send("garbage")
        assert orjson.loads(first.recv())["type"] == "error"
        for name in NAMES:
            first.send(orjson.dumps({"type": "subscribe", "symbol": name}).decode())
        messages = [orjson.loads(first.recv()) for _ in range(20)]
        assert any(len({trade["s"] for trade in message["data"]}) > 1 for message in messages)
        with standin.connected(f"?token={TOKEN}"):
            eventually(lambda: first.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_CLOSE, START_S, "the first one is closed")
