"""Exponential smoothing from a seed, and when the seed no longer matters: shared by RSI, EMA, MACD and ATR.

    y_p = mean(x_1 … x_p)                      the seed, as TA-Lib's
    y_t = alpha x_t + (1 - alpha) y_{t-1}      from then on

The seed stands for all that was before the run, and its weight falls by 1 - alpha a step. A run that begins at another
place differs by that weight times the difference of the two at the seed.
"""

import math

import numpy as np

from klinestream.market.decimals import Floats

SEED_WEIGHT = 4.3e-5
"""The weight that the seed may still have when a value counts as converged.

RSI-14 gets there after 150 changes; its error is then below 0.002 points, where after 15 it is up to 26.
"""


def steps_to_converge(alpha: float) -> int:
    """How many steps after its seed a smoothed value has converged.

    >>> steps_to_converge(1 / 14)
    136
    """
    return 0 if alpha >= 1 else math.ceil(math.log(SEED_WEIGHT) / math.log1p(-alpha))


def smoothed(level: Floats, taken: Floats, values: Floats, period: int, alpha: float) -> Floats:
    """The next level of each column.

    `taken`: how many values each has had, this one included. Up to the seed the level is their sum; the mean is taken
    once, at the last of them.
    """
    level = np.where(taken <= period, level + values, alpha * values + (1 - alpha) * level)
    return np.where(taken == period, level / period, level)
