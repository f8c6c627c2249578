"""Tables beside topics, row by row: what a topic holds up to where it is stored is what the table has to hold.

    topic, from its first record to the stored position ─► copied as it is ─► the best of each identity ─► beside the table

The best record is found by sorting, not by the sink's merge. A row may be better than all that the topic has: stored
since, or from a record that the broker has dropped meanwhile; and a table goes farther back than its topic. Neither is a fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.tables import Better, Table
from klinestream.runtime.kafka import Reader
from klinestream.runtime.kafka.delivery import unknown_topic
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stores.postgres import merging, positions
from klinestream.stores.postgres.connecting import Database
from klinestream.stores.postgres.rows import Row, Shape

CLIENT_ID = "klinestream-store-postgres-verify"
_POLL_S = 0.5
_SILENT_POLLS = 20


@dataclass(slots=True)
class Compared:
    """What was found of one table."""

    records: int = 0
    unusable: int = 0
    """Records that can't be used, which stand in crypto_dead_letters."""
    due: int = 0
    """Rows that the topic gives."""
    equal: int = 0
    missing: int = 0
    different: int = 0
    newer: int = 0
    """Rows that are better than the topic's best up to the position."""
    further: int = 0
    """Rows of which the topic holds no record up to the position: stored since, or older than what it still has."""


def compared(connection: Database, reader: Reader, admin: TopicAdmin, shape: Shape, now_ms: int) -> Compared:
    """Compare one table. Raises BrokerError and StoreError."""
    found, table = Compared(), shape.table
    raw, due = f"raw_{table.name}", f"due_{table.name}"
    with connection.transaction():
        connection.execute("SET LOCAL statement_timeout = 0")
        ends = _stored(connection, admin, table)
        connection.execute(merging.staging(table, raw, ", topic_offset bigint").encode())
        merging.copy(connection, raw, _rows(reader, shape, ends, now_ms, found))
        connection.execute(f"CREATE TEMPORARY TABLE {due} ON COMMIT DROP AS {_best(table, raw)}".encode())
        row = connection.execute(_compare(table, due).encode()).fetchone()
    if row is not None:
        found.due, found.missing, found.equal, found.newer, found.different, found.further = row
    return found


def _stored(connection: Database, admin: TopicAdmin, table: Table) -> dict[int, int]:
    """Partition → up to where it is stored."""
    name = table.topic.name
    topic_id = admin.identities([table.topic]).get(name)
    if topic_id is None:
        raise BrokerError(unknown_topic(name))
    return {partition: offset for (held, partition), offset in positions.read(connection).items() if held == topic_id}


def _rows(reader: Reader, shape: Shape, ends: dict[int, int], now_ms: int, found: Compared) -> Iterator[Row]:
    """All rows that the topic gives up to `ends`, each with its offset behind it. Raises BrokerError where it stops giving them."""
    topic = shape.table.topic.name
    at = {partition: first for partition, (first, _) in reader.bounds(topic).items() if partition in ends}
    reader.assign({(topic, partition): first for partition, first in at.items()})
    kept_ms, silent = shape.first_kept_ms(now_ms), 0
    while silent < _SILENT_POLLS and any(offset < ends[partition] for partition, offset in at.items()):
        records = reader.poll(_POLL_S)
        silent = 0 if records else silent + 1
        for record in records:
            at[record.partition] = record.offset + 1
            if record.offset >= ends[record.partition]:
                continue
            found.records += 1
            try:
                row = shape.due(record.value, kept_ms, now_ms)
            except RecordError:
                found.unusable += 1
                continue
            if row is not None:
                yield (*row, record.offset)
    # A position is right behind a record that was stored, so there is one to come up to.
    if any(offset < ends[partition] for partition, offset in at.items()):
        raise BrokerError(
            f"expected {topic} up to what is stored of it, but nothing came for {_SILENT_POLLS * _POLL_S:g} s: check the broker"
        )


def _best(table: Table, raw: str) -> str:
    key = ", ".join(table.identity)
    rank = ", ".join(f"{name} {'DESC' if better is Better.GREATER else 'ASC'}" for name, better in table.rank)
    return f"SELECT DISTINCT ON ({key}) {merging.values(table)} FROM {raw} ORDER BY {key}, {rank}, topic_offset"  # noqa: S608


def _compare(table: Table, due: str) -> str:
    names = [column.name for column in table.columns]
    join = " AND ".join(f"t.{name} = d.{name}" for name in table.identity)
    there = f"t.{table.time} IS NOT NULL"
    same = f"({', '.join(f't.{name}' for name in names)}) IS NOT DISTINCT FROM ({', '.join(f'd.{name}' for name in names)})"
    newer = merging.better(table, "t", "d")
    return (
        f"SELECT count(*), count(*) FILTER (WHERE NOT {there}), count(*) FILTER (WHERE {there} AND {same}), "  # noqa: S608
        f"count(*) FILTER (WHERE {there} AND NOT {same} AND {newer}), count(*) FILTER (WHERE {there} AND NOT {same} AND NOT {newer}), "
        f"(SELECT count(*) FROM {table.name}) - count(*) FILTER (WHERE {there}) "
        f"FROM {due} AS d LEFT JOIN {table.name} AS t ON {join}"
    )
