"""The feed of trades between the stand-in exchange and a real broker: each id once, in order, as the market has it."""

import gzip
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from klinestream.market.codec import decode_id_gap, decode_trade
from klinestream.market.events import IdGapState, Trade
from klinestream.market.topics import DEAD_LETTERS, ID_GAPS, PIPELINE_EVENTS, TRADE_REPAIRS, TRADES
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Reader, open_reader
from klinestream.standin.faults import Drop, Garbage, Lose, Refuse, Shutdown, Withhold
from klinestream.standin.garbage import Form
from klinestream.standin.recorded import RecordedMarket
from tests.eventually import eventually
from tests.integration.running_feed import START_S, RunningFeed, all_of
from tests.integration.running_standin import RunningStandin, running
from tests.ports import free_ports
from tests.stack import TestBroker

SYMBOLS = 6
FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
SPEED = 100.0
LEAD_MS = 8000  # until the feed has subscribed


@pytest.fixture
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def config(configured: Callable[..., Config], job_broker: TestBroker, standin: RunningStandin) -> Config:
    (port,) = free_ports(1)
    return configured(
        kafka={"bootstrap_servers": job_broker.bootstrap_servers},
        exchange={"websocket_url": standin.ws, "rest_url": standin.http, "symbols": ["*"]},
        producer={"silence_s": 3.0, "backoff_first_s": 0.1, "backoff_most_s": 0.5, "name": "test"},
        trades={"metrics_port": port},
        log={"level": "warning"},
    )


@pytest.fixture
def start(config: Config) -> Iterator[Callable[..., RunningFeed]]:
    """Start the feed and wait until trades flow."""
    started: list[RunningFeed] = []

    def start(**trades: object) -> RunningFeed:
        told = config.model_copy(update={"trades": config.trades.model_copy(update=trades)})
        feed = RunningFeed("trades", told, told.trades.metrics_port)
        started.append(feed)
        eventually(lambda: feed.metric("symbols") == SYMBOLS, START_S, "all symbols are followed")
        feed.publishes(2 * SYMBOLS)
        return feed

    yield start
    for feed in started:
        feed.end(signal.SIGKILL)


def trades_of(config: Config) -> dict[str, list[Trade]]:
    """Symbol → its trades in the order of the topic."""
    found: dict[str, list[Trade]] = defaultdict(list)
    for record in all_of(config, TRADES):
        trade = decode_trade(record.value or b"")
        assert (record.key, record.timestamp_ms) == (trade.symbol.encode(), trade.time_ms)
        found[trade.symbol].append(trade)
    return found


def assert_as_the_market(standin: RunningStandin, trades: list[Trade]) -> None:
    """Each is what the market itself says of that aggregate, in every field."""
    symbol, first = trades[0].symbol, trades[0].aggregate_id
    assert first is not None
    said = standin.exchange.market.agg_trades_by_id(symbol, first, len(trades), trades[-1].time_ms + 1)
    ours = [(t.aggregate_id, t.price, t.quantity, t.first_id, t.last_id, t.time_ms, t.buyer_is_maker) for t in trades]
    assert ours == [(t.id, t.price, t.quantity, t.first_trade_id, t.last_trade_id, t.time_ms, t.buyer_is_maker) for t in said]


def contiguous(trades: list[Trade]) -> bool:
    """Each id once, in order."""
    return all(after.first_id == before.last_id + 1 for before, after in pairwise(trades))


def in_topic(reader: Reader) -> int:
    """How many trades there are."""
    return sum(end - first for first, end in reader.bounds(TRADES.name).values())


def states(config: Config) -> list[IdGapState]:
    """What the ledger tells, in order."""
    return [decode_id_gap(record.value or b"").state for record in all_of(config, ID_GAPS)]


def test_each_id_comes_once_and_in_order_whatever_breaks(
    start: Callable[..., RunningFeed], config: Config, standin: RunningStandin
) -> None:
    """Connections cut, frames lost, garbage of every form, a refusal while ids are missing, a hand-over, and two kills with -9:
    every trade is the market's, none is missing or twice, and what was garbage is in the dead letters.
    """
    feed = start()
    for form in Form:
        letters = feed.metric("dead_letters_total")
        standin.client.inject(Garbage(seconds=60, form=form))
        eventually(lambda letters=letters: feed.metric("dead_letters_total") > letters, START_S, f"garbage of the form {form}")
        standin.client.clear()
    standin.client.inject(Refuse(seconds=1, status=429))
    standin.client.inject(Drop())
    eventually(lambda: feed.metric("reconnects_total") >= 4, START_S, "connections were cut")
    feed.publishes(SYMBOLS)
    standin.client.inject(Lose(seconds=2))
    eventually(lambda: feed.metric("ledger_entries_total", "detected") > 0, START_S, "ids are missing")
    eventually(lambda: feed.metric("waiting_symbols") == 0, START_S, "nothing waits")
    standin.client.inject(Shutdown(seconds=5))
    eventually(lambda: feed.metric("hand_overs_total") >= 1, START_S, "handed over")
    for _ in range(2):
        feed.end(signal.SIGKILL)
        feed = start()
    eventually(lambda: feed.metric("waiting_symbols") == 0, START_S, "nothing waits")
    assert feed.end() == 0
    found = trades_of(config)
    assert len(found) == SYMBOLS
    for trades in found.values():
        assert contiguous(trades)
        assert_as_the_market(standin, trades)
        assert {trade.origin.value for trade in trades} == {"live", "rest"}
    gaps = [decode_id_gap(record.value or b"") for record in all_of(config, ID_GAPS)]
    assert all(gap.reason.endswith("is not known") for gap in gaps if gap.state is IdGapState.DEFERRED), "but for what a kill leaves open"
    assert all_of(config, DEAD_LETTERS)
    told = b"".join(record.value or b"" for record in all_of(config, PIPELINE_EVENTS))
    assert told.count(b'"started"') == 3
    assert told.count(b'"stopped"') == 1


