"""Realised volatility: the square root of the sum of the last squared logarithmic returns of the closes.

Source: Andersen, Bollerslev, Diebold and Labys, Modeling and Forecasting Realized Volatility (Econometrica 71:2, 2003). It
is that of the window, as a fraction of the price, not annualised: times sqrt(periods in a year / period) it would be. A
flat window has 0. TA-Lib has none.

The logarithm is made of additions, multiplications and divisions alone, which every machine rounds alike. numpy's own
takes other paths on other processors, and a replay elsewhere would differ in the last bit.
"""

import math
from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators import ring
from klinestream.market.indicators.protocol import Bools, Candles

_LN2 = math.log(2)
# s is at most 0.172 below: the first term left out, s²⁴ / 25, is below 2**-63.
_ODD = range(23, 1, -2)


def log_ratio(new: Floats, old: Floats) -> Floats:
    """ln(new / old) of positive numbers, to about the last bit, also where they are close to each other.

    With e such that new / (old 2**e) lies in [sqrt(1/2), sqrt(2)], and s = (new - old 2**e) / (new + old 2**e), it is
    e ln 2 + 2 (s + s³/3 + s⁵/5 + …).
    """
    mantissa, exponent = np.frexp(new / old)
    exponent = exponent - (mantissa < math.sqrt(0.5))
    scaled = np.ldexp(old, exponent)
    s = (new - scaled) / (new + scaled)
    square = s * s
    series = np.zeros_like(s)
    for odd in _ODD:
        series = (series + 1 / odd) * square
    return np.asarray(exponent * _LN2 + 2 * (s + s * series))


@dataclass(frozen=True, slots=True)
class Volatility:
    """Realised volatility of the last `period` returns. State: how many candles, previous close, ring of squared returns."""

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`volatility_20`."""
        return (f"volatility_{self.period}",)

    @property
    def ready_after(self) -> int:
        """When the window is full; the first candle has no return."""
        return self.period + 1

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((2 + self.period, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken = state[0, columns].astype(np.int64)
        previous = np.where(taken > 0, state[1, columns], candles.close)
        state[0, columns], state[1, columns] = taken + 1, candles.close
        change = log_ratio(candles.close, previous)
        # The first candle's zero is the oldest of the ring when the first window is full but for one: it leaves in time.
        window = ring.pushed(state[2:], columns, taken, change * change)
        full = taken >= self.period
        return np.where(full, np.sqrt(ring.summed(window)), np.nan)[None], full[None]
