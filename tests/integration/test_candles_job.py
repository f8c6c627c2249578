"""The candles job on a real broker and a real Flink cluster: what comes out equals the engine's own, through kills and garbage."""

import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import orjson
import pytest

from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine
from klinestream.market.candle_history import HistoryTable, table_of
from klinestream.market.events import SECOND_MS, CandleOrigin, HistoryReason, Kline
from klinestream.market.intervals import HOUR_MS, INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import AGGREGATES, CANDLE_HISTORY, CANDLES, DEAD_LETTERS, INDICATORS, PROVISIONAL_CANDLES, SIGNALS
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.studies import candle_settings
from klinestream.stack.commands import configuration, script_of
from tests.candles import Identity, keep, lines_of, rows
from tests.eventually import eventually
from tests.klines import kline
from tests.stack import TestBroker, TestFlink
from tests.topics import Topic, kafka, publish, record_of

WITHIN_S = 120.0
# Of one partition: the engine steps both at once, which takes half the time.
SYMBOLS = tuple(islice((name for n in count() if partition_of(name := f"COIN{n}USDT", CANDLE_HISTORY.partitions) == 0), 2))
HOURLY = ("1m", "5m", "15m", "30m", "1h")
OVER_S = 70
PAST_S = 2 * 3600
TOPICS = (CANDLES, INDICATORS, SIGNALS, AGGREGATES)


@pytest.fixture
def in_progress() -> bool:
    """Whether candles in progress are published: a record a kline."""
    return True


@pytest.fixture
def candles(configured: Callable[..., Config], job_broker: TestBroker, in_progress: bool) -> Config:
    """The job's configuration: few candles of history, and rules that fire often."""
    return configured(
        kafka=kafka(job_broker.bootstrap_servers).model_dump(exclude={"sasl_password"}),
        candles={"history": 20, "provisional": in_progress},
        signals={"rsi_low": 49.0, "rsi_high": 51.0, "hysteresis": 0.5},
    )


@pytest.fixture
def submit(candles: Config, flink: TestFlink) -> Iterator[Callable[[], str]]:
    """`submit()`: the job's id; what still runs is cancelled afterwards."""
    started: list[str] = []

    def run() -> str:
        started.append(flink.submit(script_of("candles"), env=configuration(candles)))
        return started[-1]

    yield run
    for job in flink.cluster.jobs():
        if job.id in started and not job.ended:
            flink.cancel(job.id)


