"""Where the extension TimescaleDB is installed in the database, its hypertables take the place of our own partitions.

They make and drop their chunks themselves; all else is as it is without.
"""

import re

from klinestream.market.tables import BY_NAME, Span, Table
from klinestream.stores.postgres.connecting import Database

_PARTITIONED = re.compile(r"^\) PARTITION BY RANGE \((\w+)\);", re.MULTILINE)
_CREATED = re.compile(r"^CREATE TABLE (\w+) \(", re.MULTILINE)
_CHUNKS = {Span.DAY: "1 day", Span.MONTH: "1 month"}


def is_installed(connection: Database) -> bool:
    """Whether this database has the extension."""
    return connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is not None


def adapted(script: str) -> str:
    """A script with plain tables that become hypertables at once, in place of partitioned ones.

    >>> print(adapted("CREATE TABLE events (\\n    time timestamptz\\n) PARTITION BY RANGE (time);"))
    CREATE TABLE events (
        time timestamptz
    );
    SELECT create_hypertable('events', 'time', chunk_time_interval => interval '1 month');
    """

    def plain(found: re.Match[str]) -> str:
        table = _CREATED.findall(script, 0, found.start())[-1]
        chunk = _CHUNKS[BY_NAME[table].span]
        return f");\nSELECT create_hypertable('{table}', '{found[1]}', chunk_time_interval => interval '{chunk}');"

    return _PARTITIONED.sub(plain, script)


def drop_before(connection: Database, table: Table, time_ms: int) -> int:
    """Drop chunks that lie wholly before a time; returns how many."""
    rows = connection.execute("SELECT drop_chunks(%s::regclass, older_than => to_timestamp(%s / 1000.0))", (table.name, time_ms)).fetchall()
    return len(rows)
