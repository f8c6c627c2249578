"""The correlation graph of the candles that the server holds, and the columns that tell it. Pure.

store ─► the newest closed candle of all ends the window ─► closes, symbols × moments ─► klinestream.market.correlations ─► columns
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market.correlations import Floats, Graph, Rule, graph
from klinestream.market.decimals import UNIT
from klinestream.market.intervals import INTERVALS
from server.candles.rows import Rows
from server.candles.store import CandleStore
from server.rest.columns import Table, Type

EDGE_TYPES = {"a": Type.TEXT, "b": Type.TEXT, "r": Type.NUMBER, "observations": Type.INTEGER, "z": Type.NUMBER}


@dataclass(frozen=True, slots=True)
class Window:
    """So many candles of an interval."""

    interval: str
    candles: int

    @property
    def length_ms(self) -> int:
        """Of a candle."""
        return INTERVALS[self.interval]


def graph_of(symbols: Sequence[str], store: CandleStore, window: Window, rule: Rule) -> tuple[int | None, Graph]:
    """When the window ends, None if there is no closed candle at all, and its graph."""
    series = [_whole(store.candles.rows(symbol, window.interval), window.candles) for symbol in symbols]
    newest = max((int(rows["t"][-1]) for rows in series if len(rows)), default=None)
    end_ms = None if newest is None else newest + window.length_ms
    closes = np.full((len(symbols), window.candles), np.nan)
    if end_ms is not None:
        for place, rows in enumerate(series):
            _put(closes[place], rows, end_ms - window.candles * window.length_ms, window.length_ms)
    return end_ms, graph(symbols, closes, rule)


def node_columns(found: Graph) -> dict[str, list[Any]]:
    """The nodes, in order of name; null is what isn't known."""
    known = {name: _nulled(values) for name, values in (("x", found.x), ("y", found.y), ("volatility", found.volatility))}
    counts = {name: values.tolist() for name, values in (("degree", found.degree), ("candles", found.candles), ("returns", found.returns))}
    return {"symbol": list(found.symbols), "group": list(found.group), **known, **counts}


def edge_table(found: Graph) -> Table:
    """The edges, strongest first."""
    edges = found.edges
    ends = {name: [found.symbols[place] for place in places.tolist()] for name, places in (("a", edges.a), ("b", edges.b))}
    columns: Mapping[str, Sequence[Any]] = {
        **ends,
        **{"r": edges.r.tolist(), "observations": edges.observations.tolist(), "z": edges.z.tolist()},
    }
    return Table(columns, EDGE_TYPES)


def _whole(rows: Rows, most: int) -> Rows:
    """The newest candles that lack nothing."""
    rows = rows[-most:]
    return rows if bool(rows["complete"].all()) else rows[rows["complete"]]


def _put(closes: Floats, rows: Rows, first_ms: int, length_ms: int) -> None:
    places = (rows["t"] - first_ms) // length_ms
    inside = places >= 0
    closes[places[inside]] = rows["c"][inside] / UNIT


def _nulled(values: Floats) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]  # noqa: PLR0124  # only nan differs from itself
