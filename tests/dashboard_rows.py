"""Records as rows of the PostgreSQL tables, put there without the sink: each field into its column, as its kind says."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from klinestream.market.events import Kind
from klinestream.market.tables import TABLES, Table
from klinestream.stores.postgres.partitions import Partitions


def fill(connection: "Connection[Any]", records: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Copy records, by topic, into the tables of the schema in the search path; each identity once."""
    partitions = Partitions(connection)
    for table in TABLES:
        rows = [[_value(column.kind, record[column.wire]) for column in table.columns] for record in records.get(table.topic.name, ())]
        if rows:
            partitions.require(table, {record[_time_of(table)] for record in records[table.topic.name]})
            _copy(connection, table, rows)
    connection.execute("ANALYZE")


def _time_of(table: Table) -> str:
    return next(column.wire for column in table.columns if column.name == table.time)


def _copy(connection: "Connection[Any]", table: Table, rows: Iterable[list[Any]]) -> None:
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    with connection.cursor().copy(sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), names)) as copy:
        for row in rows:
            copy.write_row(row)


def _value(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind is Kind.TIME_MS:
        return datetime.fromtimestamp(value / 1000, UTC)
    if kind in (Kind.PRICE, Kind.VOLUME):
        return Decimal(value)
    return Jsonb(value) if kind is Kind.NUMBERS else value
