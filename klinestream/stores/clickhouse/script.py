"""The whole SQL for a server: made once, and safe to run again, since it makes only what is missing."""

from collections.abc import Iterator, Sequence

from klinestream.market.tables import TABLES, Table
from klinestream.stores.clickhouse.columns import quoted
from klinestream.stores.clickhouse.schema import (
    Place,
    dropping_statements,
    intake_statements,
    row_statements,
    shared_statements,
)
from klinestream.stores.clickhouse.source import Source

HERE = Place()
CONFIGURED = Source()
_HEAD = "-- Made from klinestream/market/tables.py by `klinestream store clickhouse`: change it there, not here."


def statements(tables: Sequence[Table] = TABLES, place: Place = HERE, source: Source = CONFIGURED) -> Iterator[str]:
    """Each statement that makes the tables and begins to fill them, in order."""
    yield from shared_statements(place)
    for table in tables:
        yield from row_statements(table, place)
        yield from intake_statements(table, place, source)


def drops(tables: Sequence[Table] = TABLES, place: Place = HERE) -> Iterator[str]:
    """Each statement that removes the tables and their rows; of all tables, the databases with the dead lines too."""
    for table in tables:
        yield from dropping_statements(table, place)
    if set(tables) >= set(TABLES):
        for database in (place.intake, place.database):
            yield f"DROP DATABASE IF EXISTS {quoted(database)}{place.names()['on_cluster']} SYNC;"


def script(parts: Iterator[str]) -> str:
    """Statements as one file."""
    return "\n\n".join([_HEAD, *parts]) + "\n"
