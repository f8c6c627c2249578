"""Lines at the edges, in ClickHouse's own engine: from the future, from long ago, and those in which a text decides what counts."""

import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.events import Candle, CandleOrigin, PipelineEvent, Prediction
from klinestream.market.tables import BY_NAME, TABLES
from klinestream.stores.clickhouse.schema import Place
from klinestream.stores.clickhouse.script import drops, statements
from tests.clickhouse import ClickHouse, feed, made, table_rows

DAY_MS = 24 * 3600 * 1000
NOW_MS = time.time_ns() // 1_000_000 // 60_000 * 60_000


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ClickHouse]:
    started = ClickHouse(tmp_path / "clickhouse")
    started.start()
    yield started
    started.stop()


def candle(open_time_ms: int, close: int = 1, revision: int = 0, klines: int = 60) -> bytes:
    prices = (close, close, close, close, 1, 1, 0, 0)
    values = (
        "BTCUSDT",
        "1m",
        open_time_ms,
        open_time_ms + 59_999,
        *prices,
        1,
        None,
        -1,
        klines,
        klines == 60,
        CandleOrigin.BUILT,
        revision,
    )
    return encode_event(Candle(*values))


def reasons(engine: ClickHouse) -> list[str]:
    return [row["reason"] for row in engine.rows("SELECT reason FROM klinestream.dead_lines")]


def test_times_that_no_retention_fits(engine: ClickHouse, tmp_path: Path) -> None:
    """More than a day ahead is a dead line; older than the table keeps is passed over, however many months come at once."""
    made(statements([BY_NAME["candles"]]), engine)
    ahead, kept = candle(NOW_MS + 2 * DAY_MS), [candle(NOW_MS - days * DAY_MS) for days in (0, 1, 390)]
    ancient = [candle(NOW_MS - (401 + 30 * months) * DAY_MS) for months in range(300)]
    feed(engine, BY_NAME["candles"], [*ancient, ahead, *kept], tmp_path / "lines")
    assert len(table_rows(engine, BY_NAME["candles"])) == len(kept)
    assert [row["reason"] for row in engine.rows("SELECT reason FROM klinestream.dead_lines")] == [
        "t: more than a day ahead of the server's clock"
    ]


def test_the_view_shows_one_row_before_any_merge(engine: ClickHouse, tmp_path: Path) -> None:
    """Revisions that came in batches of their own, the newest first: the table still holds them all, the view the highest alone.

    Of one revision the candle of more klines.
    """
    made(statements([BY_NAME["candles"]]), engine)
    engine.run("SYSTEM STOP MERGES klinestream.candles")
    for revision in (2, 0, 1):
        feed(engine, BY_NAME["candles"], [candle(NOW_MS, close=revision + 1, revision=revision)], tmp_path / "lines")
    assert engine.rows("SELECT count() AS rows FROM klinestream.candles") == [{"rows": 3}]
    assert [row["revision"] for row in table_rows(engine, BY_NAME["candles"]).values()] == [2]
    for klines in (60, 7):
        feed(engine, BY_NAME["candles"], [candle(NOW_MS - 60_000, klines=klines)], tmp_path / "lines")
    assert sorted(row["klines"] for row in table_rows(engine, BY_NAME["candles"]).values()) == [60, 60]


def test_a_text_decides_last(engine: ClickHouse, tmp_path: Path) -> None:
    """Of events of one moment the greatest detail counts, of predictions of one revision and since the greatest inputs, merged or not."""
    tables = [BY_NAME["events"], BY_NAME["predictions"]]
    made(statements(tables), engine)
    events = [PipelineEvent("producer", "started", NOW_MS, detail) for detail in ("a", "c", "b", "")]
    model = ("BTCUSDT", "1m", NOW_MS, NOW_MS + 59_999, "m", "10m", 0.5, 0.5)
    said = (("ff", NOW_MS, 0), ("aa", NOW_MS, 1), ("bb", NOW_MS, 1), ("ee", NOW_MS + 1, 1))
    predictions = [Prediction(*model, inputs, since_ms, revision) for inputs, since_ms, revision in said]
    for event, prediction in zip(events, predictions, strict=True):
        feed(engine, tables[0], [encode_event(event)], tmp_path / "lines")
        feed(engine, tables[1], [encode_event(prediction)], tmp_path / "lines")
    for _ in range(2):
        assert [row["detail"] for row in table_rows(engine, tables[0]).values()] == ["c"]
        assert [row["inputs"] for row in table_rows(engine, tables[1]).values()] == ["bb"]
        for table in tables:
            engine.run(f"OPTIMIZE TABLE klinestream.{table.name} FINAL")


def test_what_the_page_says_of_numbers(engine: ClickHouse, tmp_path: Path) -> None:
    """An integer with a point or an exponent is taken as that integer; a bare one past 64 bits isn't taken as a float."""
    made(statements([BY_NAME["candles"], BY_NAME["indicators"]]), engine)
    line = candle(NOW_MS).replace(b'"n":1,', b'"n":1e3,').replace(b'"klines":60,', b'"klines":60.0,')
    feed(engine, BY_NAME["candles"], [line], tmp_path / "lines")
    (row,) = table_rows(engine, BY_NAME["candles"]).values()
    assert (row["trades"], row["klines"]) == (1000, 60)
    fields = {"s": "X", "i": "1m", "t": NOW_MS, "T": NOW_MS, "values": {}, "unready": [], "since": NOW_MS, "revision": 0}
    great = orjson.dumps(fields)[:-1] + b',"c":%d}' % 2**64
    feed(engine, BY_NAME["indicators"], [great], tmp_path / "lines")
    assert reasons(engine) == ["c: expected number"]


def test_all_statements_are_sql_on_a_cluster_too(engine: ClickHouse) -> None:
    """The engine's own parser takes every statement for a cluster; one server can't run them."""
    place = Place(cluster="three")
    for statement in (*statements(place=place), *drops(place=place)):
        assert "ON CLUSTER three" in engine.run("SELECT formatQuery({text:String})", "RawBLOB", text=statement.rstrip(";"))


def test_what_was_made_can_be_removed(engine: ClickHouse) -> None:
    """Made twice it is made once; after --drop nothing of it is there any more."""
    before = engine.run("SHOW DATABASES")
    for _ in range(2):
        made(statements(), engine)
    found = {row["name"] for row in engine.rows("SELECT name FROM system.tables WHERE database = 'klinestream'")}
    assert {name for table in TABLES for name in (table.name, f"{table.name}_final")} | {"dead_lines"} == found
    for statement in drops():
        engine.run(statement)
    assert engine.run("SHOW DATABASES") == before