def test_what_does_not_come_in_time_goes_to_the_repairs(start: Callable[..., RunningFeed], config: Config, standin: RunningStandin) -> None:
    """While REST lacks trades the feed goes on after `hold_s`; a process that was killed meanwhile has them fetched by the next one."""
    feed = start(hold_s=1.0)
    standin.client.inject(Withhold(seconds=600))
    standin.client.inject(Lose(seconds=2))
    eventually(lambda: feed.metric("deferred_ids_total") > 0 and feed.metric("waiting_symbols") == 0, START_S, "ids are deferred")
    feed.publishes(SYMBOLS)
    feed.end(signal.SIGKILL)
    standin.client.clear()
    feed = start(hold_s=1.0)
    eventually(lambda: feed.metric("backlog_spans") == 0 and feed.metric("repair_records_total") > 0, START_S, "they are repaired")
    assert feed.end() == 0
    series, repaired = trades_of(config), defaultdict(list)
    for record in all_of(config, TRADE_REPAIRS):
        trade = decode_trade(record.value or b"")
        repaired[trade.symbol].append(trade)
    assert any(not contiguous(trades) for trades in series.values())
    for symbol, trades in series.items():
        whole = sorted([*trades, *repaired[symbol]], key=lambda trade: trade.first_id)
        assert contiguous(whole)
        assert_as_the_market(standin, whole)
    told = states(config)
    assert told.count(IdGapState.DEFERRED) == told.count(IdGapState.REPAIRED) > 0


@pytest.mark.soak
def test_what_is_published_is_held_to_the_exchange_s_klines(start: Callable[..., RunningFeed], config: Config) -> None:
    """While the feed runs, klines made of its trades are compared, and no field differs."""
    feed = start()
    assert config.producer.reconcile_s
    eventually(lambda: feed.metric("checked_items_total") > 0, 2 * START_S, "klines were compared")
    assert feed.metric("check_mismatches_total") == 0


@pytest.mark.soak
@pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")
def test_recorded_trades_come_out_as_they_were_recorded(configured: Callable[..., Config], job_broker: TestBroker) -> None:
    """Frames of the real exchange, a hundred times as fast, through a feed that is killed twice with -9 amid them: in the topic is each
    of them, once, in order, in every field.
    """
    recorded: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    for file in sorted(FRAMES.glob("*.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                if b'@trade"' in line:
                    data = orjson.loads(line.split(b" ", 1)[1])["data"]
                    recorded[data["s"]].append((data["t"], data["t"], data["p"], data["q"], data["T"], data["m"]))
    market = RecordedMarket(FRAMES, time.time_ns() // 1_000_000 + LEAD_MS, speed=SPEED, retime=False)
    assert all(market.symbols[symbol] for symbol in recorded), "all is loaded before it begins"
    (port,) = free_ports(1)
    with running(of=market) as standin:
        told = configured(
            kafka={"bootstrap_servers": job_broker.bootstrap_servers},
            exchange={"websocket_url": standin.ws, "rest_url": standin.http, "symbols": ["*"]},
            trades={"metrics_port": port, "stream": "trade"},
            log={"level": "warning"},
        )
        feed = RunningFeed("trades", told, port)
        total = sum(map(len, recorded.values()))
        reader = open_reader(told.kafka, "test")
        for part in (4, 2):
            eventually(lambda part=part: in_topic(reader) > total // part, 60, f"1/{part} of the trades")
            feed.end(signal.SIGKILL)
            feed = RunningFeed("trades", told, port)
        eventually(lambda: in_topic(reader) >= total, 60, f"{total} trades")
        reader.close()
        assert feed.end() == 0
    found: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    for record in all_of(told, TRADES):
        line = orjson.loads(record.value or b"")
        found[line["s"]].append(tuple(line[name] for name in ("f", "l", "p", "q", "T", "m")))
    assert found == recorded


@pytest.mark.soak
def test_single_trades_go_on_where_aggregates_ended(start: Callable[..., RunningFeed], config: Config, standin: RunningStandin) -> None:
    """A feed of single trades takes over from one of aggregates, and gives back to it: no id is missing or twice."""
    for stream in ("aggTrade", "trade", "aggTrade"):
        feed = start(stream=stream)
        eventually(lambda feed=feed: feed.metric("waiting_symbols") == 0, START_S, "nothing waits")
        assert feed.end(signal.SIGKILL) == -signal.SIGKILL
    found = trades_of(config)
    assert all(map(contiguous, found.values()))
    singles = [trade for trades in found.values() for trade in trades if trade.aggregate_id is None]
    assert singles
    for trade in singles:
        (said,) = standin.exchange.market.trades_by_id(trade.symbol, trade.first_id, 1, trade.time_ms + 1)
        assert (said.id, said.price, said.quantity, said.time_ms, said.buyer_is_maker) == (
            trade.first_id,
            trade.price,
            trade.quantity,
            trade.time_ms,
            trade.buyer_is_maker,
        )