def series(symbol: str, seconds: range, start_ms: int) -> list[Kline]:
    """A kline each second; prices that move."""
    number = SYMBOLS.index(symbol)
    return [
        kline(
            symbol,
            price=10**8 * (500 + (7 * second // 60 + 13 * number) % 29) + 10**6 * (second * second % 97),
            open_time_ms=start_ms + second * SECOND_MS,
            close_time_ms=start_ms + second * SECOND_MS + 999,
            base_volume=10**7 * ((second + number) % 17),
        )
        for second in seconds
    ]


def history(symbol: str, interval: str, start_ms: int, revision: int) -> tuple[HistoryTable, Record]:
    """The whole candles of the hours before `start_ms`, as the producer publishes them and as the engine takes them."""
    found = rows(series(symbol, range(-PAST_S, 0), start_ms), INTERVALS[interval])
    last = int(str(found[-1][6]))
    value = orjson.dumps({"s": symbol, "i": interval, "reason": HistoryReason.START, "rows": found})
    table = HistoryTable(symbol, interval, HistoryReason.START, table_of(found, INTERVALS[interval]), revision)
    return table, Record(CANDLE_HISTORY.name, symbol.encode(), value, last)


def collected(topics: list[Topic]) -> dict[Identity, bytes]:
    """All records so far by identity; fails where one has two values."""
    found: dict[Identity, bytes] = {}
    for topic, read in zip(TOPICS, topics, strict=True):
        for record in read.read():
            keep(found, topic.name, record.value or b"")
    return found


def expected(settings: Config, tables: list[HistoryTable], feed: list[Kline]) -> dict[Identity, bytes]:
    """What the engine makes of it in one go."""
    engine = CandleEngine(candle_settings(settings))
    found: dict[Identity, bytes] = {}
    for step in (engine.take(tables), engine.step(from_klines(feed))):
        for topic, lines in lines_of(engine, step).items():
            for line in lines:
                keep(found, topic, line.split("\t")[2].encode())
    return found


def through_a_kill(broker: TestBroker, flink: TestFlink, settings: Config, submit: Callable[[], str], longest: str) -> list[dict[str, Any]]:
    """History, the klines of one candle of the longest interval and a little more, the TaskManager killed between.

    Candles and all that follows from them have to be the engine's, bit for bit. Returns the candles that were built.
    """
    length_ms = INTERVALS[longest]
    start = (time.time_ns() // 1_000_000 - 5 * 60_000) // length_ms * length_ms - length_ms
    tables, records, offsets = [], [], dict.fromkeys(range(CANDLE_HISTORY.partitions), 0)
    for symbol in SYMBOLS:
        shard = partition_of(symbol, CANDLE_HISTORY.partitions)
        for interval in HOURLY:
            offsets[shard] += 1
            table, record = history(symbol, interval, start, offsets[shard])
            tables.append(table)
            records.append(record)
    publish(broker.bootstrap_servers, records)
    seconds = range(length_ms // SECOND_MS + OVER_S)
    feed = [each for pair in zip(*(series(s, seconds, start) for s in SYMBOLS), strict=True) for each in pair]
    middle = len(feed) // 2 + 61  # in the middle of a candle of each interval
    publish(broker.bootstrap_servers, map(record_of, feed[:middle]))
    job = submit()
    topics = [Topic(broker.bootstrap_servers, topic.name) for topic in TOPICS]
    minutes = middle // len(SYMBOLS) // 60 * len(SYMBOLS)
    eventually(lambda: _built(topics[0].values(), "1m") >= minutes, WITHIN_S, "the first half is through")
    eventually(lambda: flink.cluster.checkpoints_completed(job) > 0, WITHIN_S, "a checkpoint completes")
    publish(broker.bootstrap_servers, map(record_of, feed[middle:]))
    flink.kill_task_manager()
    flink.start_task_manager()

    right = expected(settings, tables, feed)

    def all_there() -> bool:
        assert sorted(right.keys() - collected(topics).keys(), key=str) == []
        return True

    eventually(all_there, WITHIN_S, "all records are there")
    found = collected(topics)
    assert {key: found[key] for key in right} == right
    # Until their history had come, values of the live run alone were published: never ready, and outranked since.
    assert {key[4] for key in found.keys() - right.keys()} <= {start}
    assert any(key[0] == SIGNALS.name for key in right)
    for topic in topics:
        topic.close()
    return [orjson.loads(value) for key, value in right.items() if key[0] == CANDLES.name and key[-1] == 0]


def _built(candles: list[dict[str, Any]], interval: str) -> int:
    return sum(candle["i"] == interval and candle["origin"] == CandleOrigin.BUILT for candle in candles)


def test_a_kill_in_the_middle_of_every_candle_changes_no_value(
    job_broker: TestBroker, flink: TestFlink, candles: Config, submit: Callable[[], str]
) -> None:
    """History, an hour of klines, the TaskManager killed between: candles and all that follows from them are the engine's, bit for bit."""
    built = through_a_kill(job_broker, flink, candles, submit, "1h")
    assert {candle["i"] for candle in built if candle["complete"]} == set(HOURLY)
    provisional = Topic(job_broker.bootstrap_servers, PROVISIONAL_CANDLES.name)
    eventually(provisional.read, WITHIN_S, "candles in progress are there")
    newest = orjson.loads(provisional.records[-1].value or b"")
    assert newest["candles"].keys() == INTERVALS.keys()
    provisional.close()


@pytest.mark.soak
@pytest.mark.parametrize("in_progress", [False])
def test_a_kill_in_the_middle_of_a_day_changes_no_value(
    job_broker: TestBroker, flink: TestFlink, candles: Config, submit: Callable[[], str]
) -> None:
    """The same with the whole day before midnight: of every interval a candle that was killed in its middle is whole, and right."""
    built = through_a_kill(job_broker, flink, candles, submit, "1d")
    assert {candle["i"] for candle in built if candle["complete"]} == INTERVALS.keys()


def test_history_that_cannot_be_used_is_a_dead_letter(job_broker: TestBroker, submit: Callable[[], str]) -> None:
    """Garbage on the topic of history goes to the dead letters with its reason, and the candles beside it come through."""
    start = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS
    _, good = history(SYMBOLS[0], "5m", start, 1)
    record = orjson.loads(good.value or b"")
    hole = record | {"rows": [*record["rows"][:3], *record["rows"][4:]]}
    short = record | {"rows": [row[:7] for row in record["rows"]]}
    bad = [
        (b"\x00 garbage", "not JSON"),
        (orjson.dumps(record | {"i": "2m"}), "i: expected 1m"),
        (orjson.dumps(record | {"reason": "boredom"}), "reason: expected start"),
        (orjson.dumps(hole), "t: expected candles of the interval"),
        (orjson.dumps(short), "rows: expected one or more"),
        (orjson.dumps(record | {"rows": []}), "rows: expected one or more"),
    ]
    publish(job_broker.bootstrap_servers, [*(Record(CANDLE_HISTORY.name, good.key, line, good.timestamp_ms) for line, _ in bad), good])
    submit()
    dead, out = Topic(job_broker.bootstrap_servers, DEAD_LETTERS.name), Topic(job_broker.bootstrap_servers, CANDLES.name)
    eventually(lambda: len(out.read()) >= len(record["rows"]), WITHIN_S, "the good candles come through")
    eventually(lambda: len(dead.read()) >= len(bad), WITHIN_S, "the dead letters are there")
    reasons = [letter["reason"] for letter in dead.values()]
    assert len(reasons) == len(bad)
    for _, wanted in bad:
        assert any(reason.startswith(wanted) for reason in reasons), (wanted, reasons)
    assert [candle["revision"] for candle in out.values()] == [len(bad) + 1] * len(record["rows"])
    dead.close()
    out.close()
