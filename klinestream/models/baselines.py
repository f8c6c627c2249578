"""What a forecast has to beat: forecasters that know nearly nothing. Pure.

    zero          no return, and of the sign what training had more often of the symbol: the majority class, its share as probability
    last_return   what the last horizon did, the next one does too
    momentum      the mean rate of the last five horizons goes on

The last two give the sign as often as it came true in training.
"""

from collections.abc import Callable, Mapping

import numpy as np

from klinestream.market.decimals import Floats
from klinestream.models.model import Forecasts
from klinestream.models.panel import Panel

ZERO = "zero"
_LOOK_BACK = 5  # horizons


def zero(train: Panel, test: Panel) -> Forecasts:
    """No return; the sign that training had more often, of each symbol."""
    moved = train.known & (train.labels != 0)
    # As though each symbol had gone up once and down once before: of one that is new it is even.
    ups, moves = (moved & (train.labels > 0)).sum(axis=0) + 1, moved.sum(axis=0) + 2
    return Forecasts(np.zeros(test.labels.shape), np.broadcast_to(ups / moves, test.labels.shape))


def last_return(train: Panel, test: Panel) -> Forecasts:
    """The return of the last horizon once more."""
    return _going_on(train, test, 1)


def momentum(train: Panel, test: Panel) -> Forecasts:
    """The mean return of the last five horizons once more."""
    return _going_on(train, test, _LOOK_BACK)


BASELINES: Mapping[str, Callable[[Panel, Panel], Forecasts]] = {ZERO: zero, "last_return": last_return, "momentum": momentum}


def _going_on(train: Panel, test: Panel, horizons: int) -> Forecasts:
    steps = train.task.ahead.steps * horizons
    before = train.past(steps)
    seen = train.known & (train.labels != 0) & np.isfinite(before)
    came_true = float(((before > 0) == (train.labels > 0))[seen].mean()) if seen.any() else 0.5
    # Of a row that has no past yet it says what it would of no move.
    past: Floats = np.nan_to_num(test.past(steps) / horizons)
    return Forecasts(past, np.where(past > 0, came_true, 1.0 - came_true))
