"""The schema of the PostgreSQL store, made by its scripts on a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg.errors import InsufficientPrivilege

from klinestream.market.errors import SchemaError
from klinestream.market.tables import BY_NAME, TABLES, Table
from klinestream.runtime.config import Config
from klinestream.stores.postgres import merging, timescale
from klinestream.stores.postgres.connecting import connect
from klinestream.stores.postgres.ddl import COLLATED, TYPES
from klinestream.stores.postgres.migrating import Script, migrate, require_current, scripts
from klinestream.stores.postgres.partitions import Partitions
from klinestream.stores.postgres.rows import Batch
from tests.integration.running_postgres import TestPostgres, running_postgres

DOCS = Path(__file__).parents[2] / "docs" / "postgres.md"
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


def test_the_queries_of_the_page_run(migrated: TestPostgres) -> None:
    """Each statement of docs/postgres.md is one that the tables answer."""
    text = DOCS.read_text().partition("<!-- queries: begin -->")[2].partition("<!-- queries: end -->")[0]
    statements = [one for one in text.partition("```sql")[2].partition("```")[0].split(";") if one.strip()]
    assert len(statements) > 5
    with migrated.connect("public") as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_the_page_tells_of_every_table(migrated: TestPostgres) -> None:
    """docs/postgres.md has a line for each table, with topic, identity, partitions and days, and one for each view."""
    page = DOCS.read_text()
    for table in TABLES:
        span = f"{table.span}s"
        kept = f"{table.keep_days} days"
        assert f"| `{table.name}` | `{table.topic.name}` | {', '.join(table.identity)} | {span} | {kept} |" in page
    views = migrated.rows("SELECT viewname FROM pg_views WHERE schemaname = 'klinestream'")
    assert views
    assert not [name for (name,) in views if f"`{name}`" not in page]


def test_a_reader_s_rights_are_those_of_the_page(migrated: TestPostgres) -> None:
    """The statements of the page give a role what it needs to read tables and views, partitions to come included, and nothing more."""
    grants = DOCS.read_text().partition("For those who only read:")[2].partition("```sql")[2].partition("```")[0]
    with migrated.connect() as connection:
        connection.execute(grants.encode())
        Partitions(connection).make_ahead(BY_NAME["windows"], 1_700_000_000_000)
        connection.execute("SET ROLE reader")
        for name in ("windows", "candle_indicators", "gap_states"):
            connection.execute(f"TABLE {name}".encode())
        with pytest.raises(InsufficientPrivilege):
            connection.execute("DELETE FROM windows")


def test_tables_are_locked_in_one_order(migrated: TestPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever table's record came first: two sinks side by side would wait for each other."""
    copied = list[str]()
    monkeypatch.setattr(merging, "copy", lambda _connection, name, _rows: copied.append(name))
    with migrated.connect() as connection:
        for names in (("windows", "candles"), ("candles", "windows")):
            merging.store(connection, BY_NAME, Batch(rows={name: {} for name in names}), {})
    assert copied[:2] == copied[2:]


def test_a_machine_that_goes_holds_no_locks_for_long(migrated: TestPostgres, configured: Callable[..., Config]) -> None:
    """The server ends a transaction whose client has gone without a word, by limits that our connections set."""
    with connect(configured(postgres=migrated.config())) as connection:
        names = ("idle_in_transaction_session_timeout", "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
        assert [connection.execute(f"SHOW {name}".encode()).fetchone() for name in names] == [("2min",), ("10",), ("5",), ("4",)]


def test_timescaledb_is_called_where_it_stands(migrated: TestPostgres) -> None:
    """Its functions stand in the extension's schema, which no search path of ours holds. Here they are stand-ins: it isn't there itself."""
    with migrated.connect("public") as connection, connection.transaction(force_rollback=True):
        for statement in (
            "SET LOCAL allow_system_table_mods = on",
            "INSERT INTO pg_extension SELECT 1, 'timescaledb', extowner, 'public'::regnamespace, true, '0' FROM pg_extension LIMIT 1",
            "CREATE TABLE made (name text)",
            "CREATE FUNCTION create_hypertable(name regclass, by name, chunk_time_interval interval) RETURNS void "
            "LANGUAGE sql BEGIN ATOMIC INSERT INTO public.made VALUES (name::text || ' by ' || by); END",
            "CREATE FUNCTION drop_chunks(name regclass, older_than timestamptz) RETURNS SETOF text "
            "LANGUAGE sql BEGIN ATOMIC SELECT name::text || older_than; END",
        ):
            connection.execute(statement.encode())
        migrate(connection, "chunked")
        made = {name.rpartition(".")[2] for (name,) in connection.execute("SELECT name FROM public.made").fetchall()}
        assert made == {f"{table.name} by {table.time}" for table in TABLES}
        assert Partitions(connection).drop_expired(BY_NAME["windows"], 7, 1_700_000_000_000) == 1


def test_scripts_for_timescaledb_differ_in_partitions_alone() -> None:
    """Each table becomes a hypertable on its time, with chunks of its span; all else stays. Not run: the extension isn't here."""
    first = scripts()[0].text
    changed = timescale.adapted(first, "extensions")
    assert "PARTITION BY" not in changed
    for table in TABLES:
        assert (
            f"SELECT extensions.create_hypertable('{table.name}', '{table.time}', chunk_time_interval => interval '1 {table.span}');"
            in changed
        )
    kept = [line for line in changed.splitlines() if "create_hypertable" not in line]
    assert kept == [");" if line.startswith(") PARTITION BY") else line for line in first.splitlines()]
