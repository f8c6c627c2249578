"""Topics as tables of a database: what holds for all of them."""

import pytest

from klinestream.market.tables import TABLES, Table


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_made_of_its_events_fields(table: Table) -> None:
    """Identity, time and rank name columns that are there, no column twice, and the time is part of the identity."""
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names))
    assert {*table.identity, table.time, *(name for name, _ in table.rank)} <= set(names)
    assert table.time in table.identity
    assert not any(column.nullable for column in table.columns if column.name in table.identity)
