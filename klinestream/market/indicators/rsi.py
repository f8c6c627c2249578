"""Wilder's relative strength index.

Source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978), pages 63-70. With U and D the upward and
downward part of each change, and AU, AD their smoothed means over a period p:

    AU_p = mean(U_1 … U_p)                     the seed, as TA-Lib's
    AU_t = (1/p) U_t + (1 - 1/p) AU_{t-1}      from then on; AD alike
    RSI  = 100 AU / (AU + AD)

It differs from TA-Lib in one place: a flat series, where AU + AD = 0, has RSI 50 here (neither strong nor weak) and 0
there.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Floats, Ints

# The weight that the seed may still have when a value counts as converged. RSI-14 gets there after 150 changes; its
# error is then below 0.002 points, where after 15 it is up to 26.
_SEED_WEIGHT = 4.3e-5
_PREVIOUS, _UP, _DOWN, _CHANGES = range(4)


@dataclass(frozen=True, slots=True)
class Rsi:
    """RSI of one period over any number of symbols. State is a float array (4, symbols)."""

    period: int

    @property
    def ready_after(self) -> int:
        """How many changes it takes until a value has converged.

        >>> Rsi(14).ready_after
        150
        """
        return self.period + math.ceil(math.log(_SEED_WEIGHT) / math.log1p(-1 / self.period))

    def init(self, symbols: int) -> Floats:
        """State of symbols that have seen no value yet."""
        state = np.zeros((4, symbols))
        state[_CHANGES] = -1  # the first value is no change yet
        return state

    def update(self, state: Floats, columns: Ints, values: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Take the next value of each symbol in `columns` (no symbol twice), in place.

        Returns each one's RSI, nan before its seed, and whether it has converged.
        """
        previous, up, down, changes = state[:, columns]
        change = np.where(changes < 0, 0.0, values - previous)
        gain, loss = np.maximum(change, 0.0), np.maximum(-change, 0.0)
        changes = changes + 1
        alpha = 1 / self.period
        seeding = changes <= self.period
        # While seeding, the sums; the mean is taken once, at the last of them.
        up = np.where(seeding, up + gain, alpha * gain + (1 - alpha) * up)
        down = np.where(seeding, down + loss, alpha * loss + (1 - alpha) * down)
        seeded = changes == self.period
        up, down = np.where(seeded, up / self.period, up), np.where(seeded, down / self.period, down)
        state[:, columns] = values, up, down, changes
        whole = up + down
        rsi = np.where(whole > 0, 100 * np.divide(up, whole, where=whole > 0, out=np.zeros_like(up)), 50.0)
        return np.where(changes < self.period, np.nan, rsi), changes >= self.ready_after
