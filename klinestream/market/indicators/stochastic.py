"""Slow stochastic oscillator.

Source: George Lane, Lane's Stochastics (Technical Analysis of Stocks & Commodities 2:3, 1984). As TA-Lib's STOCH with
simple means:

    fast %K = 100 (close - lowest low) / (highest high - lowest low)      over the last `period` candles
    slow %K = mean of the last `slow_k` fast %K
    slow %D = mean of the last `slow_d` slow %K

It differs from TA-Lib in one place: where highest and lowest are equal, fast %K is 50 here (neither high nor low) and 0
there. TA-Lib shows %K no earlier than %D; here it is there `slow_d` - 1 candles earlier.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators import ring
from klinestream.market.indicators.protocol import Bools, Candles


@dataclass(frozen=True, slots=True)
class Stochastic:
    """Slow %K and %D. State: how many candles, then rings of highs, lows, fast %K and slow %K."""

    period: int
    slow_k: int
    slow_d: int

    @property
    def names(self) -> tuple[str, ...]:
        """`stochastic_k_14_3_3`, `stochastic_d_14_3_3`."""
        periods = f"{self.period}_{self.slow_k}_{self.slow_d}"
        return f"stochastic_k_{periods}", f"stochastic_d_{periods}"

    @property
    def ready_after(self) -> int:
        """When all windows are full.

        >>> Stochastic(14, 3, 3).ready_after
        18
        """
        return self._k_ready_after + self.slow_d - 1

    @property
    def _k_ready_after(self) -> int:
        return self.period + self.slow_k - 1

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((1 + 2 * self.period + self.slow_k + self.slow_d, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken = state[0, columns].astype(np.int64)
        state[0, columns] = taken + 1
        highs, lows, fast_ks, slow_ks = np.split(state[1:], np.cumsum([self.period, self.period, self.slow_k]))
        highest = ring.pushed(highs, columns, taken, candles.high).max(axis=0)
        lowest = ring.pushed(lows, columns, taken, candles.low).min(axis=0)
        # What the rings hold from before their windows are full has left them when the value is ready.
        slow_k = ring.mean(ring.pushed(fast_ks, columns, taken, _fast_k(candles.close, highest, lowest)))
        slow_d = ring.mean(ring.pushed(slow_ks, columns, taken, slow_k))
        ready = np.stack([taken + 1 >= self._k_ready_after, taken + 1 >= self.ready_after])
        return np.where(ready, np.stack([slow_k, slow_d]), np.nan), ready


def _fast_k(close: Floats, highest: Floats, lowest: Floats) -> Floats:
    span = highest - lowest
    return np.where(span > 0, 100 * np.divide(close - lowest, span, where=span > 0, out=np.zeros_like(span)), 50.0)
