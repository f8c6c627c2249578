"""The schema's scripts, applied in order, each once.

    migrations/0001_tables.sql ─┐  under a lock, in one transaction   ┌─► tables, views
    migrations/0002_views.sql  ─┴────────────────────────────────────►┴─► schema_migrations: version, name, checksum

A script that was applied never changes: what it made is out in the world. So one that differs from what was applied is an error, and
so is a database that knows more than this program.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from klinestream.market.errors import SchemaError
from klinestream.stores.postgres import timescale
from klinestream.stores.postgres.connecting import Database

SCRIPTS = Path(__file__).parent / "migrations"
_NAME = re.compile(r"(\d{4})_\w+\.sql")
LOCK = 0x6B6C696E65  # any number of our own: whoever changes a klinestream schema holds it
_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_time timestamp with time zone NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True)
class Script:
    """One step of the schema."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def scripts(folder: Path = SCRIPTS) -> list[Script]:
    """All scripts in order. Raises SchemaError where a number is missing or there twice."""
    found = [Script(int(name[1]), path.stem, path.read_text()) for path in sorted(folder.iterdir()) if (name := _NAME.fullmatch(path.name))]
    if [script.version for script in found] != list(range(1, len(found) + 1)):
        raise SchemaError(f"expected scripts 0001, 0002, … in {folder}, got {', '.join(script.name for script in found) or 'none'}")
    return found


def pending(known: Sequence[Script], applied: Mapping[int, str]) -> list[Script]:
    """Scripts that are still to be applied; `applied` is version → checksum. Raises SchemaError. Pure."""
    newest = max(applied, default=0)
    if newest > len(known):
        raise SchemaError(
            f"the schema is at version {newest}, this klinestream knows up to {len(known)}: a newer one has been here; install that"
        )
    for script in known[:newest]:
        if applied.get(script.version) != script.checksum:
            raise SchemaError(
                f"expected {script.name} as it was applied, but the script has changed since: install klinestream again; "
                "a change of the schema is a new script"
            )
    return list(known[newest:])


def migrate(connection: Database, schema: str, known: Sequence[Script] | None = None) -> list[Script]:
    """Bring a schema up to date, and make it if there is none; returns what was applied. Raises SchemaError."""
    known = scripts() if known is None else known
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if not exists(connection, schema):  # asked, since CREATE … IF NOT EXISTS needs the right to create even then
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        connection.execute("SELECT set_config('search_path', %s, true)", (schema,))
        if not is_migrated(connection, schema):
            connection.execute(_LEDGER)
        todo = pending(known, applied(connection))
        functions = timescale.schema_of(connection)
        for script in todo:
            connection.execute((timescale.adapted(script.text, functions) if functions else script.text).encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                (script.version, script.name, script.checksum),
            )
    return todo


def require_current(connection: Database, schema: str) -> None:
    """Raise SchemaError unless the schema is there and at this program's version."""
    todo = scripts() if not is_migrated(connection, schema) else pending(scripts(), applied(connection))
    if todo:
        raise SchemaError(f"schema {schema} lacks {', '.join(script.name for script in todo)}: run `klinestream store postgres migrate`")


def exists(connection: Database, schema: str) -> bool:
    """Whether there is such a schema."""
    return _one(connection, "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL", schema)


def is_migrated(connection: Database, schema: str) -> bool:
    """Whether any script was applied to it."""
    return _one(connection, "SELECT to_regclass(quote_ident(%s) || '.schema_migrations') IS NOT NULL", schema)


def applied(connection: Database) -> dict[int, str]:
    """Version → checksum of what was applied to the schema in the search path."""
    rows = connection.execute("SELECT version, checksum FROM schema_migrations").fetchall()
    return dict(rows)


def _one(connection: Database, query: str, name: str) -> bool:
    row = connection.execute(query.encode(), (name,)).fetchone()
    return bool(row and row[0])
