"""Folding records to rows: the same table however they are split, ordered and repeated. So does the database's own merge."""

import random
import time
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.tables import TABLES, Table
from klinestream.runtime.kafka import Record
from klinestream.stores.postgres.rows import Batch, Row, Shape, batch_of
from tests.store_lines import best, line

NOW_MS = time.time_ns() // 1_000_000
SHAPES = {table.topic.name: Shape(table, 0) for table in TABLES}


def merged(held: dict[Row, Row], shape: Shape, batch: Batch) -> dict[Row, Row]:
    """What the database's merge does, in Python."""
    found = dict(held)
    for identity, row in batch.rows.get(shape.table.name, {}).items():
        if identity not in found or shape.is_better(row, found[identity]):
            found[identity] = row
    return found


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(max_examples=40)
@given(data=st.data())
def test_any_split_order_and_repetition_gives_the_same_table(table: Table, data: st.DataObject) -> None:
    """Batches cut anywhere out of any arrangement of records, some of them twice, fold to the best record of each identity."""
    shape = SHAPES[table.topic.name]
    chosen = random.Random(data.draw(st.integers(0, 2**32), label="seed"))
    lines = [line(table, chosen, NOW_MS, minutes=2) for _ in range(data.draw(st.integers(1, 30), label="lines"))]
    repeated = data.draw(st.permutations(lines + data.draw(st.lists(st.sampled_from(lines), max_size=10), label="twice")), label="order")
    records = [Record(table.topic.name, b"", orjson.dumps(one), 0, (), 0, offset) for offset, one in enumerate(repeated)]
    cuts = sorted({0, len(records), *data.draw(st.lists(st.integers(0, len(records)), max_size=5), label="cuts")})
    held: dict[Row, Row] = {}
    for begin, end in pairwise(cuts):
        held = merged(held, shape, batch_of(records[begin:end], SHAPES, NOW_MS))
    wanted = {shape.identity(row): row for row in (shape.row(orjson.dumps(one)) for one in best(table, lines).values())}
    assert held == wanted


@given(st.lists(st.one_of(st.none(), st.binary(max_size=20), st.just(b'{"s":"BTCUSDT"}')), max_size=20))
def test_every_record_is_a_row_or_a_letter(values: list[bytes | None]) -> None:
    """What is no line is among the bad ones with its reason, and the position passes it: nothing is dropped, and nothing is stuck."""
    topic = TABLES[0].topic.name
    records = [Record(topic, b"", value, 0, (), 0, offset) for offset, value in enumerate(values)]
    batch = batch_of(records, SHAPES, NOW_MS)
    assert [record.offset for record, _ in batch.bad] == list(range(len(values)))
    assert all(reason for _, reason in batch.bad)
    assert batch.positions == ({(topic, 0): len(values)} if values else {})


def test_rows_outside_of_what_a_table_keeps() -> None:
    """A row of a partition that is over is passed over and counted; one that lies days ahead is a bad line."""
    [windows] = [table for table in TABLES if table.name == "windows"]
    fields = line(windows, random.Random(1), NOW_MS)
    day_ms = 86_400_000
    shape = Shape(windows, keep_days=7)
    ends = (NOW_MS - 9 * day_ms, NOW_MS - 7 * day_ms, NOW_MS, NOW_MS + 3 * day_ms)
    lines = [orjson.dumps(fields | {"window_end": end}) for end in ends]
    batch = batch_of(
        [Record(windows.topic.name, b"", one, 0, (), 0, n) for n, one in enumerate(lines)], {windows.topic.name: shape}, NOW_MS
    )
    assert sorted(shape.time(row) for row in batch.rows["windows"].values()) == [ends[1], ends[2]]
    assert dict(batch.expired) == {"windows": 1}
    assert [(record.offset, reason) for record, reason in batch.bad] == [(3, "end_time: lies days ahead")]
