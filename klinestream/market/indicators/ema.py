"""Exponential moving average of the closes, seeded with the simple mean of the first ones, as TA-Lib's EMA.

alpha = 2 / (period + 1)
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.protocol import Bools, Candles
from klinestream.market.indicators.smoothing import smoothed, steps_to_converge


def alpha_of(period: int) -> float:
    """The weight of the newest value.

    >>> alpha_of(9)
    0.2
    """
    return 2 / (period + 1)


@dataclass(frozen=True, slots=True)
class Ema:
    """Exponential moving average of one period. State: how many candles, and the level."""

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`ema_12`."""
        return (f"ema_{self.period}",)

    @property
    def ready_after(self) -> int:
        """When the seed's weight has gone.

        >>> Ema(26).ready_after
        157
        """
        return self.period + steps_to_converge(alpha_of(self.period))

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((2, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken, level = state[:, columns]
        taken = taken + 1
        level = smoothed(level, taken, candles.close, self.period, alpha_of(self.period))
        state[:, columns] = taken, level
        return np.where(taken >= self.period, level, np.nan)[None], (taken >= self.ready_after)[None]
