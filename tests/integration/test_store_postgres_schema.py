"""The schema of the PostgreSQL store, made by its scripts on a real server."""

from collections.abc import Iterator

import pytest

from klinestream.market.errors import SchemaError
from klinestream.market.tables import TABLES, Table
from klinestream.stores.postgres.ddl import COLLATED, TYPES
from klinestream.stores.postgres.migrating import Script, migrate, require_current, scripts
from tests.integration.running_postgres import TestPostgres, running_postgres

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, coalesce(c.collname, '')
FROM pg_attribute AS a LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
WHERE a.attrelid = '{table}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
KEY = """
SELECT a.attname FROM pg_index AS i, unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute AS a ON a.attrelid = '{table}'::regclass AND a.attnum = k.attnum
WHERE i.indrelid = '{table}'::regclass AND i.indisprimary ORDER BY k.place"""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPostgres]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def migrated(postgres: TestPostgres) -> TestPostgres:
    with postgres.connect() as connection:
        assert [script.name for script in migrate(connection, "klinestream")][:2] == ["0001_tables", "0002_views"]
    return postgres


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_migrated_table_is_as_its_definition_says(table: Table, migrated: TestPostgres) -> None:
    """After all scripts a table has the columns of the definition in order, with their types, a key of its identity, and its time."""
    wanted = [
        (
            column.name,
            TYPES[column.kind],
            column.nullable,
            "C" if column.kind in COLLATED else "default" if TYPES[column.kind] == "text[]" else "",
        )
        for column in table.columns
    ]
    assert migrated.rows(COLUMNS.format(table=table.name)) == wanted
    assert [name for (name,) in migrated.rows(KEY.format(table=table.name))] == list(table.identity)
    [[partitioned]] = migrated.rows(f"SELECT pg_get_partkeydef('{table.name}'::regclass)")
    assert partitioned.replace('"', "") == f"RANGE ({table.time})"


def test_migrating_again_changes_nothing(migrated: TestPostgres) -> None:
    """What is at the newest version stays as it is."""
    with migrated.connect() as connection:
        assert migrate(connection, "klinestream") == []
        require_current(connection, "klinestream")


def test_a_script_that_fails_leaves_nothing(postgres: TestPostgres) -> None:
    """One transaction holds all scripts: where one can't be applied, there is no schema at all, and no version."""
    broken = [*scripts(), Script(len(scripts()) + 1, "0099_broken", "CREATE TABLE halfway (); SELECT no_such_function();")]
    with postgres.connect() as connection:
        with pytest.raises(Exception, match="no_such_function"):
            migrate(connection, "broken", broken)
        assert postgres.rows("SELECT count(*) FROM pg_namespace WHERE nspname = 'broken'") == [(0,)]


def test_what_was_applied_is_held_to_its_checksum(postgres: TestPostgres) -> None:
    """An altered script, a newer database and a missing schema are SchemaErrors; the database stays as it was."""
    first, *rest = scripts()
    with postgres.connect() as connection:
        with pytest.raises(SchemaError, match="klinestream store postgres migrate"):
            require_current(connection, "other")
        migrate(connection, "other")
        with pytest.raises(SchemaError, match="0001_tables"):
            migrate(connection, "other", [Script(1, first.name, first.text + "\n"), *rest])
        with pytest.raises(SchemaError, match="knows up to 1"):
            migrate(connection, "other", [first])
    with postgres.connect("other") as connection:
        require_current(connection, "other")
