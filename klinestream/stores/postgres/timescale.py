"""Where the extension TimescaleDB is installed in the database, its hypertables take the place of our own partitions.

They make and drop their chunks themselves; all else is as it is without.
"""

import re

from klinestream.market.tables import BY_NAME, Span, Table
from klinestream.stores.postgres.connecting import Database

_PARTITIONED = re.compile(r"^\) PARTITION BY RANGE \((\w+)\);", re.MULTILINE)
_CREATED = re.compile(r"^CREATE TABLE (\w+) \(", re.MULTILINE)
_CHUNKS = {Span.DAY: "1 day", Span.MONTH: "1 month"}


def schema_of(connection: Database) -> str | None:
    """The schema, quoted, that the extension's functions stand in, which is in no search path of ours; None without the extension."""
    row = connection.execute("SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    return None if row is None else str(row[0])


def adapted(script: str, functions: str) -> str:
    """A script with plain tables that become hypertables at once, in place of partitioned ones; `functions` is the extension's schema.

    >>> print(adapted("CREATE TABLE events (\\n    time timestamptz\\n) PARTITION BY RANGE (time);", "public"))
    CREATE TABLE events (
        time timestamptz
    );
    SELECT public.create_hypertable('events', 'time', chunk_time_interval => interval '1 month');
    """

    def plain(found: re.Match[str]) -> str:
        table = _CREATED.findall(script, 0, found.start())[-1]
        chunk = _CHUNKS[BY_NAME[table].span]
        return f");\nSELECT {functions}.create_hypertable('{table}', '{found[1]}', chunk_time_interval => interval '{chunk}');"

    return _PARTITIONED.sub(plain, script)


def drop_before(connection: Database, functions: str, table: Table, time_ms: int) -> int:
    """Drop chunks that lie wholly before a time; returns how many. `functions` is the extension's schema."""
    query = f"SELECT {functions}.drop_chunks(%s::regclass, older_than => to_timestamp(%s / 1000.0))"  # quoted by the database
    return len(connection.execute(query.encode(), (table.name, time_ms)).fetchall())
