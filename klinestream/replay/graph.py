"""`klinestream replay graph`: the correlation graph of archived candles at one moment or many, as Parquet.

    archive ─► candles of a day of moments and of a window before it ─► a graph a moment ─► OUT/date=2026-11-22/nodes.parquet, edges.parquet

The graph is that of `klinestream/market/correlations.py`, as the server answers it. Of each candle the highest revision counts, and only
complete ones do. A day is written whole or not at all; one that was written from the same files with the same settings is left as it is.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive.files import Files, date_of
from klinestream.market.correlations import Floats, Graph, Rule, graph
from klinestream.market.intervals import INTERVALS, opened
from klinestream.replay.archived_closes import Candles, Closes, FeatureCandles, closes_of

NODES, EDGES = "nodes.parquet", "edges.parquet"
CANDLES_AT_ONCE = 4096
"""Moments of which closes are held: 16 bytes each, a symbol."""

_MADE_FROM = b"klinestream.made_from"
_NODES = pa.schema(
    [
        pa.field("time_ms", pa.int64(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("x", pa.float64()),
        pa.field("y", pa.float64()),
        pa.field("degree", pa.int64(), nullable=False),
        pa.field("volatility", pa.float64()),
        pa.field("candles", pa.int64(), nullable=False),
        pa.field("returns", pa.int64(), nullable=False),
    ]
)
_EDGES = pa.schema(
    [
        pa.field("time_ms", pa.int64(), nullable=False),
        pa.field("a", pa.string(), nullable=False),
        pa.field("b", pa.string(), nullable=False),
        pa.field("r", pa.float64(), nullable=False),
        pa.field("observations", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Graphs of windows of so many candles that end at these moments, each the end of a candle."""

    interval: str
    candles: int
    moments: Sequence[int]
    symbols: Sequence[str] = ()
    """All if there are none."""
    rule: Rule = field(default_factory=Rule)


@dataclass(frozen=True, slots=True)
class Day:
    """What was made of a day: graphs, the most symbols and the edges that they have; or that it was there already."""

    date: str
    graphs: int
    symbols: int
    edges: int
    kept: bool = False


def moments_of(interval: str, from_ms: int | None, at_ms: int, every_ms: int | None) -> list[int]:
    """The ends of windows: the last end of a candle up to `at_ms`, and those a step apart before it, back to `from_ms`.

    >>> moments_of("1m", None, 150_000, None), moments_of("1m", 0, 3_600_000, 1_800_000)
    ([120000], [0, 1800000, 3600000])
    """
    last = opened(at_ms, INTERVALS[interval])
    if from_ms is None or every_ms is None:
        return [last]
    return list(range(last, from_ms - 1, -every_ms))[::-1]


def write(source: Files | Path, out: Files, wanted: Wanted, told: Callable[[str], None] = lambda _: None) -> Iterator[Day]:
    """Write the graphs, day after day, and yield what was made. `source` is an archive, or a folder of features.

    Raises ArchiveError, ConfigError.
    """
    candles: Candles | FeatureCandles
    if isinstance(source, Files):
        candles = Candles(source, wanted.interval, frozenset(wanted.symbols))
    else:
        candles = FeatureCandles(source, wanted.interval, frozenset(wanted.symbols))
    for days in _together(wanted):
        made_from = {date: _made_from(wanted, moments, candles.spans(*_span(wanted, moments))) for date, moments in days}
        missing = [(date, moments) for date, moments in days if not _held(out, date, made_from[date])]
        yield from (Day(date, len(moments), 0, 0, kept=True) for date, moments in days if (date, moments) not in missing)
        if missing:
            first_ms, end_ms = _span(wanted, [missing[0][1][0], missing[-1][1][-1]])
            spans = candles.spans(first_ms, end_ms)
            told(f"{missing[0][0]}: reading {len(spans)} files")
            closes = closes_of(candles, spans, first_ms, end_ms)
            for date, moments in missing:
                told(f"{date}: {len(moments)} graphs")
                yield _write_day(out, date, ((moment, _at(wanted, closes, moment)) for moment in moments), made_from[date])


