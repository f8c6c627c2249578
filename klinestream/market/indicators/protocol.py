"""What an indicator is: arithmetic over one closed candle each of any number of symbols, side by side.

    candles of one moment   BTCUSDT  ETHUSDT  …           column    0     1   …
                               │        │                 state  ┌─────┬─────┬───
                               └────────┴──── update ──────────► │  k float rows, fixed by the settings
                                                                 └─────┴─────┴───
                                                 values (names, n), ready (names, n)

A column is a symbol, or a symbol and an interval; a run of candles without a hole fills it from `init` on. Live, replay
and tests call the same `update`, so a batch of candles gives what a stream of them gives, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candles:
    """One closed candle each of n columns. Prices as floats; volumes as whole units and 1e-8 remainders, (2, n)."""

    open_times: Ints  # ms UTC
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    base: Ints  # base volume
    quote: Ints  # quote volume

    def __len__(self) -> int:
        return len(self.open_times)

    def take(self, rows: Ints) -> "Candles":
        """Some of the candles, in the order of `rows`."""
        return Candles(
            open_times=self.open_times[rows],
            open=self.open[rows],
            high=self.high[rows],
            low=self.low[rows],
            close=self.close[rows],
            base=self.base[:, rows],
            quote=self.quote[:, rows],
        )


class Indicator(Protocol):
    """One or several values that a run of candles leads to."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its values' names, settings included: `("sma_20",)`."""

    @property
    def ready_after(self) -> int:
        """After how many candles of a run all its values count as converged, at the latest."""

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet, (k, columns), with a k that the settings fix."""

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns` (none twice), in place.

        Returns the values, nan where there is none, and whether they have converged, each (names, n). A ready value is
        never nan.
        """


def batch(indicator: Indicator, candles: Sequence[Candles]) -> tuple[Floats, Bools]:
    """Candles of the same n columns, one moment after the other, from the start of their runs.

    Returns values and readiness, each (names, moments, n).
    """
    width = len(candles[0]) if candles else 0
    state, columns = indicator.init(width), np.arange(width)
    values = np.empty((len(indicator.names), len(candles), width))
    ready = np.empty(values.shape, np.bool_)
    for moment, each in enumerate(candles):
        values[:, moment], ready[:, moment] = indicator.update(state, columns, each)
    return values, ready
