"""`klinestream archive`: topics into files, for ever, each record once.

    topics ─► pending ─► a file ─► its name ─► where the next start goes on
                          every minute, or when it is full, or at midnight UTC

A file is there as a whole or not at all, and its name says up to which offset the archive has come. So a kill at any moment costs
nothing but reading the last minute again. The first record that is read again has to be the one that was archived last: a topic
that was made anew is never taken for the one before.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

import structlog

from klinestream.archive import parquet
from klinestream.archive.compaction import Small, compact
from klinestream.archive.digest import digest
from klinestream.archive.files import Files, Span, current, date_of, day_before
from klinestream.archive.manifest import Manifests
from klinestream.archive.metrics import ArchiveMetrics
from klinestream.archive.pending import Pending, Place
from klinestream.market.errors import ArchiveError, BrokerError
from klinestream.market.topics import BY_NAME
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.sections import ArchiveConfig, KafkaConfig
from klinestream.runtime.signals import told_to_end

log = structlog.get_logger()

CLIENT_ID = "klinestream-archive"
_POLL_S = 0.5
_CONNECT_S = 3.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0
_MIB = 1 << 20
_DAYS_SWEPT = 3  # what a kill leaves is of today, or of the day before


def run(config: Config) -> None:
    """Archive until SIGTERM or SIGINT, then write what waits. Raises ArchiveError and ConfigError."""
    files, metrics = Files(config.archive.url), ArchiveMetrics()
    with told_to_end() as ending, ExitStack() as stack:
        stack.callback(files.lock().release)
        for swept in files.sweep(_DAYS_SWEPT):
            log.info("left half done by an earlier run, removed", file=swept)
        keeper = Keeper(config.archive, files, metrics)
        if config.archive.metrics_port:
            faults = lambda: [keeper.fault] if keeper.fault else []  # noqa: E731  # nowhere else of use
            server = MetricsServer(config.archive.metrics_host, config.archive.metrics_port, metrics.registry, faults)
            stack.callback(server.close)
        _keep(keeper, config.kafka, metrics, ending)
        keeper.finish()
    log.info("stopped")


def _keep(keeper: "Keeper", kafka: KafkaConfig, metrics: ArchiveMetrics, ending: threading.Event) -> None:
    """Go on until the end, whatever becomes of the broker."""
    kafka = kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, kafka.connect_timeout_s)})
    wait_s = _BACKOFF_FIRST_S
    while not ending.is_set():
        try:
            with closing(open_reader(kafka, CLIENT_ID)) as reader:
                keeper.begin(reader)
                keeper.fault, wait_s = "", _BACKOFF_FIRST_S
                while not ending.is_set():
                    keeper.round(reader)
        except BrokerError as error:
            keeper.fault = str(error)
            metrics.reconnects.inc()
            log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
            ending.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
            wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)


class Keeper:
    """Reads topics on from where their files end. Not for several threads at once."""

    def __init__(
        self,
        config: ArchiveConfig,
        files: Files,
        metrics: ArchiveMetrics,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Finds out where the files end; connects to nothing yet. Raises ArchiveError."""
        self.fault = "not connected to Kafka yet"
        self._files, self._metrics = files, metrics
        self._now_ms, self._clock_s = now_ms, clock_s
        self._topics = config.topics or tuple(BY_NAME)
        self._keep_days = config.keep_days
        self._today = ""
        self._small = Small(config.compacted_mib * _MIB, config.small_files)
        self._manifests = Manifests(files)
        newest = _newest(files, self._topics)
        self._pending = Pending(
            {place: span.end for place, span in newest.items()},
            {place: span.date for place, span in newest.items()},
            file_bytes=config.file_mib * _MIB,
            all_bytes=config.waiting_mib * _MIB,
            file_s=config.file_s,
        )
        self._archived = {place: record for place, span in newest.items() if (record := _last(files, span)) is not None}
        """The newest record in a file, by place, until the topic has been found to hold the same."""
        metrics.waiting.set_function(lambda: len(self._pending))
        metrics.waiting_bytes.set_function(lambda: self._pending.bytes)
        metrics.oldest.set_function(lambda: self._pending.oldest_s(self._clock_s()))

    def begin(self, reader: Reader) -> None:
        """Read on, over a new connection. Raises BrokerError, and ArchiveError where a topic isn't the one of the files."""
        positions: dict[Place, int] = {}
        for topic in self._topics:
            for partition, (first, end) in reader.bounds(topic).items():
                place = topic, partition
                position = self._pending.positions.get(place, first)
                if position > end:
                    raise _other_topic(place, f"it ends at offset {end}, the files at {position}")
                if position < first:
                    self._lose(place, position, first)
                    position = first
                anchor = self._archived.get(place)
                positions[place] = anchor.offset if anchor is not None and anchor.offset >= first else position
        reader.assign(positions)
        log.info("archiving", topics=len(self._topics), partitions=len(positions), to=self._files.root)

    def round(self, reader: Reader) -> None:
        """Take what came, write what is due. Raises BrokerError and ArchiveError."""
        records = reader.poll(_POLL_S)
        if self._archived:
            self._compare(records)
        now_s = self._clock_s()
        self._pending.add(records, now_s)
        today = date_of(self._now_ms())
        self._write(self._pending.due(now_s, today), today)
        if today != self._today:
            self._today = today
            for topic, date in expired(self._files, self._topics, self._keep_days, today):
                self._files.remove_day(topic, date)
                log.info("removed, older than archive.keep_days", topic=topic, date=date)

    def finish(self) -> None:
        """Write all that waits. Raises ArchiveError."""
        self._write(self._pending.rest(), date_of(self._now_ms()))

    def _write(self, due: Iterable[tuple[Span, list[Record]]], today: str) -> None:
        touched: set[tuple[str, str]] = set()
        for span, records in due:
            began_s = self._clock_s()
            content = parquet.write(self._files, span, records)
            self._manifests.add(content)
            touched.add((span.topic, span.date))
            self._count(content, self._clock_s() - began_s)
        for topic, date in sorted(touched):
            for made in compact(self._files, topic, date, self._small, today):
                self._manifests.add(made)
                self._metrics.compacted.inc()
            self._manifests.write(topic, date)

    def _count(self, content: parquet.Content, took_s: float) -> None:
        topic = content.span.topic
        self._metrics.records.labels(topic).inc(content.rows)
        self._metrics.files.labels(topic).inc()
        self._metrics.bytes.labels(topic).inc(content.bytes)
        self._metrics.write.set(took_s)

    def _lose(self, place: Place, position: int, first: int) -> None:
        self._metrics.lost.labels(place[0]).inc(first - position)
        log.error(
            "the broker dropped records before they were archived", topic=place[0], partition=place[1], from_offset=position, to=first
        )
        self._archived.pop(place, None)
        self._pending.skip(place, first)

    def _compare(self, records: Sequence[Record]) -> None:
        """The first record of a partition that files know has to be the one that they hold."""
        for record in records:
            archived = self._archived.pop((record.topic, record.partition), None)
            if archived is not None and archived.offset == record.offset and digest([archived]) != digest([record]):
                raise _other_topic((record.topic, record.partition), f"its record at offset {record.offset} is another one")