def _together(wanted: Wanted) -> Iterator[list[tuple[str, list[int]]]]:
    """Days with their moments, as many at once as their candles may be held; one at least."""
    most_ms = max(0, CANDLES_AT_ONCE - wanted.candles) * INTERVALS[wanted.interval]
    days: list[tuple[str, list[int]]] = []
    for date, group in groupby(wanted.moments, date_of):
        moments = list(group)
        if days and moments[-1] - days[0][1][0] > most_ms:
            yield days
            days = []
        days.append((date, moments))
    yield days


def _span(wanted: Wanted, moments: Sequence[int]) -> tuple[int, int]:
    """The open times of all candles that the graphs of these moments need."""
    return moments[0] - wanted.candles * INTERVALS[wanted.interval], moments[-1]


def _at(wanted: Wanted, closes: Closes, moment_ms: int) -> Graph:
    window = closes.window(moment_ms, wanted.candles)
    there = np.isfinite(window).any(axis=1)
    names = [symbol for symbol, is_there in zip(closes.symbols, there, strict=True) if is_there]
    return graph(names, window[there], wanted.rule)


def _write_day(out: Files, date: str, graphs: Iterator[tuple[int, Graph]], made_from: bytes) -> Day:
    nodes, edges = _Sheet(_NODES, made_from), _Sheet(_EDGES, made_from)
    count, symbols = 0, 0
    for moment_ms, found in graphs:
        nodes.add(_nodes(moment_ms, found))
        edges.add(_edges(moment_ms, found))
        count, symbols = count + 1, max(symbols, len(found.symbols))
    # The nodes last: they say that the day is whole.
    out.put(_place(date, EDGES), edges.bytes())
    out.put(_place(date, NODES), nodes.bytes())
    return Day(date, count, symbols, edges.rows)


class _Sheet:
    """A Parquet file in memory, a group of rows a moment: packed as it grows."""

    def __init__(self, schema: pa.Schema, made_from: bytes) -> None:
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, schema.with_metadata({_MADE_FROM: made_from}), compression="zstd")
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        self.rows += len(table)
        self._writer.write_table(table)

    def bytes(self) -> bytes:
        self._writer.close()
        found: bytes = self._sink.getvalue().to_pybytes()
        return found


def _nodes(moment_ms: int, found: Graph) -> pa.Table:
    columns = {
        "time_ms": np.full(len(found.symbols), moment_ms),
        "symbol": list(found.symbols),
        "group": list(found.group),
        **{name: _nulled(values) for name, values in (("x", found.x), ("y", found.y), ("volatility", found.volatility))},
        **{"degree": found.degree, "candles": found.candles, "returns": found.returns},
    }
    return pa.table([pa.array(columns[name], _NODES.field(name).type) for name in _NODES.names], schema=_NODES)


def _edges(moment_ms: int, found: Graph) -> pa.Table:
    edges = found.edges
    columns = {
        "time_ms": np.full(len(edges.r), moment_ms),
        **{name: [found.symbols[place] for place in places.tolist()] for name, places in (("a", edges.a), ("b", edges.b))},
        **{"r": edges.r, "observations": edges.observations},
    }
    return pa.table([pa.array(columns[name], _EDGES.field(name).type) for name in _EDGES.names], schema=_EDGES)


def _nulled(values: Floats) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _place(date: str, name: str) -> str:
    return f"date={date}/{name}"


def _made_from(wanted: Wanted, moments: Sequence[int], spans: Sequence[Any]) -> bytes:
    told = {
        **{"interval": wanted.interval, "candles": wanted.candles, "moments": moments, "symbols": sorted(wanted.symbols)},
        **{"rule": asdict(wanted.rule), "files": [span.path for span in spans]},
    }
    return hashlib.blake2b(orjson.dumps(told), digest_size=16).hexdigest().encode()


def _held(out: Files, date: str, made_from: bytes) -> bool:
    """Whether a day was written, from the same."""
    for name in (NODES, EDGES):
        body = out.read(_place(date, name))
        try:
            if body is None or (pq.read_schema(pa.BufferReader(body)).metadata or {}).get(_MADE_FROM) != made_from:
                return False
        except pa.ArrowException:
            return False
    return True
