"""The last values of each column, kept as a ring in rows of the state, read in the order of time.

    rows of one column   │ 21 │ 22 │ 18 │ 19 │ 20 │      the next value takes the place of the oldest one, 18
                                     ▲ oldest
    window               │ 18 │ 19 │ 20 │ 21 │ 22 │

What is computed from a window depends neither on where in the ring it began, nor on where the run began: once it is
full, every run gives the same bits.
"""

import numpy as np

from klinestream.market.decimals import Floats, Ints


def pushed(ring: Floats, columns: Ints, taken: Ints, values: Floats) -> Floats:
    """Put the next value of each of `columns` in its place, and read their windows, (length, n), oldest first.

    `ring`: (length, all columns). `taken`: how many values each had before this one. A window that isn't full yet has
    zeros in front, as the ring had from the start.
    """
    length, width = ring.shape
    place = taken % length
    ring[place, columns] = values
    # As places in the flat ring, for that is what numpy gathers fastest.
    places = (place * width + columns) + (np.arange(1, length + 1) * width)[:, None]
    places -= (places >= ring.size) * ring.size
    window: Floats = ring.reshape(-1).take(places)
    return window


def summed(window: Floats) -> Floats:
    """Each column's sum, oldest value first.

    Not `np.sum`, which adds a single column in another order than many, so that a value would depend on its neighbours.
    """
    total: Floats = window[0].copy()
    for row in window[1:]:
        total += row
    return total


def mean(window: Floats) -> Floats:
    """Each column's mean. Summed as distances from the oldest value, which lose less: a flat window's mean is exact."""
    oldest: Floats = window[0]
    return oldest + summed(window - oldest) / len(window)
