"""On-balance volume: base volume added where the close rose and taken away where it fell.

Source: Joseph Granville, New Key to Stock Market Profits (1963). It counts from 0 at the run's first candle, so its level
says where the run began and nothing more, and no number of candles changes that. What it is for are its changes, and these
are exact: over any two candles of a run they are the same in every run that holds both. So it is ready from its first
change on, and levels may be compared only among records with the same `since`.

TA-Lib's OBV begins with the first candle's volume in place of 0, and stays apart by it.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import UNIT, Floats, Ints
from klinestream.market.indicators import volumes
from klinestream.market.indicators.protocol import Bools, Candles


@dataclass(frozen=True, slots=True)
class Obv:
    """On-balance volume in base units. State: how many candles, previous close, the sum's two parts."""

    @property
    def names(self) -> tuple[str, ...]:
        """`obv`."""
        return ("obv",)

    @property
    def ready_after(self) -> int:
        """When there is a change."""
        return 2

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((4, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken, previous, *sums = state[:, columns]
        direction = np.where(taken > 0, np.sign(candles.close - previous), 0.0)
        now = volumes.carried(np.array(sums) + direction * volumes.split(candles.base))
        state[:, columns] = taken + 1, candles.close, *now
        return (volumes.rounded(now) / UNIT)[None], (taken + 1 >= self.ready_after)[None]
