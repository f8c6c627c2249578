"""`klinestream replay graph` on an archive in memory: which candles count, what is written, and that it is what the server says."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import orjson
import polars as pl
import pytest
from typer.testing import CliRunner

from klinestream.archive import parquet
from klinestream.archive.files import Files, Span, date_of
from klinestream.cli.main import app
from klinestream.market.correlations import Rule
from klinestream.market.errors import ArchiveError, ConfigError
from klinestream.market.intervals import DAY_MS, INTERVALS, MINUTE_MS
from klinestream.market.topics import CANDLES
from klinestream.replay import archived_closes, graph
from klinestream.replay.graph import EDGES, NODES, Wanted, moments_of, write
from klinestream.runtime.kafka import Record
from server.candles.rows import decode_candles
from server.candles.store import CandleStore
from server.rest.correlation_table import Window, edge_table, graph_of, node_columns
from tests import feature_rows
from tests.unit.test_server_market import candle

NAMES = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
MIDNIGHT_MS = 1_790_000_000_000 // DAY_MS * DAY_MS
END_MS = MIDNIGHT_MS + 30 * MINUTE_MS
CANDLES_THERE = 120
GARBAGE = b"{"
WANTED = Wanted("1m", 60, [END_MS], rule=Rule(0.2, 3))


@pytest.fixture
def archive() -> Files:
    """Two hours of four symbols, which pass midnight, in a file a day and partition."""
    files = Files(f"memory://{uuid4()}")
    values = [value for name in NAMES for value in series(name)]
    for first, date in ((0, date_of(MIDNIGHT_MS - 1)), (1000, date_of(MIDNIGHT_MS))):
        of_day = [value for value in values if date_of(orjson.loads(value)["T"]) == date]
        put(files, of_day[::2], date, 0, first)
        put(files, of_day[1::2], date, 1, first)
    return files


def series(name: str) -> list[bytes]:
    """Prices that share a walk with those of the others, as far as their names' places are even."""
    place = NAMES.index(name)
    rng = np.random.default_rng(place)
    common = np.random.default_rng(99).normal(0, 0.004, CANDLES_THERE)
    walk = 37.123 * np.exp((rng.normal(0, 0.003, CANDLES_THERE) + (place % 2 == 0) * common).cumsum())
    opens = range(END_MS - CANDLES_THERE * MINUTE_MS, END_MS, MINUTE_MS)
    return [one(name, opened_ms, price) for opened_ms, price in zip(opens, walk, strict=True)]


def one(name: str, opened_ms: int, price: float, interval: str = "1m", **fields: object) -> bytes:
    return candle(opened_ms, interval, name, **dict.fromkeys("ohlc", f"{price:.8f}"), **fields)


def put(files: Files, values: Sequence[bytes | None], date: str, partition: int, first: int = 0) -> None:
    span = Span(CANDLES.name, partition, first, first + len(values), date)
    times = [END_MS if value in (None, GARBAGE) else orjson.loads(value or b"")["T"] for value in values]
    records = [
        Record(CANDLES.name, b"k", value, time_ms, (), partition, first + n)
        for n, (value, time_ms) in enumerate(zip(values, times, strict=True))
    ]
    parquet.write(files, span, records)


def tables(out: Files) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All nodes and all edges."""
    dates = [path.rpartition("date=")[2] for path in sorted(out.system.glob(out.path("date=*")))]
    nodes, edges = ([pl.read_parquet(out.read(f"date={date}/{name}") or b"") for date in dates] for name in (NODES, EDGES))
    return pl.concat(nodes), pl.concat(edges)


def made(archive: Files, wanted: Wanted = WANTED) -> tuple[pl.DataFrame, pl.DataFrame]:
    out = Files(f"memory://{uuid4()}")
    list(write(archive, out, wanted))
    return tables(out)


def test_an_archived_graph_is_the_one_that_the_server_answers_with(archive: Files) -> None:
    """Every number of nodes and edges to the last bit: the same candles by way of the store and by way of Parquet."""
    store = CandleStore(500)
    found = decode_candles([value for name in NAMES for value in series(name)], END_MS)
    store.candles.put(found.series, found.rows)
    end_ms, live = graph_of(NAMES, store, Window("1m", 60), WANTED.rule)
    nodes, edges = made(archive)
    assert end_ms == END_MS
    assert nodes.drop("time_ms").to_dict(as_series=False) == {name: node_columns(live)[name] for name in nodes.columns[1:]}
    assert edges.drop("time_ms").to_dict(as_series=False) == {name: list(edge_table(live).columns[name]) for name in edges.columns[1:]}
    assert len(edges) >= 1
    assert set(nodes["time_ms"]) == {END_MS}


def test_the_graph_of_features_is_that_of_the_same_candles(archive: Files, tmp_path: Path) -> None:
    """From a folder of features to the last bit what comes from the archive; a folder whose candles changed is written anew."""
    values = [orjson.loads(value) for name in NAMES for value in series(name)]
    rows = pl.DataFrame(
        {
            **{"symbol": [value["s"] for value in values], "interval": "1m", "open_time_ms": [value["t"] for value in values]},
            **{"close": [float(value["c"]) for value in values], "complete": True, "revision": 0},
        }
    )
    feature_rows.write(tmp_path / "features", rows)
    out = Files(f"memory://{uuid4()}")
    assert [day.kept for day in write(tmp_path / "features", out, WANTED)] == [False]
    assert [each.equals(other) for each, other in zip(tables(out), made(archive), strict=True)] == [True, True]
    assert [day.kept for day in write(tmp_path / "features", out, WANTED)] == [True]
    feature_rows.write(tmp_path / "other", rows.with_columns(close=pl.col("close").reverse()))
    assert [day.kept for day in write(tmp_path / "other", out, WANTED)] == [False]
    fewer = made(archive, replace(WANTED, symbols=NAMES[:2]))[0]
    out = Files(f"memory://{uuid4()}")
    list(write(tmp_path / "features", out, replace(WANTED, symbols=NAMES[:2])))
    assert tables(out)[0].equals(fewer)


def test_the_highest_revision_of_whole_candles_counts(archive: Files) -> None:
    """In whatever file it stands, that of a later day too; incomplete ones, other intervals, garbage and tombstones don't count."""
    before = made(archive)
    at = END_MS - 10 * MINUTE_MS
    nothing = [
        one("BTCUSDT", at, 9000.0, complete=False, revision=9),
        one("BTCUSDT", MIDNIGHT_MS - INTERVALS["5m"], 9000.0, "5m", revision=9),
        GARBAGE,
        None,
    ]
    put(archive, nothing, date_of(MIDNIGHT_MS), 2)
    assert [each.equals(other) for each, other in zip(made(archive), before, strict=True)] == [True, True]
    put(archive, [one("BTCUSDT", at, 9000.0, revision=5), one("BTCUSDT", at, 1.0, revision=4)], date_of(MIDNIGHT_MS + DAY_MS), 2, 4)
    after = made(archive)[0].filter(pl.col("symbol") == "BTCUSDT")
    assert after["volatility"][0] > 0.5


