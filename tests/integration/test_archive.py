"""The archive on a real broker: killed again and again, and read by others."""

import random
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson
import polars
import pytest
from kafka import KafkaAdminClient

from klinestream.archive import parquet
from klinestream.archive.files import current
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.events import SECOND_MS, PipelineEvent
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, TOPICS
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.topic_admin import TopicAdmin
from tests.eventually import eventually
from tests.integration.running_archive import Archive
from tests.klines import kline
from tests.stack import TestBroker
from tests.topics import Topic, kafka, publish

SYMBOLS = [f"COIN{number}USDT" for number in range(20)]
SOON_S = 30.0
DOCS = Path(__file__).parents[2] / "docs" / "archive.md"


class Flow:
    """Publishes klines and events, second after second, with garbage among them, until it is stopped."""

    def __init__(self, broker: TestBroker) -> None:
        self._publisher = open_publisher(kafka(broker.bootstrap_servers), "test-archived")
        self._second = int(time.time()) - 3600
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow")
        self._thread.start()

    def stop(self) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._publisher.close(10)

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            self._second += 1
            for record in records(self._second):
                self._publisher.publish(record)
            self._publisher.flush(10)


def records(second: int) -> list[Record]:
    """All of one second: a kline of each symbol, an event, now and then garbage and a tombstone."""
    opened = second * SECOND_MS
    headers = ((SCHEMA_HEADER, b"1"), (PUBLISHED_HEADER, b"%d" % (time.time_ns() // 1_000_000)))
    found = []
    for number, symbol in enumerate(SYMBOLS):
        line = encode_kline(kline(symbol, price=10**8 * (number + second % 17 + 1), open_time_ms=opened, close_time_ms=opened + 999))
        found.append(Record(KLINES.name, symbol.encode(), line, opened + 999, headers))
    if second % 10 == 0:
        found += [Record(KLINES.name, b"garbage", b"\x00\xff no kline", opened), Record(KLINES.name, b"garbage", None, opened)]
    event = PipelineEvent("test", "started", opened, "")
    return [*found, Record(PIPELINE_EVENTS.name, b"test", encode_event(event), opened, headers)]


@pytest.fixture
def flow(module_broker: TestBroker) -> Iterator[Flow]:
    flowing = Flow(module_broker)
    yield flowing
    flowing.stop()


@pytest.fixture
def archive(module_broker: TestBroker, tmp_path: Path) -> Iterator[Archive]:
    made = Archive(module_broker, tmp_path)
    made.start()
    yield made
    made.kill()


def held(broker: TestBroker, name: str) -> dict[tuple[int, int], Record]:
    """All that a topic holds, by partition and offset."""
    topic = Topic(broker.bootstrap_servers, name)
    found = {(record.partition, record.offset): record for record in topic.read()}
    topic.close()
    return found


def archived(archive: Archive, name: str) -> list[Record]:
    spans = current(archive.files.spans(name))
    return [record for span in spans for record in parquet.records(archive.files, span)]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_a_killed_archive_loses_and_repeats_nothing(kills: int, module_broker: TestBroker, archive: Archive, flow: Flow) -> None:
    """Killed with -9 while it writes, again and again: in the end each record of the topics stands in a file, once, byte for byte."""
    chosen, before = random.Random(5), 0
    for _ in range(kills):
        eventually(lambda: archive.rows() > before, SOON_S, "further records stand in files")  # noqa: B023  # called at once
        time.sleep(chosen.uniform(0, 1))  # at any moment of writing, not at one that a condition tells of
        archive.kill()
        before = archive.rows()
        archive.start()
    flow.stop()
    wanted = {topic.name: held(module_broker, topic.name) for topic in (KLINES, PIPELINE_EVENTS)}
    whole = sum(map(len, wanted.values()))
    eventually(lambda: archive.rows() >= whole, SOON_S, "all records stand in files")
    assert archive.end() == 0
    for name, right in wanted.items():
        found = archived(archive, name)
        assert len(found) == len(right)
        for record in found:
            original = right[record.partition, record.offset]
            assert (record.key, record.value, record.timestamp_ms) == (original.key, original.value, original.timestamp_ms)
            assert record.headers == tuple(sorted(original.headers))
    code, said = archive.ask("verify", "--against-kafka")
    assert (code, f"{len(wanted[PIPELINE_EVENTS.name]):,}" in said) == (0, True), said


def test_others_read_it_as_it_is(module_broker: TestBroker, archive: Archive, flow: Flow) -> None:
    """The queries of docs/archive.md run on files that are being written, and find what is in them."""
    eventually(lambda: archive.rows() > 10 * len(SYMBOLS), SOON_S, "files are written")
    flow.stop()
    wanted = len(held(module_broker, KLINES.name)) + len(held(module_broker, PIPELINE_EVENTS.name))
    eventually(lambda: archive.rows() >= wanted, SOON_S, "all records stand in files")
    page = DOCS.read_text()
    queries = [query for query in re.findall(r"```sql\n(.*?)```", page, re.S) if "/imported/" not in query]
    assert queries
    for query in queries:
        found = duckdb.sql(query.replace(".klinestream/archive", archive.url).replace("BTCUSDT", SYMBOLS[0])).fetchall()
        assert found, query
    [code] = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, object] = {}
    exec(code.replace(".klinestream/archive", archive.url).replace("BTCUSDT", SYMBOLS[0]), names)  # noqa: S102  # the page's own example
    frame = names["klines"]
    assert isinstance(frame, polars.DataFrame)
    closes = [record for record in held(module_broker, KLINES.name).values() if record.key == SYMBOLS[0].encode()]
    right = [orjson.loads(record.value or b"")["c"] for record in sorted(closes, key=lambda each: each.timestamp_ms)]
    assert [str(close) for close in frame["close"]] == right


def test_what_is_wrong_is_told(archive: Archive, flow: Flow) -> None:
    """A file that is gone, one that was changed, a manifest that lies: each is named, and the exit code is 1."""
    eventually(lambda: all(len(archive.files.spans(name)) > 2 for name in (KLINES.name, PIPELINE_EVENTS.name)), SOON_S, "some files")
    flow.stop()
    assert archive.end() == 0
    _, second, *_ = archive.files.spans(PIPELINE_EVENTS.name)
    root = Path(archive.url)
    (root / second.path).unlink()
    spoilt = archive.files.spans(KLINES.name)[0]
    body = bytearray((root / spoilt.path).read_bytes())
    body[len(body) // 3] ^= 1
    (root / spoilt.path).write_bytes(body)
    code, said = archive.ask("verify")
    assert code == 1
    assert f"offsets {second.first} to {second.end - 1} are in no file" in said
    assert f"{spoilt.path} isn't as it was written" in said
    assert f"tells of {second.path}, which isn't there" in said


def test_a_topic_that_was_made_anew_is_not_taken_for_the_old_one(job_broker: TestBroker, tmp_path: Path) -> None:
    """The archive ends with a line that says what to do, and changes nothing."""
    archive = Archive(job_broker, tmp_path)
    archive.start()
    publish(job_broker.bootstrap_servers, records(int(time.time()) - 100))
    eventually(lambda: archive.rows() >= len(SYMBOLS) + 1, SOON_S, "all stands in files")
    assert archive.end() == 0
    before = archive.files.spans(PIPELINE_EVENTS.name)
    admin = KafkaAdminClient(bootstrap_servers=job_broker.bootstrap_servers)
    admin.delete_topics([PIPELINE_EVENTS.name])
    admin.close()

    def made_anew() -> bool:
        with TopicAdmin(kafka(job_broker.bootstrap_servers)) as topics:
            topics.create(TOPICS)
        return held(job_broker, PIPELINE_EVENTS.name) == {}

    eventually(made_anew, SOON_S, "the topic is there again, and empty")
    publish(job_broker.bootstrap_servers, records(int(time.time()) - 90))
    archive.start()
    assert archive.wait() == 1
    assert "set archive.url to a folder of its own" in archive.log.read_text()
    assert archive.files.spans(PIPELINE_EVENTS.name) == before


def test_a_second_archive_over_the_same_folder_is_refused(archive: Archive, flow: Flow) -> None:
    assert flow is not None
    eventually(lambda: archive.rows() > 0, SOON_S, "it writes")
    code, said = archive.ask()
    assert code == 1
    assert "writes to" in said


def test_small_files_become_one(archive: Archive, flow: Flow) -> None:
    """`klinestream archive compact` joins them, and nothing is lost."""
    eventually(lambda: len(archive.files.spans(PIPELINE_EVENTS.name)) > 2, SOON_S, "some files")
    flow.stop()
    assert archive.end() == 0
    before = archived(archive, KLINES.name)
    code, said = archive.ask("compact")
    assert code == 0, said
    spans = archive.files.spans(KLINES.name)
    assert len(spans) == len({(span.partition, span.date) for span in spans}), "one a partition and day"
    assert {span.partition for span in spans} == {partition_of(symbol, KLINES.partitions) for symbol in SYMBOLS}
    assert archived(archive, KLINES.name) == before
    code, said = archive.ask("verify", "--against-kafka")
    assert code == 0, said
