"""What stands in the database: sizes of tables, and how far each topic is stored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from klinestream.market.tables import Table
from klinestream.stores.postgres.connecting import Database

# Of what the server has counted for itself: to count them all would read the whole table. A hypertable's chunks are its children too.
_SIZES = """
SELECT c.relname, greatest(s.n_live_tup, c.reltuples::bigint, 0), pg_total_relation_size(c.oid)
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
WHERE i.inhparent = %s::regclass ORDER BY c.relname"""


@dataclass(frozen=True, slots=True)
class Size:
    """One table."""

    table: str
    rows: int
    bytes: int
    partitions: tuple[str, ...]

    @property
    def ends(self) -> tuple[str, str]:
        """The first and the last partition; empty where there is none."""
        return (self.partitions[0], self.partitions[-1]) if self.partitions else ("", "")


@dataclass(frozen=True, slots=True)
class Position:
    """How far one partition of a topic is stored."""

    topic: str
    partition: int
    next_offset: int
    stored: datetime


def sizes(connection: Database, tables: Iterable[Table]) -> Iterator[Size]:
    """Each table's."""
    for table in tables:
        found = connection.execute(_SIZES, (table.name,)).fetchall()
        yield Size(table.name, sum(one[1] for one in found), sum(one[2] for one in found), tuple(one[0] for one in found))


def positions(connection: Database) -> list[Position]:
    """All that the database knows, by topic."""
    rows = connection.execute("SELECT topic, partition, next_offset, stored_time FROM positions ORDER BY topic, partition, stored_time")
    return [Position(*row) for row in rows.fetchall()]
