"""Bollinger bands: the mean of the last closes, and some deviations above and below it.

Source: John Bollinger, Bollinger on Bollinger Bands (2001), with the population's deviation, as TA-Lib's BBANDS:

    middle = mean(closes)      upper, lower = middle ± deviations · sqrt(mean((closes - middle)²))

The deviation is computed from the distances to the mean, so a flat window's bands have no width at all. TA-Lib's lose
digits where the price is great next to its moves: at 61,234.50 moving by 0.01 they are off by 4e-11 of their width.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators import ring
from klinestream.market.indicators.protocol import Bools, Candles


@dataclass(frozen=True, slots=True)
class Bollinger:
    """Bands over the last `period` closes. State: how many candles, then the ring of closes."""

    period: int
    deviations: float

    @property
    def names(self) -> tuple[str, ...]:
        """`bollinger_upper_20_2`, `bollinger_middle_20_2`, `bollinger_lower_20_2`; 2.5 deviations are `2_5`."""
        settings = f"{self.period}_{self.deviations:g}".replace(".", "_")
        return f"bollinger_upper_{settings}", f"bollinger_middle_{settings}", f"bollinger_lower_{settings}"

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
        middle = ring.mean(window)
        window -= middle
        width = self.deviations * np.sqrt(ring.summed(window * window) / self.period)
        full = taken + 1 >= self.period
        values = np.where(full, np.stack([middle + width, middle, middle - width]), np.nan)
        return values, np.broadcast_to(full, values.shape).copy()
