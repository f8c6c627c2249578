"""Volumes summed exactly in float64, for the state is one array of floats.

A volume comes as whole units and a remainder of 1e-8. Whole units alone would be exact up to 9e15 (2**53), which 50 days
of a cheap coin pass. So a sum is split at 10,000 units: how many of these, and the 1e-8 below them. Both are integers, so
sums are exact up to 9e19 units, the order of adding doesn't matter, and what was added can be taken away again.
"""

import numpy as np

from klinestream.market.decimals import UNIT, Floats, Ints

_UNITS = 10_000
_FINE = float(_UNITS * UNIT)


def split(volumes: Ints) -> Floats:
    """Volumes, (2, …), as tens of thousands of units and the 1e-8 below them, (2, …)."""
    coarse, units = np.divmod(volumes[0], _UNITS)
    return np.stack([coarse, units * UNIT + volumes[1]]).astype(np.float64)


def carried(sums: Floats) -> Floats:
    """The same sums, with at least 0 and less than 10,000 units in the finer part: each sum has one form only."""
    carry = np.floor(sums[1] / _FINE)
    return np.stack([sums[0] + carry, sums[1] - carry * _FINE])


def rounded(sums: Floats) -> Floats:
    """Sums in units of 1e-8, rounded to a float for the first time."""
    total: Floats = sums[0] * _FINE + sums[1]
    return total
