"""Plans: which shapes follow each other through a day, how calm each is, and how its quantities are weighted.

Each class of activity has PLANS of them, from sleepy to wild. Since a plan fixes how many trades its day has, blocks of
PLANS days that each follow every plan once, in an order of their own, all have the same number of trades: the id of any
day's first trade is known without looking at the days before its block.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.seeded.mix import Purpose, bell, below, draw
from klinestream.standin.seeded.shapes import HEIGHT_BITS, MOST_SHIFT, RATES, SHAPE_S, SHAPES, Shapes

PLANS = 32
DAY_SHAPES = 96
MOST_CALM = 1
"""A calm quarter's heights are shifted by up to this many further bits."""
MOST_WEIGHT = 3
"""Quantities of a plan's quarter are multiplied by 1 to this."""

_FAR = 8 << HEIGHT_BITS  # a day that has gone so far looks for shapes that lead back
_HOURS = 24


@dataclass(frozen=True)
class Plans:
    """All plans of all classes, each array by (class, plan, …); a day has 96 places, index 96 its end."""

    shape: Ints
    """(class, plan, 96): number of the shape (of all)."""
    calm: Ints
    """(class, plan, 96): 0 or 1, by how many bits more the heights are shifted."""
    weight: Ints
    """(class, plan, 96): by how much the quantities are multiplied."""
    level: Ints
    """(class, plan, shift, 97): ticks that the day has moved before each place, where heights are shifted by `shift`."""
    trades: Ints
    """(class, plan, 97): trades of the day before each place."""
    aggs: Ints
    """(class, plan, 97): aggTrades of the day before each place."""


def build(seed: int, shapes: Shapes) -> Plans:
    """All plans of a seed."""
    activity, plan, place = np.ogrid[0 : len(RATES), 0:PLANS, 0:DAY_SHAPES]
    first_aggs = np.searchsorted(shapes.agg_first, shapes.second_first[::SHAPE_S])
    calm = below(draw(seed, Purpose.PLAN_CALM, activity, plan, place // 8), MOST_CALM + 1)
    shape = _shapes_of_days(seed, shapes.quarters.close.astype(np.int64), calm)
    close = shapes.quarters.close[shape].astype(np.int64)
    shifts = np.arange(MOST_SHIFT + 1)[:, None]
    moves = close[:, :, None, :] >> np.minimum(shifts + calm[:, :, None, :], MOST_SHIFT)
    return Plans(
        shape=shape,
        calm=calm,
        weight=1 + below(draw(seed, Purpose.PLAN_WEIGHT, activity, plan, place // 4), MOST_WEIGHT),
        level=_before(moves),
        trades=_before(shapes.quarters.trades[shape]),
        aggs=_before(np.diff(first_aggs)[shape]),
    )


def _shapes_of_days(seed: int, close: Ints, calm: Ints) -> Ints:
    """Picks each place's shape: as lively as the plan and the hour, and leading back where the day has gone far."""
    activity, plan = np.ogrid[0 : len(RATES), 0:PLANS]
    picked = np.zeros((len(RATES), PLANS, DAY_SHAPES), np.int64)
    level = np.zeros((len(RATES), PLANS), np.int64)
    for place in range(DAY_SHAPES):
        hour = place * _HOURS // DAY_SHAPES
        # Afternoons of Europe are livelier than nights: the busiest hour is 15 UTC, half a day from the quietest.
        season = 4 - abs((hour - 15 + 12) % _HOURS - 12) * 8 // 12
        mood = bell(draw(seed, Purpose.PLAN_MOOD, activity, plan, hour // 2), 4)
        lively = plan * SHAPES // PLANS + season + mood
        scatter = bell(draw(seed, Purpose.PLAN_SHAPE, activity, plan, place), 4)
        first = activity * SHAPES + np.clip(lively + scatter, 0, SHAPES - 1)
        second = first ^ 1  # as lively, but it goes the other way
        after_first, after_second = (level + (close[candidate] >> calm[:, :, place]) for candidate in (first, second))
        second_leads_back = (np.abs(after_first) > _FAR) & (np.abs(after_second) < np.abs(after_first))
        picked[:, :, place] = np.where(second_leads_back, second, first)
        level = np.where(second_leads_back, after_second, after_first)
    return picked


def _before(amounts: Ints) -> Ints:
    """Sums of what came before each place, along the last axis, and of all at the end."""
    return np.concatenate([np.zeros((*amounts.shape[:-1], 1), np.int64), np.cumsum(amounts, axis=-1)], axis=-1)
