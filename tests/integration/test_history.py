"""The exchange's candles, from a real stand-in with its limits on, through a real broker: fetched once, and whole."""

import base64
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest

from klinestream.market.codec import decode_event, encode_event, encode_kline
from klinestream.market.events import SECOND_MS, CandleHistory, FeedGap, GapState, HistoryReason, gap_id
from klinestream.market.history import Span, newest_closed, without
from klinestream.market.intervals import INTERVALS, MINUTE_MS, opened
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLE_HISTORY, DEAD_LETTERS, FEED_GAPS, KLINE_REPAIRS, KLINES, PUBLISHED_HEADER, SCHEMA_HEADER
from klinestream.runtime.config import Config
from klinestream.runtime.control import ControlLog
from klinestream.runtime.history_index import read_history
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from klinestream.runtime.rest import Rest
from klinestream.runtime.sections import CandlesConfig, ExchangeConfig, ProducerConfig
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.runtime.weights import Weights
from klinestream.stack.java import scripts
from klinestream.standin.faults import Refuse
from producer.history import History
from producer.history_repairs import repaired
from producer.history_since import first_klines
from producer.metrics import Metrics
from producer.outlet import Outlet
from tests.canned_rest import Answer, canned_rest, row
from tests.eventually import eventually
from tests.integration.running_producer import START_S, RunningProducer, create_topics, empty_topics
from tests.integration.running_standin import RunningStandin, market, running
from tests.klines import kline
from tests.ports import free_ports
from tests.stack import TestBroker
from tests.topics import Topic, kafka, record_of

SOON_S = 15.0
WARM_S = 60.0
SINGLES = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "DOGEUSDT")
"""One a test; the other symbols are those of the test of many."""
SYMBOLS = 50
PRODUCED = 2
"""Symbols of the test with a whole producer: the last ones."""
FEW = 20
HISTORY = 200
KLINES_PATH = "/api/v3/klines"
DAY_MS = INTERVALS["1d"]


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running(of=market(SYMBOLS + len(SINGLES) + PRODUCED)) as started:
        yield started


@pytest.fixture(scope="module")
def publisher(broker: TestBroker) -> Iterator[Publisher]:
    create_topics(broker)
    with TopicAdmin(kafka(broker.bootstrap_servers)) as admin:
        admin.create([CANDLE_HISTORY])
    empty_topics(broker)
    opened_publisher = open_publisher(kafka(broker.bootstrap_servers), "test")
    yield opened_publisher
    opened_publisher.close(10)


class Clock:
    """The time as a test says it is: first the middle of a minute that is over at the exchange."""

    def __init__(self) -> None:
        self.now_ms = opened(wall_ms(), MINUTE_MS) - 5 * MINUTE_MS - MINUTE_MS // 2

    def __call__(self) -> int:
        return self.now_ms

    @property
    def minute_ms(self) -> int:
        """Open time of the minute that it is."""
        return opened(self.now_ms, MINUTE_MS)

    def go_to(self, time_ms: int) -> None:
        """A later time."""
        assert time_ms > self.now_ms
        self.now_ms = time_ms


class Fetching:
    """A History of a stand-in's symbols, and what came of it."""

    def __init__(
        self, broker: TestBroker, rest_url: str, publisher: Publisher, *symbols: str, history: int, now_ms: Callable[[], int]
    ) -> None:
        self.metrics = Metrics()
        self.failures: SimpleQueue[Exception] = SimpleQueue()
        self.followed = list(symbols)
        config = Config(
            kafka=kafka(broker.bootstrap_servers),
            exchange=ExchangeConfig(rest_url=rest_url),
            producer=ProducerConfig(backoff_first_s=0.05, backoff_most_s=0.2),
            candles=CandlesConfig(history=history),
        )
        self.outlet = Outlet(publisher, "test", rest_url, self.metrics, wall_ms)
        self.history = History(
            config,
            lambda: list(self.followed),
            self.outlet,
            self.metrics,
            weights=Weights(6000),
            watched=frozenset,
            failures=self.failures,
            now_ms=now_ms,
        )

    def candles(self) -> float:
        """How many were published."""
        [family] = self.metrics.history.candles.collect()
        return sum(sample.value for sample in family.samples if sample.name.endswith("_total"))

    def value(self, name: str) -> float:
        """A metric."""
        return self.metrics.registry.get_sample_value(f"klinestream_producer_{name}") or 0.0


