"""All that is computed along a run of candles: indicators, signals and totals, over one state a column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klinestream.market.aggregates import Totals
from klinestream.market.candles import BASE, BEGAN, CLOSE, HIGH, LOW, OPEN, QUOTE, price, volume
from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.protocol import Candles
from klinestream.market.signals import Fired, SignalRules, SignalSettings


@dataclass(frozen=True, slots=True)
class StudyRows:
    """What one closed candle each of some symbols and intervals led to, side by side."""

    symbols: Sequence[str]
    intervals: Sequence[str]
    open_times: Ints
    close: Floats
    since: Ints
    names: tuple[str, ...]
    values: Floats  # (names, columns), nan where there is none
    ready: npt.NDArray[np.bool_]
    fired: list[Fired]
    totals: Floats  # (7, columns), as `Totals.update` gives them

    def __len__(self) -> int:
        return len(self.open_times)

    def take(self, rows: Ints) -> "StudyRows":
        """Some of the rows, in the order of `rows`."""
        places = {row: place for place, row in enumerate(rows.tolist())}
        return StudyRows(
            symbols=[self.symbols[row] for row in places],
            intervals=[self.intervals[row] for row in places],
            open_times=self.open_times[rows],
            close=self.close[rows],
            since=self.since[rows],
            names=self.names,
            values=self.values[:, rows],
            ready=self.ready[:, rows],
            fired=[replace(fired, row=places[fired.row]) for fired in self.fired if fired.row in places],
            totals=self.totals[:, rows],
        )


def candles_of(table: Ints) -> Candles:
    """Whole candles of a table, as the indicators take them."""
    opened, high, low, close = (price(table, row) for row in (OPEN, HIGH, LOW, CLOSE))
    return Candles(table[BEGAN], opened, high, low, close, volume(table, BASE), volume(table, QUOTE))


class Study:
    """Indicators, rules and totals; the state of a column is `rows` high."""

    def __init__(self, indicators: IndicatorSettings, signals: SignalSettings) -> None:
        self._indicators = IndicatorSet(indicators)
        self.names = self._indicators.names
        self._rules = SignalRules(signals, self.names)
        self._totals = Totals()
        first, second = self._indicators.rows, self._indicators.rows + self._rules.rows
        self.rows = second + self._totals.rows
        self._blocks = slice(0, first), slice(first, second), slice(second, self.rows)
        self.fingerprint = (self._indicators.fingerprint, signals.fingerprint)

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.concatenate([self._indicators.init(columns), self._rules.init(columns), self._totals.init(columns)])

    def update(self, state: Floats, columns: Ints, table: Ints) -> tuple[Floats, npt.NDArray[np.bool_], list[Fired], Floats]:
        """Take the next whole candle of each of `columns`, in place: values, readiness, signals, totals."""
        indicators, rules, totals = (state[block] for block in self._blocks)
        values, ready = self._indicators.update(indicators, columns, candles_of(table))
        return values, ready, self._rules.update(rules, columns, values, ready), self._totals.update(totals, columns, table)
