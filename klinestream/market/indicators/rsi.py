"""Wilder's relative strength index.

Source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978), pages 63-70. With U and D the upward and
downward part of each change, and AU, AD their smoothed means over a period p:

    AU_p = mean(U_1 … U_p)                     the seed, as TA-Lib's
    AU_t = (1/p) U_t + (1 - 1/p) AU_{t-1}      from then on; AD alike
    RSI  = 100 AU / (AU + AD)

It differs from TA-Lib in one place: a flat series, where AU + AD = 0, has RSI 50 here (neither strong nor weak) and 0
there.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.protocol import Bools, Candles
from klinestream.market.indicators.smoothing import smoothed, steps_to_converge

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
        return self.period + steps_to_converge(1 / self.period)

    def init(self, symbols: int) -> Floats:
        """State of symbols that have seen no value yet."""
        state = np.zeros((4, symbols))
        state[_CHANGES] = -1  # the first value is no change yet
        return state

    def update(self, state: Floats, columns: Ints, values: Floats) -> tuple[Floats, Bools]:
        """Take the next value of each symbol in `columns` (no symbol twice), in place.

        Returns each one's RSI, nan before its seed, and whether it has converged.
        """
        previous, up, down, changes = state[:, columns]
        moved = _moved(previous, values, changes)
        changes = changes + 1
        up, down = smoothed(np.stack([up, down]), changes, moved, self.period, 1 / self.period)
        state[:, columns] = values, up, down, changes
        return self._index(up, down, changes)

    def series(self, state: Floats, values: Floats, anew: Bools) -> tuple[Floats, Bools]:
        """What `update` gives of value after value, to the last bit: (moments, symbols), in place, all symbols each time.

        `anew`: where a symbol's state begins from nothing. What is between a symbol's last value and the next such place means nothing.
        """
        moments = np.arange(len(values))[:, None]
        began = np.maximum.accumulate(np.where(anew, moments, -1))
        changes: Floats = np.where(began < 0, state[_CHANGES] + 1 + moments, moments - began).astype(np.float64)
        moved = _moved(np.concatenate([state[:1], values[:-1]]), values, changes - 1)
        level, levels = state[_UP : _DOWN + 1], np.empty_like(moved)
        resets = anew.any(axis=1).tolist()
        for moment, taken in enumerate(changes):
            if resets[moment]:
                level = np.where(anew[moment], 0.0, level)
            levels[:, moment] = level = smoothed(level, taken, moved[:, moment], self.period, 1 / self.period)
        if len(values):
            state[:] = values[-1], *level, changes[-1]
        return self._index(levels[0], levels[1], changes)

    def _index(self, up: Floats, down: Floats, changes: Floats) -> tuple[Floats, Bools]:
        whole = up + down
        rsi = np.where(whole > 0, 100 * np.divide(up, whole, where=whole > 0, out=np.zeros_like(up)), 50.0)
        return np.where(changes < self.period, np.nan, rsi), changes >= self.ready_after


def _moved(previous: Floats, values: Floats, changes: Floats) -> Floats:
    """The upward and the downward part of each change, (2, …); `changes` so far are below 0 where there was no value before."""
    change = np.where(changes < 0, 0.0, values - previous)
    return np.stack([np.maximum(change, 0.0), np.maximum(-change, 0.0)])


@dataclass(frozen=True, slots=True)
class RsiOfCloses:
    """RSI of the closes of candles, as an indicator."""

    period: int

    @property
    def names(self) -> tuple[str, ...]:
        """`rsi_14`."""
        return (f"rsi_{self.period}",)

    @property
    def ready_after(self) -> int:
        """One candle more than changes, for the first one is no change yet."""
        return Rsi(self.period).ready_after + 1

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return Rsi(self.period).init(columns)

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        values, ready = Rsi(self.period).update(state, columns, candles.close)
        return values[None], ready[None]