Started = Callable[..., AbstractContextManager[Fetching]]


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def stopped_clock() -> int:
    """Some seconds into the minute before this one: a time at which no candle is about to close."""
    return opened(wall_ms(), MINUTE_MS) - MINUTE_MS // 2


@pytest.fixture
def fetching(broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> Started:
    @contextmanager
    def started(*symbols: str, history: int = HISTORY, now_ms: Callable[[], int], rest_url: str = standin.http) -> Iterator[Fetching]:
        made = Fetching(broker, rest_url, publisher, *symbols, history=history, now_ms=now_ms)
        made.history.start()
        try:
            yield made
        finally:
            made.history.stop(SOON_S)
            publisher.flush(SOON_S)
            assert made.failures.empty()

    return started


@contextmanager
def topic(broker: TestBroker) -> Iterator[Topic]:
    read = Topic(broker.bootstrap_servers, CANDLE_HISTORY.name)
    try:
        yield read
    finally:
        read.close()


def missing(broker: TestBroker, symbols: list[str], at_ms: int, history: int = HISTORY) -> dict[tuple[str, str], list[Span]]:
    """What of the wanted candles is not stored, by symbol and interval."""
    index = read_history(kafka(broker.bootstrap_servers))
    found = {}
    for symbol in symbols:
        for interval, length_ms in INTERVALS.items():
            lacking = without([newest_closed(length_ms, history, at_ms)], index.spans.get((symbol, interval), []))
            if lacking:
                found[symbol, interval] = lacking
    return found


def asked(standin: RunningStandin, *statuses: int) -> int:
    """How many requests for candles the stand-in has answered so."""
    samples = next(iter(standin.exchange.metrics.requests.collect())).samples
    return sum(
        int(sample.value)
        for sample in samples
        if sample.name.endswith("_total") and sample.labels["path"] == KLINES_PATH and int(sample.labels["status"]) in statuses
    )


def test_fifty_symbols_are_warm_soon(broker: TestBroker, standin: RunningStandin, fetching: Started) -> None:
    """200 closed candles of 50 symbols in 7 intervals are stored in a minute, as the exchange gives them; a restart asks nothing."""
    symbols = [symbol for symbol in standin.exchange.market.symbols if symbol not in SINGLES][:SYMBOLS]
    at_ms = stopped_clock()
    before, began_s = asked(standin, 200), time.monotonic()
    with fetching(*symbols, now_ms=lambda: at_ms) as made:
        eventually(lambda: made.candles() >= SYMBOLS * len(INTERVALS) * HISTORY, WARM_S, "all candles")
        print(f"warm after {time.monotonic() - began_s:.1f} s")
    assert asked(standin, 200) - before == SYMBOLS * len(INTERVALS)
    assert missing(broker, symbols, at_ms) == {}
    with topic(broker) as read, Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        records = [record for record in read.read() if (record.key or b"").decode() in symbols]
        for record in records:
            history = decode_event(CandleHistory, record.value or b"")
            assert record.key == history.symbol.encode()
            assert record.partition == partition_of(history.symbol, CANDLE_HISTORY.partitions)
            assert record.timestamp_ms == history.rows[-1][6]
            assert [name for name, _ in record.headers] == [SCHEMA_HEADER, PUBLISHED_HEADER]
        chosen = next(r for r in (decode_event(CandleHistory, record.value or b"") for record in records) if r.interval == "4h")
        truth = rest.candles(chosen.symbol, "4h", chosen.rows[0][0], chosen.rows[-1][0] + 1)
        assert [list(row) for row in chosen.rows] == [row[:11] for row in truth]
    before = asked(standin, 200)
    with fetching(*symbols, now_ms=lambda: at_ms) as again:
        again.followed.append("ABSENTUSDT")
        eventually(lambda: again.value("history_needs") == len(INTERVALS), SOON_S, "the needs of one that is new")
        assert again.candles() == 0
    assert asked(standin, 200) == before


def histories(broker: TestBroker, symbol: str, interval: str) -> list[CandleHistory]:
    """What was published of one series, in order."""
    with topic(broker) as read:
        found = [decode_event(CandleHistory, record.value or b"") for record in read.read() if record.key == symbol.encode()]
    return [history for history in found if history.interval == interval]


def opens(history: CandleHistory) -> list[int]:
    return [row[0] for row in history.rows]


def test_a_symbol_that_is_added(broker: TestBroker, fetching: Started) -> None:
    """A symbol followed from now on gets its candles; one followed no longer is asked for no more."""
    first, second = SINGLES[:2]
    at_ms = stopped_clock()
    with fetching(history=FEW, now_ms=lambda: at_ms) as made:
        for symbol in (first, second):
            made.followed[:] = [symbol]
            eventually(lambda symbol=symbol: missing(broker, [symbol], at_ms, FEW) == {}, SOON_S, f"the candles of {symbol}")


def test_the_candle_in_progress_comes_when_it_has_closed(broker: TestBroker, publisher: Publisher, fetching: Started) -> None:
    """A symbol's first minute, followed in part, comes after its end; later ones only where the feed lost or corrected klines."""
    symbol, clock = SINGLES[2], Clock()
    minute_ms = clock.minute_ms
    publisher.publish(record_of(kline(symbol, open_time_ms=clock.now_ms, close_time_ms=clock.now_ms + SECOND_MS - 1)))
    publisher.flush(SOON_S)

    def minutes() -> list[tuple[HistoryReason, int]]:
        later = [(HistoryReason(one.reason), at) for one in histories(broker, symbol, "1m") for at in opens(one)]
        return [(reason, (at - minute_ms) // MINUTE_MS) for reason, at in later if at >= minute_ms]

    with fetching(symbol, history=FEW, now_ms=clock) as made:
        eventually(lambda: missing(broker, [symbol], clock(), FEW) == {}, SOON_S, "the candles before")
        assert minutes() == []
        clock.go_to(minute_ms + MINUTE_MS + 3 * SECOND_MS)
        eventually(lambda: minutes() == [(HistoryReason.START, 0)], SOON_S, "the candle that was in progress")
        made.outlet.gap(symbol, (minute_ms + 130_000, minute_ms + 131_000), GapState.DEFERRED)
        made.outlet.repair(kline(symbol, open_time_ms=minute_ms + 200_000, close_time_ms=minute_ms + 200_999))
        clock.go_to(minute_ms + 3 * MINUTE_MS + 3 * SECOND_MS)
        eventually(lambda: minutes()[1:] == [(HistoryReason.GAP, 2)], SOON_S, "the one with a gap")
        clock.go_to(minute_ms + 4 * MINUTE_MS + 3 * SECOND_MS)
        eventually(lambda: minutes()[2:] == [(HistoryReason.CORRECTION, 3)], SOON_S, "the one with a correction")
    span = minute_ms + 70_000, minute_ms + 71_000
    gap = FeedGap(gap_id(symbol, *span), symbol, GapState.UNFILLABLE, "test", *span, 0, "none", False, None, "", clock())
    publisher.publish(Record(FEED_GAPS.name, symbol.encode(), encode_event(gap), clock()))
    repair = kline(symbol, open_time_ms=clock.minute_ms, close_time_ms=clock.minute_ms + 999)
    publisher.publish(Record(KLINE_REPAIRS.name, symbol.encode(), encode_kline(repair), repair.close_time_ms))
    publisher.flush(SOON_S)
    with fetching(symbol, history=FEW, now_ms=clock):
        eventually(lambda: minutes()[3:] == [(HistoryReason.GAP, 1)], SOON_S, "what the ledger says was lost")
        clock.go_to(clock.minute_ms + MINUTE_MS + 3 * SECOND_MS)
        eventually(lambda: minutes()[4:] == [(HistoryReason.GAP, 4)], SOON_S, "what was corrected before the start, once it has closed")


def test_a_hole_is_found_and_filled(broker: TestBroker, standin: RunningStandin, publisher: Publisher, fetching: Started) -> None:
    """Candles that are missing between stored ones, or within a record, are fetched, and no others of that interval."""
    symbol, at_ms = SINGLES[3], stopped_clock()
    holes: dict[str, set[int]] = {"1m": {7, 8, 9}, "5m": {3}}
    with Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        for interval, hole in holes.items():
            wanted = newest_closed(INTERVALS[interval], FEW, at_ms)
            rows = [tuple(row[:11]) for row in rest.candles(symbol, interval, *wanted)]
            there = [row for number, row in enumerate(rows) if number not in hole]
            parts = [there] if interval == "5m" else [there[:7], there[7:]]
            for part in parts:
                value = encode_event(CandleHistory(symbol, interval, HistoryReason.START, tuple(part)))
                publisher.publish(Record(CANDLE_HISTORY.name, symbol.encode(), value, part[-1][6]))
    publisher.flush(SOON_S)
    assert set(missing(broker, [symbol], at_ms, FEW)) == {(symbol, interval) for interval in INTERVALS}
    with fetching(symbol, history=FEW, now_ms=lambda: at_ms):
        eventually(lambda: missing(broker, [symbol], at_ms, FEW) == {}, SOON_S, "whole again")
    for interval, hole in holes.items():
        begin_ms = newest_closed(INTERVALS[interval], FEW, at_ms)[0]
        filled = histories(broker, symbol, interval)[-1]
        assert opens(filled) == [begin_ms + number * INTERVALS[interval] for number in sorted(hole)]
    # A record may hold more than one run of candles only here: what the producer writes has no holes.
    assert len(histories(broker, symbol, "1m")) == 3


@pytest.mark.parametrize(("status", "symbol"), [(429, SINGLES[4]), (418, SINGLES[5])])
def test_an_exchange_that_asks_to_wait(broker: TestBroker, standin: RunningStandin, fetching: Started, status: int, symbol: str) -> None:
    """After 429 and 418 nothing is sent until Retry-After is over; then all candles come."""
    at_ms, before = stopped_clock(), asked(standin, status)
    standin.client.inject(Refuse(status=status, seconds=6))
    with fetching(symbol, history=FEW, now_ms=lambda: at_ms) as made:
        eventually(lambda: missing(broker, [symbol], at_ms, FEW) == {}, WARM_S, "all candles")
    assert 1 <= asked(standin, status) - before <= CandlesConfig().history_workers
    assert made.value("history_retries_total") == asked(standin, status) - before


def closed_since(end_ms: int) -> int:
    """How many hours have closed by now since that one: one more where an hour turns while the test runs."""
    return (newest_closed(INTERVALS["1h"], 1, wall_ms())[1] - end_ms) // INTERVALS["1h"]


def test_the_command_tells_what_is_stored(tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher) -> None:
    """`klinestream history` tells of each interval how many candles are stored, their holes, and what is missing before and since."""
    symbol, now_ms = "ANOTHERUSDT", wall_ms()
    end_ms = newest_closed(INTERVALS["1h"], 1, now_ms)[1] - INTERVALS["1h"]
    with Rest(ExchangeConfig(rest_url=standin.http)) as rest:
        rows = [tuple(row[:11]) for row in rest.candles("BTCUSDT", "1h", end_ms - 10 * INTERVALS["1h"], end_ms)]
    for part in (rows[:4], rows[6:]):
        value = encode_event(CandleHistory(symbol, "1h", HistoryReason.START, tuple(part)))
        publisher.publish(Record(CANDLE_HISTORY.name, symbol.encode(), value, part[-1][6]))
    publisher.flush(SOON_S)

    def told(*arguments: str) -> str:
        environment = {
            "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "KLINESTREAM_CANDLES__HISTORY": "20",
            "PATH": "/usr/bin:/bin",
        }
        command = [scripts() / "klinestream", "history", "--symbol", symbol.lower(), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout

    hour_ms = INTERVALS["1h"]
    [one] = map(orjson.loads, told("--interval", "1h", "--json").splitlines())
    since = one["closed_since"]
    assert 1 <= since <= closed_since(end_ms)
    assert one == {
        "s": symbol, "i": "1h", "candles": 8, "from": end_ms - 10 * hour_ms, "to": end_ms,
        "holes": [[end_ms - 6 * hour_ms, end_ms - 4 * hour_ms]], "missing_before": 10 - since, "closed_since": since,
    }  # fmt: skip  # as they belong together
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told().splitlines() if line.startswith("│")]
    assert [line[1] for line in lines] == list(INTERVALS)
    hours = [["8", "2", str(10 - more), str(more)] for more in range(1, closed_since(end_ms) + 1)]
    [hour, four] = [line[2:3] + line[5:] for line in lines if line[1] in ("1h", "4h")]
    assert hour in hours
    assert four == ["0", "0", "20", "0"]


def test_a_producer_fetches_candles_and_a_second_one_none_again(
    tmp_path: Path, broker: TestBroker, standin: RunningStandin, publisher: Publisher
) -> None:
    """A producer stores the candles of what it follows, of a symbol added while it runs too; after a restart no candle comes twice."""
    first, second = list(standin.exchange.market.symbols)[-PRODUCED:]
    assert publisher.queued() == 0

    def start() -> RunningProducer:
        config: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap_servers": broker.bootstrap_servers},
            "exchange": {"websocket_url": standin.ws, "rest_url": standin.http, "symbols": [first], "refresh_s": 1.0},
            "producer": {"metrics_port": free_ports(1)[0]},
            "candles": {"history": FEW},
        }
        return RunningProducer(tmp_path, config)

    def warm(*symbols: str) -> None:
        # A candle that closes while the test looks needs a moment, and is the feed's own afterwards.
        began_ms = wall_ms()
        eventually(lambda: missing(broker, list(symbols), began_ms, FEW) == {}, WARM_S, f"the candles of {symbols}")

    producer = start()
    try:
        warm(first)
        with ControlLog(kafka(broker.bootstrap_servers)) as control:
            control.say(second, True, "test")
            warm(first, second)
            assert producer.end() == 0
            producer = start()
            eventually(lambda: producer.metric("symbols") == 2, START_S, "both are followed again")
            eventually(
                lambda: b"candles stored" in producer.log.read_bytes().rpartition(b"producing")[2], START_S, "what is stored is read"
            )
            published = producer.metric("klines_published_total")
            eventually(lambda: producer.metric("klines_published_total") >= published + 6, SOON_S, "three seconds of both")
            control.withdraw(second)
    finally:
        producer.end(signal.SIGKILL)
    for symbol in (first, second):
        for interval in INTERVALS:
            at = [opened_ms for history in histories(broker, symbol, interval) for opened_ms in opens(history)]
            assert len(at) == len(set(at)), (symbol, interval)


def test_since_when_klines_are_there(broker: TestBroker, publisher: Publisher) -> None:
    """A symbol's first kline is found wherever in its partition it stands; one without klines has none."""
    early, late, other = [f"SINCE{number}" for number in range(40) if partition_of(f"SINCE{number}", KLINES.partitions) == 0][:3]
    for second in range(1200):
        for symbol in (early, late) if second >= 700 else (early,):
            publisher.publish(record_of(kline(symbol, second)))
    publisher.flush(SOON_S)
    found = first_klines(kafka(broker.bootstrap_servers), "test", [early, late, other], 1)
    assert found == {early: kline().open_time_ms, late: kline(second=700).open_time_ms}


def test_repairs_of_late(broker: TestBroker, publisher: Publisher) -> None:
    """Spans of repaired klines are told from a time on, however old the others are."""
    for second in (0, 1, 2, 7, 900, 901, 3):
        repair = kline("LATEUSDT", second)
        publisher.publish(Record(KLINE_REPAIRS.name, b"LATEUSDT", encode_kline(repair), repair.close_time_ms))
    publisher.flush(SOON_S)
    start_ms = kline().open_time_ms
    found = repaired(kafka(broker.bootstrap_servers), "test", start_ms + 2000)["LATEUSDT"]
    assert [((begin - start_ms) // 1000, (end - start_ms) // 1000) for begin, end in found] == [(2, 4), (7, 8), (900, 902)]


def test_a_row_that_cannot_be_used_is_a_dead_letter(broker: TestBroker, fetching: Started) -> None:
    """Of an answer with a row that contradicts itself the others are stored; the row goes to the dead letters, and is asked for again."""
    symbol, at_ms, spoilt = "BADUSDT", stopped_clock(), 3

    def answer(query: dict[str, str]) -> Answer:
        length_ms = INTERVALS[query["interval"]]
        opens = range(int(query["startTime"]), int(query["endTime"]), length_ms)
        rows = [row(at, T=at + length_ms - 1) for at in opens]
        if query["interval"] == "1m" and len(rows) > 1:
            rows[spoilt] = row(rows[spoilt][0], T=rows[spoilt][6], l="1.60000000")
        return Answer(rows)

    letters = Topic(broker.bootstrap_servers, DEAD_LETTERS.name)
    with canned_rest() as exchange:
        exchange.answer = answer
        with fetching(symbol, history=FEW, now_ms=lambda: at_ms, rest_url=exchange.url) as made:
            eventually(lambda: made.candles() == FEW * len(INTERVALS), SOON_S, "all, the one that was spoilt last")
            [letter] = eventually(lambda: [one for one in letters.values() if one["source"] == exchange.url], SOON_S, "the dead letter")
    assert letter["reason"].startswith("candle of REST: l, h")
    assert orjson.loads(base64.b64decode(letter["raw"]))[:2] == [symbol, "1m"]
    assert [len(opens(history)) for history in histories(broker, symbol, "1m")] == [spoilt, FEW - spoilt - 1, 1]
    letters.close()
