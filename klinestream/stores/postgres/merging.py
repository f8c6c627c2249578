"""A batch into its tables: copied beside them, then merged by one statement a table, with the positions in the same transaction.

rows ─► COPY ─► staging_windows (temporary) ─► INSERT … ON CONFLICT DO UPDATE … WHERE better ─► windows
"""

from collections.abc import Iterable, Mapping

from psycopg import sql

from klinestream.market.events import Kind
from klinestream.market.tables import Better, Column, Table
from klinestream.stores.postgres.connecting import Database
from klinestream.stores.postgres.ddl import COLLATED, TYPES
from klinestream.stores.postgres.rows import Batch, Place, Row

# What a row is copied as, and the expression that makes the column's own value of it. To make times and decimals is the database's work:
# it is several times faster at it than we are.
_COPIED = {
    Kind.TIME_MS: ("bigint", "to_timestamp({} / 1000.0)"),
    Kind.PRICE: ("numeric", "({} * 0.00000001)"),
    Kind.VOLUME: ("numeric", "({} * 0.00000001)"),
}
_POSITION = """
INSERT INTO positions AS held (topic_id, partition, topic, next_offset) VALUES (%s, %s, %s, %s)
ON CONFLICT (topic_id, partition) DO UPDATE SET next_offset = greatest(held.next_offset, excluded.next_offset), stored_time = now()"""


def staging(table: Table, name: str, further: str = "") -> str:
    """The statement that makes a temporary table for a table's rows as they are copied."""
    columns = ", ".join(f"{column.name} {_copied_type(column)}" for column in table.columns)
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({columns}{further}) ON COMMIT DELETE ROWS"


def values(table: Table) -> str:
    """The columns' own values, from the columns as they were copied."""
    return ", ".join(_COPIED.get(column.kind, ("", "{}"))[1].format(column.name) + f" AS {column.name}" for column in table.columns)


def better(table: Table, one: str, other: str) -> str:
    """The condition that one row counts more than another one of its identity.

    >>> from klinestream.market.tables import BY_NAME
    >>> better(BY_NAME["indicators"], "a", "b")
    '(a.revision > b.revision OR (a.revision = b.revision AND (a.since_time < b.since_time)))'
    """
    (name, greater), *rest = table.rank
    condition = f"{one}.{name} {'>' if greater is Better.GREATER else '<'} {other}.{name}"
    if rest:
        condition += f" OR ({one}.{name} = {other}.{name} AND {_better(table, tuple(rest), one, other)})"
    return f"({condition})"


def _better(table: Table, rank: tuple[tuple[str, Better], ...], one: str, other: str) -> str:
    return better(Table(table.name, table.topic, table.identity, table.time, rank), one, other)


def merge(table: Table) -> str:
    """The statement that merges what was copied; a row that is not better than the held one changes nothing.

    In order of identity: two that write at once take their locks in the same order.
    """
    names = [column.name for column in table.columns]
    key = ", ".join(table.identity)
    changed = ", ".join(f"{name} = excluded.{name}" for name in names if name not in table.identity)
    return (
        f"INSERT INTO {table.name} AS held ({', '.join(names)}) "  # noqa: S608  # all names are those of market/tables.py
        f"SELECT {values(table)} FROM {staging_name(table)} ORDER BY {key} "
        f"ON CONFLICT ({key}) DO UPDATE SET {changed} WHERE {better(table, 'excluded', 'held')}"
    )


def staging_name(table: Table) -> str:
    """Of the temporary table that a table's rows are copied to."""
    return f"staging_{table.name}"


def copy(connection: Database, name: str, rows: Iterable[Row]) -> None:
    """Copy rows to a temporary table."""
    with connection.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(name))) as copying:
        for row in rows:
            copying.write_row(row)


def store(connection: Database, tables: Mapping[str, Table], batch: Batch, topic_ids: Mapping[str, str]) -> dict[str, int]:
    """Write a batch, all of it or nothing; its partitions have to be there. Returns table → rows that are new or changed."""
    changed = {}
    with connection.transaction(), connection.cursor() as cursor:
        for name, rows in sorted(batch.rows.items()):  # whatever came first: two that write at once take their locks in the same order
            table = tables[name]
            cursor.execute(staging(table, staging_name(table)).encode())
            copy(connection, staging_name(table), rows.values())
            cursor.execute(merge(table).encode())
            changed[name] = cursor.rowcount
        cursor.executemany(_POSITION, [_position(place, offset, topic_ids) for place, offset in sorted(batch.positions.items())])
    return changed


def _position(place: Place, next_offset: int, topic_ids: Mapping[str, str]) -> tuple[str, int, str, int]:
    topic, partition = place
    return topic_ids[topic], partition, topic, next_offset


def _copied_type(column: Column) -> str:
    collation = ' COLLATE "C"' if column.kind in COLLATED else ""
    return _COPIED.get(column.kind, (TYPES[column.kind], ""))[0] + collation
