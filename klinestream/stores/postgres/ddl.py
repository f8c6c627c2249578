"""What a table of `market/tables.py` is in PostgreSQL: its columns' types, its key, its partitions. Pure.

The tables themselves are made by the scripts in `migrations/`; a test holds that those come to what this module says.
"""

from klinestream.market.events import Kind
from klinestream.market.tables import Column, Table

# Text is ordered by its code points, as Python orders it: what decides between two records must not depend on a locale.
TYPES = {
    Kind.TEXT: "text",
    Kind.NOTE: "text",
    Kind.TIME_MS: "timestamp with time zone",
    Kind.PRICE: "numeric(19,8)",
    Kind.VOLUME: "numeric",
    Kind.COUNT: "bigint",
    Kind.TRADE_ID: "bigint",
    Kind.NUMBER: "double precision",
    Kind.FLAG: "boolean",
    Kind.NAMES: "text[]",
    Kind.NUMBERS: "jsonb",
    Kind.ROWS: "jsonb",
    Kind.BASE64: "bytea",
}
COLLATED = (Kind.TEXT, Kind.NOTE)


def create_table(table: Table) -> str:
    """The statement that makes a table, partitioned by its time."""
    columns = ",\n".join(f"    {_column(column)}" for column in table.columns)
    key = ", ".join(table.identity)
    return f"CREATE TABLE {table.name} (\n{columns},\n    PRIMARY KEY ({key})\n) PARTITION BY RANGE ({table.time});"


def _column(column: Column) -> str:
    collation = ' COLLATE "C"' if column.kind in COLLATED else ""
    return f"{column.name} {TYPES[column.kind]}{collation}{'' if column.nullable else ' NOT NULL'}"
