"""Partitions of time: made before rows need them, dropped whole when their days are over.

    windows   │ 27th │ 28th │ 29th │ 30th │      the 30th is made ahead; a row of an old time gets its partition on demand;
              dropped ▲ keep_days before now      there is no default partition: a row in it would never be dropped

A partition is made beside its table and then attached: readers are not held up. It is dropped when its last moment is older than the
table's days, and a row of a partition that was dropped is not stored again.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import structlog
from psycopg import errors, sql

from klinestream.market.intervals import DAY_MS
from klinestream.market.tables import Span, Table
from klinestream.stores.postgres import timescale
from klinestream.stores.postgres.connecting import Database

log = structlog.get_logger()

LOCK = 0x6B6C696E66  # whoever makes or drops partitions holds it
_FORMATS = {Span.DAY: "%Y%m%d", Span.MONTH: "%Y%m"}
_BEFORE_ALL_MS = -(2**62)


def start_ms(span: Span, time_ms: int) -> int:
    """When the partition that holds a time begins.

    >>> start_ms(Span.DAY, 1_700_000_000_000), start_ms(Span.MONTH, 1_700_000_000_000)
    (1699920000000, 1698796800000)
    """
    if span is Span.DAY:
        return time_ms - time_ms % DAY_MS
    return _ms(_date(time_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0))


def end_ms(span: Span, time_ms: int) -> int:
    """When the partition that holds a time ends, exclusive.

    >>> end_ms(Span.DAY, 1_700_000_000_000), end_ms(Span.MONTH, 1_700_000_000_000)
    (1700006400000, 1701388800000)
    """
    begin = start_ms(span, time_ms)
    return begin + DAY_MS if span is Span.DAY else start_ms(span, begin + 32 * DAY_MS)


def first_kept_ms(span: Span, keep_days: int, now_ms: int) -> int:
    """The first moment that is kept: where the oldest partition begins that is not over; with 0 days, before all times.

    >>> first_kept_ms(Span.DAY, 7, 1_700_000_000_000)
    1699315200000
    """
    return start_ms(span, now_ms - keep_days * DAY_MS) if keep_days else _BEFORE_ALL_MS


def name_of(table: Table, time_ms: int) -> str:
    """The name of the partition that holds a time."""
    return f"{table.name}_{_date(time_ms).strftime(_FORMATS[table.span])}"


class Partitions:
    """The partitions of one schema, over one connection."""

    def __init__(self, connection: Database) -> None:
        """Looks whether TimescaleDB makes them."""
        self._connection = connection
        self._timescale = timescale.schema_of(connection)
        self._known: set[str] = set()

    def require(self, table: Table, times_ms: Iterable[int]) -> None:
        """See that there are partitions for all these times."""
        if self._timescale is not None:
            return
        for begin in sorted({start_ms(table.span, time_ms) for time_ms in set(times_ms)}):
            if name_of(table, begin) not in self._known:
                self._make(table, begin)

    def make_ahead(self, table: Table, now_ms: int) -> None:
        """See that there is one for now, and the next one."""
        self.require(table, (now_ms, end_ms(table.span, now_ms)))

    def drop_expired(self, table: Table, keep_days: int, now_ms: int) -> int:
        """Drop those whose days are over; returns how many. One that somebody reads for long waits for the next time."""
        if not keep_days:
            return 0
        kept_ms = first_kept_ms(table.span, keep_days, now_ms)
        if self._timescale is not None:
            return timescale.drop_before(self._connection, self._timescale, table, kept_ms)
        dropped = 0
        for name in [name for name, begin in self.existing(table) if begin < kept_ms]:
            try:
                with self._connection.transaction():
                    self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                    self._connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
            except errors.LockNotAvailable:
                log.warning("a partition that is over is still being read, dropped later", partition=name)
                continue
            self._known.discard(name)
            dropped += 1
            log.info("dropped, older than the table keeps", partition=name)
        return dropped

    def existing(self, table: Table) -> Iterator[tuple[str, int]]:
        """Name and begin of each partition, in order of time."""
        rows = self._connection.execute(
            "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = %s::regclass ORDER BY c.relname",
            (table.name,),
        ).fetchall()
        for (name,) in rows:
            yield name, _ms(datetime.strptime(name.rpartition("_")[2], _FORMATS[table.span]).replace(tzinfo=UTC))

    def _make(self, table: Table, begin: int) -> None:
        name, parent = sql.Identifier(name_of(table, begin)), sql.Identifier(table.name)
        bounds = (sql.Literal(_date(time_ms)) for time_ms in (begin, end_ms(table.span, begin)))
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            there = self._connection.execute("SELECT to_regclass(%s)", (name_of(table, begin),)).fetchone()
            if there is None or there[0] is None:
                self._connection.execute(
                    sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)").format(name, parent)
                )
                self._connection.execute(
                    sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(parent, name, *bounds)
                )
        self._known.add(name_of(table, begin))


def _date(time_ms: int) -> datetime:
    # By whole milliseconds: a float of seconds would round.
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)


def _ms(date: datetime) -> int:
    return (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
