"""Records as rows of the PostgreSQL tables, put there without the sink: each field into its column, as its kind says."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from klinestream.market.events import Kind
from klinestream.market.tables import TABLES, Span, Table


def fill(connection: "Connection[Any]", records: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Copy records, by topic, into the tables of the schema in the search path; each identity once."""
    for table in TABLES:
        rows = [[_value(column.kind, record[column.wire]) for column in table.columns] for record in records.get(table.topic.name, ())]
        if rows:
            place = [column.name for column in table.columns].index(table.time)
            partition(connection, table, {row[place] for row in rows})
            _copy(connection, table, rows)
    connection.execute("ANALYZE")


def partition(connection: "Connection[Any]", table: Table, times: Iterable[datetime]) -> None:
    """Make the partitions that hold these times."""
    for since in sorted({_begin(table, time) for time in times}):
        name = f"{table.name}_{since:%Y%m%d}"
        statement = "CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})"
        bounds = map(sql.Literal, (since, _end(table, since)))
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(table.name), *bounds))


def _begin(table: Table, time: datetime) -> datetime:
    day = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if table.span is Span.DAY else day.replace(day=1)


def _end(table: Table, since: datetime) -> datetime:
    return since + timedelta(days=1) if table.span is Span.DAY else (since + timedelta(days=32)).replace(day=1)


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