def expired(files: Files, topics: Sequence[str], keep_days: int, today: str) -> Iterator[tuple[str, str]]:
    """Days that are to be kept no longer; none that has the newest file of a partition, for that says where the next start goes on."""
    if not keep_days:
        return
    least = day_before(today, keep_days)
    for topic in topics:
        needed = {span.date for span in _newest(files, (topic,)).values()}
        yield from ((topic, date) for date in files.dates(topic) if date < least and date not in needed)


def _newest(files: Files, topics: Sequence[str]) -> Mapping[Place, Span]:
    """Place → the file that ends last; a quiet partition's may be of a day long past."""
    found: dict[Place, Span] = {}
    for topic in topics:
        partitions: dict[int, Span] = {}
        for date in reversed(files.dates(topic)):
            partitions = {span.partition: span for span in current(files.spans(topic, date))} | partitions
            if len(partitions) >= BY_NAME[topic].partitions:
                break
        found |= {(topic, partition): span for partition, span in partitions.items()}
    return found


def _last(files: Files, span: Span) -> Record | None:
    last = deque(parquet.records(files, span), maxlen=1)
    return last[0] if last else None


def _other_topic(place: Place, why: str) -> ArchiveError:
    topic, partition = place
    return ArchiveError(
        f"partition {partition} of {topic} isn't the one that the archive was made from ({why}): "
        "set archive.url to a folder of its own for this broker, or move the old one away"
    )
