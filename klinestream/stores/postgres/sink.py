"""`klinestream store postgres`: topics into tables, each record once in effect.

    topics ─► gathered, folded ─► one transaction: rows merged, positions set ─► where the next start goes on
              half a second, or      ▲
              when it is full        └── refused? all of it is read again from where the database says

While one batch is written, by a thread of its own, the next one is gathered and folded; there are never more than these two.
Rows and positions stand or fall together, and a record that is stored again changes nothing. So kills at any moment, restarts, replays and
a second sink beside this one all come to the same tables. While the database is away nothing is read: the topics hold it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import structlog
from psycopg import errors

from klinestream.market.errors import BrokerError, StoreError
from klinestream.market.topics import PUBLISHED_HEADER
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.kafka.delivery import unknown_topic
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import told_to_end
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stores.postgres import merging, migrating, positions
from klinestream.stores.postgres.connecting import Database, asking, connect
from klinestream.stores.postgres.letters import Letters
from klinestream.stores.postgres.metrics import PostgresMetrics
from klinestream.stores.postgres.overlapping import overlapped
from klinestream.stores.postgres.partitions import Partitions
from klinestream.stores.postgres.patience import Patience, again_and_again
from klinestream.stores.postgres.positions import Found, Start
from klinestream.stores.postgres.rows import Batch, Place, Shape, batch_of

log = structlog.get_logger()

CLIENT_ID = "klinestream-store-postgres"
_CONNECT_S = 3.0
_POLL_S = 0.25
_LOOK_S = 5.0
"""How often lag, the topics' ids and the database are looked at."""
_KEEP_HOUSE_S = 600.0
_SLOW_S = 30.0
_BYTES_MOST = 64 << 20
# What a value is to be refused for, whoever tries: the record goes to the dead letters, and not the batch.
_REFUSED = (errors.DataError, errors.ProgramLimitExceeded)


def run(config: Config, from_beginning: bool = False) -> None:
    """Store until SIGTERM or SIGINT, then what has been gathered. Raises ConfigError, and SchemaError where tables are others."""
    metrics = PostgresMetrics()
    with told_to_end() as ending, ExitStack() as stack:
        sink = Sink(config, metrics, ending, from_beginning)
        own = config.postgres
        if own.metrics_port:
            stack.callback(MetricsServer(own.metrics_host, own.metrics_port, metrics.registry, sink.faults).close)
        sink.run()
    log.info("stopped")


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Records that were read and are not stored yet."""

    records: Sequence[Record]
    batch: Batch
    published_ms: int
    """When the oldest of them was published."""
    since_s: float
    """Since when they wait for the database, in seconds of the monotonic clock."""


class Sink:
    """Reads topics on from where the tables stand. Not for several threads at once."""

    def __init__(
        self,
        config: Config,
        metrics: PostgresMetrics,
        ending: threading.Event,
        from_beginning: bool = False,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Connects to nothing yet."""
        wait_s = min(_CONNECT_S, config.kafka.connect_timeout_s)
        self.config = config.model_copy(update={"kafka": config.kafka.model_copy(update={"connect_timeout_s": wait_s})})
        self.metrics, self.ending, self.now_ms = metrics, ending, now_ms
        self.from_beginning = from_beginning
        self.tables = {table.name: table for table in config.postgres.chosen}
        self.topics = [table.topic for table in config.postgres.chosen]
        self.shapes = {table.topic.name: Shape(table, config.postgres.kept_days(table)) for table in config.postgres.chosen}
        self._kafka_fault, self.database_fault = "not connected to Kafka yet", "not connected to PostgreSQL yet"
        self.kafka_patience, self.database_patience = Patience(), Patience()
        self.positions: dict[Place, int] = {}
        self.waiting: deque[_Gathered] = deque()
        """What was read and is not stored, the batch that is written first."""
        metrics.oldest.set_function(lambda: max((self.now_ms() - one.published_ms for one in tuple(self.waiting)), default=0) / 1000)

    def faults(self) -> list[str]:
        """What is wrong right now."""
        faults = [fault for fault in (self._kafka_fault, self.database_fault) if fault]
        waited_s = max((time.monotonic() - one.since_s for one in tuple(self.waiting)), default=0.0)
        if waited_s > _SLOW_S:
            faults.append(f"a batch has waited for {waited_s:.0f} s for PostgreSQL")
        return faults

    def run(self) -> None:
        """Go on until the end, whatever becomes of broker and database. Raises SchemaError."""
        again_and_again(self._with_kafka, BrokerError, self.kafka_patience, self.ending, self._kafka_trouble)

    def _with_kafka(self) -> None:
        with ExitStack() as stack:
            reader = stack.enter_context(closing(open_reader(self.config.kafka, CLIENT_ID)))
            admin = stack.enter_context(closing(TopicAdmin(self.config.kafka)))
            letters = stack.enter_context(closing(Letters(self.config.kafka, CLIENT_ID)))
            self._kafka_fault = ""

            def session() -> None:
                with asking("store"), closing(connect(self.config)) as connection:
                    _Session(self, reader, admin, letters, connection).run()

            def trouble(error: BaseException, wait_s: float) -> None:
                self._database_trouble(error, wait_s)
                self.measure_lag(admin)

            again_and_again(session, StoreError, self.database_patience, self.ending, trouble)

    def _kafka_trouble(self, error: BaseException, wait_s: float) -> None:
        self._kafka_fault = str(error)
        self.waiting.clear()  # read again; until then nothing waits for the database
        self.metrics.failures.labels("kafka").inc()
        log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=round(wait_s, 2))

    def _database_trouble(self, error: BaseException, wait_s: float) -> None:
        self.database_fault = str(error)
        if not self.waiting:
            self.waiting.append(_Gathered((), Batch(), self.now_ms(), time.monotonic()))
        self.metrics.failures.labels("database").inc()
        self.metrics.up.set(0)
        log.warning("database in trouble, trying again", reason=str(error), again_in_s=round(wait_s, 2))

    def measure_lag(self, admin: TopicAdmin) -> None:
        """How many records of each topic stand in no table yet."""
        for topic, bounds in admin.bounds(self.topics).items():
            behind = [end - self.positions.get((topic, partition), first) for partition, (first, end) in bounds.items()]
            self.metrics.lag.labels(topic).set(sum(max(0, one) for one in behind))


