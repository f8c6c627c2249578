"""Random numbers without a state: hashes of what they are for, so that any of them can be asked for at any time.

Only integer arithmetic: the same seed gives the same market on any machine, whatever its floating-point unit does.
"""

import enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Ints

Hashes = npt.NDArray[np.uint64]
Keys: TypeAlias = "int | Ints"

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_U16_SUM_MEAN = 2 * 65535
_U16_SUM_DEVIATION = 37837  # of the sum of four uniform 16-bit numbers: 2^16 * sqrt(4 / 12)


class Purpose(enum.IntEnum):
    """What a number is drawn for: a key of each hash, so that no two things share their numbers."""

    NAME = 1
    LISTING_DAY = 2
    VOLATILITY = 3
    SWELL = 4
    BURST = 5
    COUNT = 6
    SPLIT = 7
    TIME = 8
    SIDE = 9
    WALK = 10
    QUANTITY = 11
    PLAN_MOOD = 12
    PLAN_SHAPE = 13
    PLAN_CALM = 14
    PLAN_WEIGHT = 15
    BLOCK = 16
    LEVEL = 17
    DAY_WEIGHT = 18
    UPDATE = 19
    RUNG = 20
    RUNG_QUANTITY = 21
    TOP_QUANTITY = 22
    GUST = 23


def mix(numbers: Hashes) -> Hashes:
    """SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014) of each number."""
    with np.errstate(over="ignore"):
        mixed = numbers + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def draw(*keys: Keys) -> Hashes:
    """64 random bits for each combination of keys, which broadcast against each other."""
    mixed = np.zeros((), np.uint64)
    for key in keys:
        mixed = mix(mixed ^ np.asarray(key, np.int64).view(np.uint64))
    return mixed


def below(hashes: Hashes, bound: Keys) -> Ints:
    """A uniform integer from 0 to `bound` - 1 (at most 2^31) for each hash, from its upper bits."""
    return np.asarray(((hashes >> np.uint64(33)).astype(np.int64) * bound) >> 31, np.int64)


def doublings(hashes: Hashes, most: int) -> Ints:
    """0 to `most`, each half as likely as the one before (the last two alike), from a hash's lower bits."""
    low = (hashes & np.uint64((1 << most) - 1)).astype(np.int64) | (1 << most)
    lowest_bit = low & -low
    return np.frexp(lowest_bit.astype(np.float64))[1].astype(np.int64) - 1  # exact: a power of two


def bell(hashes: Hashes, deviation: Keys) -> Ints:
    """A bell-shaped integer around 0 for each hash: four uniform numbers added up. At most 3.5 deviations from 0."""
    total = np.zeros(hashes.shape, np.int64)
    for shift in (0, 16, 32, 48):
        total = total + ((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    return np.asarray((total - _U16_SUM_MEAN) * deviation // _U16_SUM_DEVIATION, np.int64)
