"""Archived records on Kafka again: as they were, and the windows job over them gives what it gave live."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from klinestream.archive import parquet
from klinestream.archive.files import Files, Span, date_of
from klinestream.market.batch import from_klines
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record, open_reader
from klinestream.stack.commands import configuration, script_of
from tests.eventually import eventually
from tests.integration.running_archive import Archive
from tests.klines import kline
from tests.stack import TestBroker, TestFlink
from tests.topics import kafka

SYMBOLS = [f"COIN{number}USDT" for number in range(6)]
SECONDS = 60
WITHIN_S = 60.0
PREFIX = "again."


def feed(start_ms: int) -> list[Kline]:
    return [
        kline(
            symbol,
            price=10**8 * (50 + (7 * second + 13 * number) % 29) + 1,
            open_time_ms=start_ms + second * SECOND_MS,
            close_time_ms=start_ms + second * SECOND_MS + 999,
        )
        for second in range(SECONDS)
        for number, symbol in enumerate(SYMBOLS)
    ]


@pytest.fixture
def replayed(broker: TestBroker, tmp_path: Path) -> tuple[Archive, list[Kline]]:
    """An archive of some klines that are days old, in two files a partition, and its klines."""
    archive = Archive(broker, tmp_path)
    start_ms = (int(time.time()) - 3 * 86_400) * SECOND_MS
    klines = feed(start_ms)
    by_partition: dict[int, list[Record]] = {}
    for each in klines:
        partition = partition_of(each.symbol, KLINES.partitions)
        held = by_partition.setdefault(partition, [])
        headers = (("published_ms", b"%d" % (each.close_time_ms + 50)), ("schema", b"1"))
        held.append(Record(KLINES.name, each.symbol.encode(), encode_kline(each), each.close_time_ms, headers, partition, len(held)))
    for partition, records in by_partition.items():
        middle = len(records) // 2
        for part in (records[:middle], records[middle:]):
            span = Span(KLINES.name, partition, part[0].offset, part[-1].offset + 1, date_of(start_ms))
            parquet.write(Files(archive.url), span, part)
    return archive, klines


@pytest.fixture
def submit(broker: TestBroker, flink: TestFlink, configured: Callable[..., Config]) -> Iterator[Callable[[], str]]:
    started: list[str] = []

    def run() -> str:
        connection = kafka(broker.bootstrap_servers).model_dump(exclude={"sasl_password"}) | {"topic_prefix": PREFIX}
        started.append(flink.submit(script_of("windows"), env=configuration(configured(kafka=connection))))
        return started[-1]

    yield run
    for job_id in started:
        flink.cancel(job_id)


def read(broker: TestBroker, topic: str, prefix: str = PREFIX) -> list[Record]:
    """All that a topic holds, as somebody sees it who has that prefix."""
    reader = open_reader(kafka(broker.bootstrap_servers).model_copy(update={"topic_prefix": prefix}), "test-replayed")
    bounds = reader.bounds(topic)
    reader.assign({(topic, partition): first for partition, (first, _) in bounds.items()})
    wanted, found = sum(end - first for first, end in bounds.values()), list[Record]()
    eventually(lambda: len(found.extend(reader.poll(0.1)) or found) >= wanted, WITHIN_S, "all is read")  # type: ignore[func-returns-value]
    reader.close()
    return found


def test_records_come_back_as_they_were_and_the_job_runs_over_them(
    broker: TestBroker, replayed: tuple[Archive, list[Kline]], submit: Callable[[], str]
) -> None:
    """Keys, values, times, headers and partitions; then the job's windows are those of the engine, on topics with the prefix alone."""
    archive, klines = replayed
    code, said = archive.ask_any("replay", "topics", "--into", PREFIX, "--from", "7d", "--topic", KLINES.name)
    assert (code, f"{len(klines):,} records" in said) == (0, True), said
    found = read(broker, KLINES.name)
    assert sorted((r.value or b"", r.timestamp_ms, r.key, r.headers) for r in found) == sorted(
        (encode_kline(k), k.close_time_ms, k.symbol.encode(), (("published_ms", b"%d" % (k.close_time_ms + 50)), ("schema", b"1")))
        for k in klines
    )
    assert all(record.partition == partition_of((record.key or b"").decode(), KLINES.partitions) for record in found)
    rows = WindowEngine(WindowSettings()).step(from_klines(klines)).windows
    right = {encode_event(window) for row in rows for window in row.events()}
    submit()
    eventually(lambda: {record.value for record in read(broker, WINDOWS.name)} == right, WITHIN_S, "the windows are the engine's")


def test_only_what_was_asked_for_and_only_onto_topics_of_its_own(broker: TestBroker, replayed: tuple[Archive, list[Kline]]) -> None:
    """From and to are times of records; a prefix that holds records already is refused, and so is what makes no sense."""
    archive, klines = replayed
    middle = klines[len(klines) // 2].close_time_ms
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(middle // 1000 + 1))
    code, said = archive.ask_any("replay", "topics", "--into", "half.", "--from", text, "--topic", KLINES.name, "--speed", "1000")
    assert code == 0, said
    later = [each for each in klines if each.close_time_ms > middle]
    assert len(read(broker, KLINES.name, "half.")) == len(later)
    for arguments, expected in (
        (("--into", "half.", "--from", "7d"), "choose another prefix"),
        (("--into", "", "--from", "7d"), "--into: expected a prefix"),
        (("--into", "new.", "--from", "7d", "--speed", "fast"), "--speed: expected a number"),
        (("--into", "new.", "--from", "1h"), "found none"),
        (("--into", "new.", "--from", "7d", "--topic", "nothing"), "--topic: expected a name"),
    ):
        code, said = archive.ask_any("replay", "topics", *arguments)
        assert (code, expected in said) == (1, True), said
