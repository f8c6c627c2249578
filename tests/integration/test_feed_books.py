"""The feed of order books between the stand-in exchange and a real broker: each record is the market's own book at that update."""

import signal
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from klinestream.market.codec import decode_event, decode_id_gap
from klinestream.market.decimals import parse
from klinestream.market.events import IdGap, IdGapState, OrderBook
from klinestream.market.topics import DEAD_LETTERS, ID_GAPS, ORDER_BOOK
from klinestream.runtime.config import Config
from klinestream.standin.faults import Drop, Garbage, Lose, Refuse, Shutdown
from tests.eventually import eventually
from tests.integration.running_feed import START_S, RunningFeed, all_of
from tests.integration.running_standin import RunningStandin, running
from tests.ports import free_ports
from tests.stack import TestBroker

SYMBOLS = 3
EVERY = 7  # records whose twenty levels are compared: the market takes a millisecond to make a book


@pytest.fixture
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture
def config(configured: Callable[..., Config], job_broker: TestBroker, standin: RunningStandin) -> Config:
    (port,) = free_ports(1)
    symbols = list(standin.exchange.market.symbols)[:SYMBOLS]
    return configured(
        kafka={"bootstrap_servers": job_broker.bootstrap_servers},
        exchange={"websocket_url": standin.ws, "rest_url": standin.http, "symbols": ["*"]},
        # A connection that comes back within a tenth of a second misses no update: this one stays away for a quarter at least.
        producer={"silence_s": 3.0, "backoff_first_s": 0.5, "backoff_most_s": 0.5, "name": "test"},
        books={"metrics_port": port, "symbols": symbols, "every_ms": 100, "levels": 1000},  # five thousand, time and again, weigh too much
        log={"level": "warning"},
    )


@pytest.fixture
def start(config: Config) -> Iterator[Callable[[], RunningFeed]]:
    """Start the feed and wait until books flow."""
    started: list[RunningFeed] = []

    def start() -> RunningFeed:
        feed = RunningFeed("books", config, config.books.metrics_port)
        started.append(feed)
        eventually(lambda: feed.metric("symbols") == SYMBOLS, START_S, "all symbols are followed")
        feed.publishes(5 * SYMBOLS)
        return feed

    yield start
    for feed in started:
        feed.end(signal.SIGKILL)


def books_of(config: Config) -> dict[str, list[OrderBook]]:
    """Symbol → its records in the order of the topic."""
    found: dict[str, list[OrderBook]] = defaultdict(list)
    for record in all_of(config, ORDER_BOOK):
        book = decode_event(OrderBook, record.value or b"")
        assert (record.key, record.timestamp_ms) == (book.symbol.encode(), book.time_ms)
        found[book.symbol].append(book)
    return found


def assert_as_the_market(standin: RunningStandin, books: list[OrderBook]) -> None:
    """The best bid and ask of each are those of bookTicker at that update, the levels of some those of the market's book."""
    market, symbol = standin.exchange.market, books[0].symbol
    best = {one.update_id: one for one in market.book_tickers(symbol, books[0].time_ms, books[-1].time_ms + 1)}
    for book in books:
        said = best[book.last_update_id]
        ours = tuple(parse(text) for text in (*book.bids[0], *book.asks[0]))
        assert ours == (said.bid, said.bid_quantity, said.ask, said.ask_quantity)
    for book in books[::EVERY]:
        depth = market.depth(symbol, book.time_ms + 1, 20)
        assert depth is not None
        assert depth.last_update_id == book.last_update_id
        for ours, theirs in ((book.bids, depth.bids), (book.asks, depth.asks)):
            assert tuple((parse(price), parse(quantity)) for price, quantity in ours) == theirs


def ledger(config: Config) -> dict[str, list[IdGap]]:
    """Symbol → what the ledger tells of it, in order."""
    found: dict[str, list[IdGap]] = defaultdict(list)
    for record in all_of(config, ID_GAPS):
        gap = decode_id_gap(record.value or b"")
        found[gap.symbol].append(gap)
    return found


def each_tells(config: Config, so: Callable[[IdGap], bool]) -> bool:
    """Each symbol's newest entry of the ledger is so: a sum over symbols may be that of one."""
    told = ledger(config)
    return all(symbol in told and so(told[symbol][-1]) for symbol in config.books.symbols)


def is_of_the_start(gap: IdGap) -> bool:
    """What the feed missed before it was started again."""
    return gap.reason.startswith("the feed was away")


def test_each_book_is_the_market_s_whatever_breaks(start: Callable[[], RunningFeed], config: Config, standin: RunningStandin) -> None:
    """Frames lost, a connection cut while REST refuses, garbage, a hand-over and a kill with -9: every published book is the market's,
    in order of updates; each gap is in the ledger until a snapshot ended it, and nothing of it was published.
    """
    feed = start()
    standin.client.inject(Shutdown(seconds=5))
    eventually(lambda: feed.metric("hand_overs_total") >= 1, START_S, "handed over")
    assert feed.metric("ledger_entries_total") == 0, "a start and a hand-over leave no gap"
    standin.client.inject(Garbage(seconds=60))
    eventually(lambda: feed.metric("dead_letters_total") > 0, START_S, "garbage")
    standin.client.clear()
    for fault in (Lose(seconds=2), Drop()):
        known = feed.metric("ledger_entries_total", "resynchronised")
        standin.client.inject(Refuse(seconds=2.5, status=503))
        standin.client.inject(fault)
        eventually(lambda known=known: feed.metric("ledger_entries_total", "resynchronised") > known, START_S, "began anew")
        eventually(lambda: feed.metric("waiting_symbols") == 0, START_S, "nothing waits")
        feed.publishes(5 * SYMBOLS)
    eventually(lambda: each_tells(config, lambda gap: gap.state is not IdGapState.DETECTED), START_S, "each symbol's gap is over")
    feed.end(signal.SIGKILL)
    feed = start()
    eventually(lambda: each_tells(config, is_of_the_start), START_S, "each symbol's book began anew")
    assert feed.end() == 0
    found, told = books_of(config), ledger(config)
    assert set(found) == set(config.books.symbols)
    for symbol, books in found.items():
        ids = [book.last_update_id for book in books]
        assert ids == sorted(set(ids))
        assert_as_the_market(standin, books)
        gaps = told[symbol]
        detected = [gap for gap in gaps if gap.state is IdGapState.DETECTED]
        ended = {gap.gap: gap for gap in gaps if gap.state in {IdGapState.RESYNCHRONISED, IdGapState.REFILLED}}
        assert detected
        assert {gap.gap for gap in detected} <= ended.keys()
        for gap in ended.values():
            assert not any(gap.from_id <= number < gap.to_id for number in ids)
        assert is_of_the_start(gaps[-1])
    assert all_of(config, DEAD_LETTERS)
