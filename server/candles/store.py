"""The newest closed candles of every symbol and interval, with their indicators and signals. Pure, columnar and bounded.

A row is known by its keys; where several records claim it, the highest revision counts, then the earliest `since`, of
candles the most klines. The order in which records come, and how often, does not matter.

    series  BTCUSDT 1m   |·t-499·|·t-498·| … |··t··|       never changed, only replaced:
                            └──────── joined with what came, sorted, the best of each key, the newest `most` ─► the next one

So whoever holds a series may read it in any thread, for as long as it likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.candles.rows import CANDLE, SIGNAL, IndicatorNames, Rows, Series, widened

SYMBOLS_MOST = 10_000
SIGNALS_MOST = 100
"""Of a symbol and interval: signals are some per cent of the candles."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a row is known by, and whether an earlier `since` counts; else more klines do."""

    keys: tuple[str, ...]
    has_since: bool

    def ranks(self, rows: Rows) -> tuple[Rows, Rows]:
        """By what the better one of two is known, the weightiest last."""
        return -rows["since"] if self.has_since else rows["klines"], rows["revision"]


CANDLE_IDENTITY = Identity(("t",), has_since=False)
INDICATOR_IDENTITY = Identity(("t",), has_since=True)
SIGNAL_IDENTITY = Identity(("t", "rule", "side"), has_since=True)


def merged(held: Rows, rows: Rows, identity: Identity, most: int) -> Rows:
    """The best row of each identity, in order of the keys: the newest `most`."""
    both = np.empty(len(held) + len(rows), rows.dtype)
    both[: len(held)], both[len(held) :] = held, rows
    if len(rows) != 1 or (len(held) and held["t"][-1] >= rows["t"][0]):
        # The last array sorts first: of equal keys the best row comes last.
        both = both[np.lexsort((*identity.ranks(both), *(both[name] for name in reversed(identity.keys))))]
        last = np.ones(len(both), bool)
        last[:-1] = np.logical_or.reduce([both[name][1:] != both[name][:-1] for name in identity.keys])
        both = both[last]
    # A copy: a slice would hold on to all of it.
    return both[-most:].copy() if len(both) > most else both


class Table:
    """The rows of one kind, a series for each symbol and interval. One thread writes, any may read."""

    def __init__(self, identity: Identity, dtype: np.dtype[np.void], most: int, symbols_most: int = SYMBOLS_MOST) -> None:
        """Start empty, and hold `most` rows a series."""
        self._identity = identity
        self._dtype = dtype
        self._most = most
        self._symbols_most = symbols_most
        self._series: dict[str, dict[str, Rows]] = {}

    def put(self, series: Sequence[Series], rows: Rows) -> int:
        """Hold rows, each of its series; how many there was no room for, since the symbols are too many."""
        if not len(rows):
            return 0
        self._widen(rows.dtype)
        places: dict[Series, list[int]] = {}
        for place, key in enumerate(series):
            places.setdefault(key, []).append(place)
        refused = 0
        for (symbol, interval), at in places.items():
            if symbol not in self._series and len(self._series) >= self._symbols_most:
                refused += len(at)
                continue
            of_symbol = self._series.setdefault(symbol, {})
            held = of_symbol.get(interval, np.empty(0, self._dtype))
            of_symbol[interval] = merged(held, rows[at], self._identity, self._most)
        return refused

    def rows(self, symbol: str, interval: str) -> Rows:
        """All rows of a series, in order; none if it is not known. Not to be changed."""
        return self._series.get(symbol, {}).get(interval, np.empty(0, self._dtype))

    def knows(self, symbol: str) -> bool:
        """Whether any interval of the symbol is held."""
        return symbol in self._series

    def symbols(self) -> list[str]:
        """The symbols that are held, in order of name."""
        return sorted(self._series)

    def counts(self) -> tuple[int, int]:
        """How many rows are held, and how many bytes they take."""
        sizes = [len(rows) for series in tuple(self._series.values()) for rows in tuple(series.values())]
        return sum(sizes), sum(sizes) * self._dtype.itemsize

    def clear(self) -> None:
        """Forget everything."""
        self._series = {}

    def _widen(self, dtype: np.dtype[np.void]) -> None:
        if dtype == self._dtype:
            return
        self._dtype = dtype
        self._series = {
            symbol: {interval: widened(rows, dtype) for interval, rows in series.items()} for symbol, series in self._series.items()
        }


class CandleStore:
    """Candles, indicators and signals, and the newest record of the candles in progress of each symbol."""

    def __init__(self, candles_most: int, *, signals_most: int = SIGNALS_MOST, symbols_most: int = SYMBOLS_MOST) -> None:
        """Hold `candles_most` candles of each symbol and interval."""
        self.names = IndicatorNames()
        self.candles = Table(CANDLE_IDENTITY, CANDLE, candles_most, symbols_most)
        self.indicators = Table(INDICATOR_IDENTITY, self.names.dtype, candles_most, symbols_most)
        self.signals = Table(SIGNAL_IDENTITY, SIGNAL, signals_most, symbols_most)
        self._symbols_most = symbols_most
        self._provisional: dict[str, tuple[int, bytes]] = {}

    def put_provisional(self, symbol: str, time_ms: int, value: bytes) -> bool:
        """Hold the candles in progress, if they are newer than those held, and there is room; read by whoever asks for them."""
        held = self._provisional.get(symbol)
        if held is None and len(self._provisional) >= self._symbols_most:
            return False
        if held is None or held[0] < time_ms:
            self._provisional[symbol] = time_ms, value
            return True
        return False

    def provisional(self, symbol: str) -> bytes | None:
        """The newest record of the candles in progress, as it stands in the topic."""
        held = self._provisional.get(symbol)
        return None if held is None else held[1]

    def newest_provisional_ms(self) -> int | None:
        """The time of the newest candles in progress of any symbol."""
        return max((time_ms for time_ms, _ in tuple(self._provisional.values())), default=None)
