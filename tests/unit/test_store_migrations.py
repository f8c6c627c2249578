"""Scripts of a schema: which are still to be applied, and which can't be."""

from pathlib import Path

import pytest

from klinestream.market.errors import SchemaError
from klinestream.stores.postgres.migrating import Script, pending, scripts

FIRST, SECOND = Script(1, "0001_tables", "CREATE TABLE a ();"), Script(2, "0002_views", "CREATE VIEW b;")


def test_what_was_applied_is_not_applied_again() -> None:
    """Only scripts after the newest applied one are to be applied."""
    assert pending([FIRST, SECOND], {}) == [FIRST, SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum}) == [SECOND]
    assert pending([FIRST, SECOND], {1: FIRST.checksum, 2: SECOND.checksum}) == []


def test_a_script_that_changed_after_it_was_applied_is_refused() -> None:
    """An altered script raises SchemaError that names it."""
    with pytest.raises(SchemaError, match="0001_tables"):
        pending([FIRST, SECOND], {1: Script(1, "0001_tables", "CREATE TABLE c ();").checksum})


def test_a_database_newer_than_the_program_is_refused() -> None:
    """A schema at a version that the program doesn't know raises SchemaError that says both versions."""
    with pytest.raises(SchemaError, match="version 3, this klinestream knows up to 2"):
        pending([FIRST, SECOND], {1: FIRST.checksum, 2: SECOND.checksum, 3: "x"})


@pytest.mark.parametrize("names", [(), ("0002_b.sql",), ("0001_a.sql", "0001_b.sql"), ("0001_a.sql", "0003_c.sql")])
def test_scripts_without_a_break_are_asked_for(names: tuple[str, ...], tmp_path: Path) -> None:
    """A number that is missing or there twice raises SchemaError; other files don't count."""
    for name in (*names, "README.md"):
        (tmp_path / name).write_text("")
    if names:
        with pytest.raises(SchemaError, match="expected scripts 0001, 0002"):
            scripts(tmp_path)
    else:
        assert scripts(tmp_path) == []


def test_the_scripts_that_ship_are_without_a_break() -> None:
    """The folder of the package holds scripts 0001 and on."""
    assert [script.version for script in scripts()][:2] == [1, 2]