def test_symbols_and_moments_are_those_asked_for(archive: Files) -> None:
    """A day a folder, a graph a moment; each is what it is when asked for alone."""
    moments = moments_of("1m", MIDNIGHT_MS - 20 * MINUTE_MS, END_MS, 10 * MINUTE_MS)
    wanted = replace(WANTED, moments=moments, symbols=("BTCUSDT", "SOLUSDT"))
    out = Files(f"memory://{uuid4()}")
    days = list(write(archive, out, wanted))
    assert [(day.date, day.graphs, day.symbols) for day in days] == [(date_of(MIDNIGHT_MS - 1), 2, 2), (date_of(MIDNIGHT_MS), 4, 2)]
    nodes, edges = tables(out)
    assert sorted(set(nodes["time_ms"])) == moments
    for moment in moments:
        alone = made(archive, replace(wanted, moments=[moment]))
        assert nodes.filter(pl.col("time_ms") == moment).equals(alone[0])
        assert edges.filter(pl.col("time_ms") == moment).equals(alone[1])


@pytest.mark.parametrize("at_once", [1, 80, 10_000])
def test_how_many_candles_are_held_at_once_does_not_matter(archive: Files, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Days by themselves or together: the same rows."""
    wanted = replace(WANTED, moments=moments_of("1m", MIDNIGHT_MS - 10 * MINUTE_MS, END_MS, 5 * MINUTE_MS))
    whole = made(archive, wanted)
    monkeypatch.setattr(graph, "CANDLES_AT_ONCE", at_once)
    assert [each.equals(other) for each, other in zip(made(archive, wanted), whole, strict=True)] == [True, True]


def test_a_day_that_is_there_is_kept_until_anything_has_changed(archive: Files) -> None:
    """The same files and settings: not made again. Other settings, a further file, a spoilt result: made anew."""
    out = Files(f"memory://{uuid4()}")

    def kept(wanted: Wanted = WANTED) -> list[bool]:
        return [day.kept for day in write(archive, out, wanted)]

    assert [kept(), kept(), kept(replace(WANTED, rule=Rule(0.3))), kept(), kept()] == [[False], [True], [False], [False], [True]]
    put(archive, [one("BTCUSDT", END_MS - MINUTE_MS, 40.0, revision=3)], date_of(MIDNIGHT_MS), 3)
    assert [kept(), kept()] == [[False], [True]]
    out.put(f"date={date_of(MIDNIGHT_MS)}/{EDGES}", b"PAR1")
    assert [kept(), kept()] == [[False], [True]]


def test_where_nothing_is_archived_nothing_is_written(archive: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files at all is an error; files without the moment's candles are a graph without symbols; too many symbols are refused."""
    with pytest.raises(ConfigError, match="found none"):
        made(archive, replace(WANTED, moments=[END_MS + 10 * DAY_MS]))
    nodes, edges = made(archive, replace(WANTED, moments=[END_MS - DAY_MS]))
    assert (len(nodes), len(edges)) == (0, 0)
    monkeypatch.setattr(archived_closes, "SYMBOLS_MOST", 3)
    with pytest.raises(ConfigError, match="name some with --symbols"):
        made(archive)


def test_a_file_that_cannot_be_read_is_named(archive: Files) -> None:
    """With what tells more."""
    span = archive.spans(CANDLES.name)[0]
    archive.put(span.path, b"PAR1")
    with pytest.raises(ArchiveError, match=r"parquet can't be read .* archive verify"):
        made(archive)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--interval", "2m"], "--interval: expected one of"),
        (["--candles", "30"], "--candles: expected from 31"),
        (["--every", "1h"], "--from and --every together"),
        (["--from", "2h", "--every", "90s"], "--every: expected a whole number of candles"),
        (["--from", "2026-11-22", "--at", "2026-11-21", "--every", "1h"], "--from before --at"),
        (["--least", "2"], "from 0 to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: list[str], told: str, configured: Callable[..., object], tmp_path: Path) -> None:
    """Before anything is read or written."""
    assert configured is not None
    result = CliRunner().invoke(app, ["replay", "graph", "--out", str(tmp_path / "out"), *options])
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)
    assert not (tmp_path / "out").exists()
