"""Splits of rows into training and test that don't leak: purged, embargoed, and never a time torn apart. Pure.

    a row's label      t ├───────► t + span

    purged folds       |·· train ··|   purged   |== test ==|   purged   | embargo |·· train ··|
                                    └ labels reach into the test        └ labels of the test reach here

    walk-forward       |·········· train ·········|  purged  |== test ==|
                       |·········· train ··················· …  purged  |== test ==|

All is decided by a row's time alone, so that the rows of all symbols at one time stay together: their labels share the market's
moves, and one of them in training would tell of the others in the test. A training row is purged where its label's span meets the
span that the test's rows and labels cover. The embargo keeps training rows away that follow the test, since features look back.

Source: López de Prado, Advances in Financial Machine Learning (2018), 7.4 (purging, embargo, purged k-fold) and 12.2 (walk-forward).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Ints
from klinestream.market.errors import ConfigError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Split:
    """One test span, `from_ms` to before `to_ms` of rows' times, and the rows, one flag each, of training and test."""

    from_ms: int
    to_ms: int
    train: Bools
    test: Bools


def purged_folds(times_ms: Ints, span_ms: int, folds: int = 5, embargo_ms: int = 0) -> Iterator[Split]:
    """`folds` tests one after the other, each row in just one of them; training rows before and after, purged and embargoed.

    `times_ms`: each row's close time, in any order; `span_ms`: how far labels look ahead. Raises ConfigError where times are too few.
    """
    edges = _edges(times_ms, folds)
    for begin, end in pairwise(edges.tolist()):
        test = (times_ms >= begin) & (times_ms < end)
        first, last = times_ms[test].min(), times_ms[test].max()
        before = times_ms + span_ms < first
        after = times_ms > last + span_ms + embargo_ms
        yield Split(begin, end, before | after, test)


def walk_forward(times_ms: Ints, span_ms: int, folds: int = 5, embargo_ms: int = 0, window_ms: int | None = None) -> Iterator[Split]:
    """`folds` tests one after the other over all but the first of `folds + 1` spans of time, each trained on what lies before it.

    Of what lies before, the last `window_ms` where that is given. The embargo lies between training and test, on top of the purge.
    Raises ConfigError where times are too few.
    """
    edges = _edges(times_ms, folds + 1)
    for begin, end in pairwise(edges[1:].tolist()):
        test = (times_ms >= begin) & (times_ms < end)
        first = times_ms[test].min()
        train = times_ms + span_ms + embargo_ms < first
        if window_ms is not None:
            train &= times_ms >= first - window_ms
        yield Split(begin, end, train, test)


def _edges(times_ms: Ints, parts: int) -> Ints:
    """Times that part the rows' times into spans of as many moments each, the last edge past the last time."""
    moments = np.unique(times_ms)
    if not 2 <= parts <= len(moments):
        raise ConfigError(
            f"splits: expected from 2 to {len(moments)} spans of {len(moments)} times, got {parts}: ask for fewer, or take more rows"
        )
    places = np.arange(parts + 1) * len(moments) // parts
    return np.append(moments[places[:-1]], moments[-1] + 1)
