"""A table of `market/tables.py` as ClickHouse's SQL: where its topic is read, how a message becomes a row, where rows stay.

    klinestream_intake                                                     klinestream
    candles_topic ─read─► candles_lines ─┬─taken──────────────────────────► candles ◄── candles_final
    Kafka                 Null           └─refused (with a reason)────────► dead_lines

Delivery is at least once: the server commits offsets after all of a batch's rows are in their tables, so a batch may come again,
and again each row replaces itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from klinestream.market.tables import Column, Span, Table
from klinestream.stores.clickhouse.columns import definition, expected, parsed, quoted, text, value, wrong
from klinestream.stores.clickhouse.source import Source
from klinestream.stores.clickhouse.versions import Version, version_of

DEAD_LINES_DAYS = 30
# Klines that are further ahead the broker refuses itself, by a minute; a line from the year 2100 would outlive every retention.
AHEAD_MS = 24 * 3600 * 1000
_PARTITIONS = {Span.DAY: "toYYYYMMDD", Span.MONTH: "toYYYYMM"}
_SQL = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class Place:
    """Where tables are made: database, and the cluster whose servers each get all of them (empty for one server)."""

    database: str = "klinestream"
    cluster: str = ""

    @property
    def intake(self) -> str:
        """The database in which topics become rows."""
        return f"{self.database}_intake"

    def names(self) -> dict[str, str]:
        """What every template may name."""
        return {
            "database": quoted(self.database),
            "intake": quoted(self.intake),
            "on_cluster": f" ON CLUSTER {quoted(self.cluster)}" if self.cluster else "",
            "replicated": "Replicated" if self.cluster else "",
        }


def shared_statements(place: Place) -> Iterator[str]:
    """What all tables need: the databases, and the lines that are no records."""
    names = place.names()
    yield filled("database", names | {"name": names["database"], "purpose": "For those who read"})
    yield filled("database", names | {"name": names["intake"], "purpose": "Where topics become rows: nobody else has to look there"})
    yield filled("dead_lines", names | {"keep_days": str(DEAD_LINES_DAYS)})


def row_statements(table: Table, place: Place) -> Iterator[str]:
    """The table itself and its view: all that a reader sees."""
    version = version_of(table)
    names = place.names() | _shown(table)
    yield filled("rows", names | _kept(table, version))
    yield filled("final", names | {"identity": ", ".join(table.identity), "choice": _choice(table, version)})


def intake_statements(table: Table, place: Place, source: Source) -> Iterator[str]:
    """From the topic to the table; the Kafka table and its view come last, since messages flow as soon as they are there."""
    names = place.names() | _shown(table) | {"fields": _fields(table)}
    yield filled("lines", names)
    yield filled("taken", names | {"values": _lines(f"{value(each)} AS {quoted(each.name)}" for each in table.columns)})
    yield filled("refused", names)
    yield filled("topic", names | source.clauses(table))
    yield filled("read", names | _checks(table))


def dropping_statements(table: Table, place: Place) -> Iterator[str]:
    """Ends the intake of a table, then removes it and its rows."""
    at = place.names()
    for name in ("read", "topic", "refused", "taken", "lines"):
        yield f"DROP TABLE IF EXISTS {at['intake']}.{quoted(f'{table.name}_{name}')}{at['on_cluster']} SYNC;"
    yield f"DROP VIEW IF EXISTS {at['database']}.{quoted(f'{table.name}_final')}{at['on_cluster']};"
    yield f"DROP TABLE IF EXISTS {at['database']}.{quoted(table.name)}{at['on_cluster']} SYNC;"


def filled(name: str, values: dict[str, str]) -> str:
    """A template of `sql/` with its names filled in."""
    return _template(name).substitute(values)


@cache
def _template(name: str) -> Template:
    return Template((_SQL / f"{name}.sql").read_text().strip())


def _shown(table: Table) -> dict[str, str]:
    return {"table": table.name, "time": quoted(table.time), "keep_days": str(table.keep_days)}


def _kept(table: Table, version: Version) -> dict[str, str]:
    columns = [definition(column) for column in table.columns]
    if version.type:
        columns.append(f"`version` {version.type} MATERIALIZED {version.expression} CODEC(ZSTD(1))")
    sorting = (*table.identity, version.text) if version.text else table.identity
    return {
        "meaning": table.topic.meaning[:1].upper() + table.topic.meaning[1:],
        "columns": _lines(columns),
        "version": "(version)" if version.type else "",
        "partition": f"{_PARTITIONS[table.span]}({quoted(table.time)})",
        "sorting": ", ".join(map(quoted, sorting)),
    }


def _choice(table: Table, version: Version) -> str:
    if not version.text:
        return ""
    order = [f"{name} DESC" for name in (["version"] if version.type else []) + [quoted(version.text)]]
    identity = ", ".join(map(quoted, table.identity))
    return f" ORDER BY {', '.join(order)} LIMIT 1 BY {identity}"


def _fields(table: Table) -> str:
    return f"Tuple({', '.join(map(parsed, table.columns))})"


def _checks(table: Table) -> dict[str, str]:
    time = _column(table, table.time)
    return {
        "fields": text(_fields(table)),
        "expected": ",\n        ".join(text(expected(each)) for each in table.columns),
        "wrong": ",\n        ".join(map(wrong, table.columns)),
        "time": quoted(time.wire),
        "ahead_ms": str(AHEAD_MS),
        "ahead": text(f"{time.wire}: more than a day ahead of the server's clock"),
    }


def _column(table: Table, name: str) -> Column:
    return next(column for column in table.columns if column.name == name)


def _lines(parts: Iterator[str] | list[str]) -> str:
    return ",\n    ".join(parts)
