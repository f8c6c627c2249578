"""Simple moving average: the mean of the last closes. As TA-Lib's SMA, whose running sum rounds otherwise."""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators import ring
from klinestream.market.indicators.protocol import Bools, Candles


@dataclass(frozen=True, slots=True)
class Sma:
    """Mean of the last `period` closes. State: how many candles, then the ring of closes."""

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`sma_20`."""
        return (f"sma_{self.period}",)

    @property
    def ready_after(self) -> int:
        """When the window is full."""
        return self.period

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((1 + self.period, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken = state[0, columns].astype(np.int64)
        state[0, columns] = taken + 1
        window = ring.pushed(state[1:], columns, taken, candles.close)
        full = taken + 1 >= self.period
        return np.where(full, ring.mean(window), np.nan)[None], full[None]