class _Session:
    """One life of the connections; any failure ends it, and the next one begins at the database's positions."""

    def __init__(self, sink: Sink, reader: Reader, admin: TopicAdmin, letters: Letters, connection: Database) -> None:
        self._sink, self._reader, self._admin, self._letters, self._connection = sink, reader, admin, letters, connection
        self._partitions = Partitions(connection)
        self._ids: dict[str, str] = {}
        self._next_look_s = self._next_house_s = 0.0

    def run(self) -> None:
        """Store until the end. Raises BrokerError and StoreError."""
        sink = self._sink
        own = sink.config.postgres
        if own.migrate:
            for script in migrating.migrate(self._connection, own.namespace):
                log.info("schema brought forward", script=script.name)
        else:
            migrating.require_current(self._connection, own.namespace)
        self._begin()
        sink.database_fault = ""
        sink.metrics.up.set(1)
        # What looks after the tables uses the same connection.
        overlapped(self._gather, self._store, self._look_after, sink.ending)

    def _begin(self) -> None:
        """Read on from where the database says."""
        sink, assigned, anew = self._sink, dict[Place, int](), list[str]()
        self._ids = self._admin.identities(sink.topics)
        if missing := [topic.name for topic in sink.topics if topic.name not in self._ids]:
            raise BrokerError(unknown_topic(missing[0]))
        if sink.from_beginning:
            positions.forget(self._connection, list(self._ids.values()))
            sink.from_beginning = False
        held = positions.read(self._connection)
        known = {(topic, partition) for topic, topic_id in self._ids.items() for of, partition in held if of == topic_id}
        bounds = self._admin.bounds(sink.topics)
        for topic, topic_id in self._ids.items():
            if positions.known_before(self._connection, topic, topic_id):
                anew.append(topic)
            for partition, (first, end) in bounds[topic].items():
                begin = positions.start(held.get((topic_id, partition)), first, end)
                self._tell((topic, partition), begin)
                assigned[topic, partition] = begin.offset
        # A partition that was empty so far has a position too: what is dropped of it from now on is missed.
        positions.note(self._connection, {place: offset for place, offset in assigned.items() if place not in known}, self._ids)
        for topic in anew:
            sink.metrics.anew.labels(topic).inc()
            log.warning("a topic was made anew: it is read from its first record, and rows of the old one stay", topic=topic)
        self._reader.assign(assigned)
        sink.positions = assigned
        sink.waiting.clear()  # what a failed session had read is read again
        log.info("storing", tables=len(sink.tables), partitions=len(assigned), schema=sink.config.postgres.namespace)

    def _tell(self, place: Place, begin: Start) -> None:
        """What was found where a partition goes on: counted, logged, and told to who watches the pipeline; then its position says so."""
        topic, partition = place
        if begin.found is Found.NOTHING:
            return
        log.error(begin.found.value, topic=topic, partition=partition, lost=begin.lost, goes_on_at=begin.offset)
        detail = f"{topic}, partition {partition}: {begin.found.value}; {begin.lost} lost, goes on at {begin.offset}"
        self._letters.skipped(detail, self._sink.now_ms())
        note = positions.set_back if begin.found is Found.SHORTER else positions.go_on
        note(self._connection, {(self._ids[topic], partition): begin.offset})
        self._sink.metrics.lost.labels(topic).inc(begin.lost)

    def _look_after(self) -> None:
        """Now and then: lag, topics that were made anew, partitions to come and those that are over."""
        now_s = time.monotonic()
        if now_s >= self._next_house_s:
            self._next_house_s = now_s + _KEEP_HOUSE_S
            for name, table in self._sink.tables.items():
                self._partitions.make_ahead(table, self._sink.now_ms())
                keep = self._sink.config.postgres.kept_days(table)
                self._sink.metrics.dropped.labels(name).inc(self._partitions.drop_expired(table, keep, self._sink.now_ms()))
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            self._connection.execute("SELECT 1")  # where nothing comes, nobody else would notice that it is away
            if self._admin.identities(self._sink.topics) != self._ids:
                # A client that knew the old topic may wait for it for ever: librdkafka does.
                raise BrokerError("a topic was made anew, or is gone: connecting to Kafka again")
            self._sink.measure_lag(self._admin)

    def _gather(self) -> _Gathered | None:
        """What has come, for as long as a batch is gathered; None for nothing."""
        own, sink = self._sink.config.postgres, self._sink
        records: list[Record] = []
        size, until_s = 0, 0.0
        while not sink.ending.is_set() and len(records) < own.batch_rows and size < _BYTES_MOST:
            left_s = until_s - time.monotonic() if records else _POLL_S
            if left_s <= 0:
                break
            got = self._reader.poll(min(_POLL_S, left_s))
            if got and not records:
                until_s = time.monotonic() + own.batch_s
            records += got
            size += sum(len(record.value or b"") for record in got)
            if not records:
                break
        if not records:
            if not sink.waiting:
                sink.kafka_patience.reset()
            return None
        began_s = time.monotonic()
        gathered = _Gathered(records, batch_of(records, sink.shapes, sink.now_ms()), min(map(_published_ms, records)), began_s)
        sink.waiting.append(gathered)
        return gathered

    def _store(self, gathered: _Gathered) -> None:
        """Store what was gathered."""
        sink, began_s = self._sink, time.monotonic()
        if gathered.batch.bad:
            # Before the positions: what is told twice is harmless, what is not told is not.
            self._letters.bad(gathered.batch.bad, sink.now_ms())
        self._write_usable(gathered.records, gathered.batch)
        sink.database_patience.reset()
        sink.kafka_patience.reset()  # dead letters went well too
        sink.metrics.seconds.observe(time.monotonic() - began_s)
        sink.metrics.stored.set(sink.now_ms() / 1000)
        sink.waiting.popleft()

    def _write_usable(self, records: Sequence[Record], batch: Batch) -> None:
        """Write records; where one of them is refused for what it holds, all others. What can't be folded was told before."""
        try:
            self._write(batch)
        except _REFUSED as error:
            if len(records) > 1:
                middle = len(records) // 2
                for half in (records[:middle], records[middle:]):
                    self._write_usable(half, batch_of(half, self._sink.shapes, self._sink.now_ms()))
                return
            refused = [(records[0], f"PostgreSQL: {_first_line(error)}")]
            self._letters.bad(refused, self._sink.now_ms())
            self._write(Batch(positions=batch.positions, records=batch.records, bad=refused))

    def _write(self, batch: Batch) -> None:
        sink = self._sink
        for name, rows in batch.rows.items():
            self._partitions.require(sink.tables[name], map(sink.shapes[sink.tables[name].topic.name].time, rows.values()))
        changed = merging.store(self._connection, sink.tables, batch, self._ids)
        sink.positions |= batch.positions
        sink.metrics.dead_letters.inc(len(batch.bad))
        for metric, counts in (
            (sink.metrics.records, batch.records),
            (sink.metrics.rows, changed),
            (sink.metrics.expired, batch.expired),
        ):
            for table, count in counts.items():
                metric.labels(table).inc(count)


def _published_ms(record: Record) -> int:
    for name, value in record.headers:
        if name == PUBLISHED_HEADER and value is not None and value.isdigit() and len(value) < 14:
            return int(value)
    return max(record.timestamp_ms, 1)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
