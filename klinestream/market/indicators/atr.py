"""Wilder's average true range.

Source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978), pages 21-23. As TA-Lib's ATR:

    true range = max(high - low, |high - previous close|, |low - previous close|)
    ATR_p = mean of the first p true ranges, from the second candle on, since the first one has no close before it
    ATR_t = (1/p) true range_t + (1 - 1/p) ATR_{t-1}
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.protocol import Bools, Candles
from klinestream.market.indicators.smoothing import smoothed, steps_to_converge

_RANGES = 0


@dataclass(frozen=True, slots=True)
class Atr:
    """Average true range of one period, in the price's own unit. State: how many ranges, previous close, level."""

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`atr_14`."""
        return (f"atr_{self.period}",)

    @property
    def ready_after(self) -> int:
        """When the seed's weight has gone; the first candle has no true range.

        >>> Atr(14).ready_after
        151
        """
        return 1 + self.period + steps_to_converge(1 / self.period)

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        state = np.zeros((3, columns))
        state[_RANGES] = -1
        return state

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        ranges, previous, level = state[:, columns]
        high, low = np.maximum(candles.high, previous), np.minimum(candles.low, previous)
        true_range = np.where(ranges < 0, 0.0, high - low)
        ranges = ranges + 1
        level = smoothed(level, ranges, true_range, self.period, 1 / self.period)
        state[:, columns] = ranges, candles.close, level
        return np.where(ranges >= self.period, level, np.nan)[None], (ranges + 1 >= self.ready_after)[None]
