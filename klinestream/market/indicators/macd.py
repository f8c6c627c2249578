"""Moving average convergence/divergence.

Source: Gerald Appel, The Moving Average Convergence-Divergence Trading Method (1979), as TA-Lib's MACD has it:

    line      = fast EMA - slow EMA      of the closes
    signal    = EMA of the line, seeded with the mean of its first values
    histogram = line - signal

    candle     1 …            14 15 … 25 26 27 … 33 34
    fast EMA                   └─ seed ─┘ from 26 on          12 candles up to the slow one's seed, not the first 12
    slow EMA   └───────── seed ─────────┘ from 26 on
    signal                              └── seed ───┘ from 34 on

TA-Lib starts both EMAs so that they align at the slow period, and so does this: in the beginning the line is not the
difference of `ema_12`, which is seeded 14 candles earlier, and `ema_26`. Once both have converged it is. TA-Lib shows the
line no earlier than the signal; here it is there 8 candles earlier. A line within the EMAs' rounding is 0 here: where the
price stands still, line and signal would else go on to cross on noise.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.ema import Ema, alpha_of
from klinestream.market.indicators.protocol import Bools, Candles
from klinestream.market.indicators.smoothing import smoothed, steps_to_converge

# An EMA rounds three times a step, by half an epsilon at most, and forgets it over (period + 1) / 2 steps; both together
# stay below twice the slow period.
_ROUNDING = 2 * np.finfo(np.float64).eps


@dataclass(frozen=True, slots=True)
class Macd:
    """MACD of three periods, fast < slow. State: how many candles, fast and slow EMA, signal."""

    fast: int
    slow: int
    signal: int

    @property
    def names(self) -> tuple[str, ...]:
        """`macd_12_26_9`, `macd_signal_12_26_9`, `macd_histogram_12_26_9`."""
        periods = f"{self.fast}_{self.slow}_{self.signal}"
        return f"macd_{periods}", f"macd_signal_{periods}", f"macd_histogram_{periods}"

    @property
    def ready_after(self) -> int:
        """When the signal's seed has gone too, counted from where the line has converged.

        >>> Macd(12, 26, 9).ready_after
        203
        """
        return self._line_ready_after + steps_to_converge(alpha_of(self.signal))

    @property
    def _line_ready_after(self) -> int:
        return Ema(self.slow).ready_after

    def init(self, columns: int) -> Floats:
        """State of columns that have seen no candle yet."""
        return np.zeros((4, columns))

    def update(self, state: Floats, columns: Ints, candles: Candles) -> tuple[Floats, Bools]:
        """Take the next candle of each of `columns`, in place."""
        taken, fast, slow, signal = state[:, columns]
        taken = taken + 1
        since_fast, since_line = taken - (self.slow - self.fast), taken - (self.slow - 1)
        fast = smoothed(fast, since_fast, np.where(since_fast > 0, candles.close, 0.0), self.fast, alpha_of(self.fast))
        slow = smoothed(slow, taken, candles.close, self.slow, alpha_of(self.slow))
        line = fast - slow
        line[(since_line < 1) | (np.abs(line) <= self.slow * _ROUNDING * slow)] = 0.0
        signal = smoothed(signal, since_line, line, self.signal, alpha_of(self.signal))
        state[:, columns] = taken, fast, slow, signal
        values = np.stack([line, signal, line - signal])
        values[0, since_line < 1] = np.nan
        values[1:, since_line < self.signal] = np.nan
        ready = taken >= self.ready_after
        return values, np.stack([taken >= self._line_ready_after, ready, ready])
