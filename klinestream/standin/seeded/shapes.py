"""Shapes: seeded quarters of an hour, trade by trade, from which every symbol's market is put together.

Each class of activity (RATES) has SHAPES of them, from quiet to wild. A shape's prices are the *heights* of a fine walk
around 0, its quantities small integers. What a symbol makes of them: `market`. Three rules make candles exact:

    second   0         1         2  ...  60        61        62
             ●● ●  ●   (quiet)    ●      (quiet)   (quiet)   ●   ●●
             │                    │                          │   └─ then the price moves on
             │                    └─ a second starts at any height
             └─ always a trade, at ms 0        a minute that opens quiet: its first trade has the carried height

- Each shape opens with a trade at its ms 0. So no price is ever carried over from one shape into the next.
- The first trade of a minute that opens quiet has the carried height. So the open, high and low of any candle are the
  same whether quiet seconds are counted, with the close they carry, or left out, as the exchange does.
- Trades of the same ms form one aggTrade, with one height and one taker side; no two aggTrades share a ms.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Ints
from klinestream.standin.seeded.mix import Purpose, bell, below, doublings, draw

SHAPES = 32
SHAPE_S = 900
SHAPE_MS = SHAPE_S * 1000
SHAPE_MINUTES = SHAPE_S // 60

RATES = (30.0, 10.0, 4.0, 1.5, 0.5, 0.15, 0.05, 0.015)
"""Trades a second of each class of activity, in the mean."""
MEAN_QUANTITY = 130
"""Mean of a trade's quantity, in units of the symbol's weight."""

HEIGHT_BITS = 22
"""A middling shape ends 2^22 from its start, in the standard deviation."""
MOST_SHIFT = HEIGHT_BITS + 2
"""Heights are shifted right by 0 to this many bits to become ticks."""

_ONE = 1 << 16
_MOST_A_SECOND = 950  # trades: below the ms of a second, and the most that was seen of BTCUSDT on an ordinary day
_BURST_DOUBLINGS = 5
_BURST_MEAN = 3.5  # of 2^doublings: 5 * 1/2 + 2^5 / 2^5
_SPLIT_PERCENT = 52  # of the trades that aren't first of their second begin an aggTrade: 0.55 an aggTrade in all
_QUANTITY_UNITS = 64
_QUANTITY_DOUBLINGS = 6


@dataclass(frozen=True)
class Bars:
    """Open, high, low and close heights, and what adds up, of each second, minute or quarter of an hour of all shapes.

    A row of seconds is shape * 900 + second, one of minutes shape * 15 + minute. Rows without trades carry the height
    on: all four are then the last one before.

    `moments[0]` and `moments[1]` are the sums of quantity times (height >> shift) of all trades and of those where the
    buyer took, by shift and row; None for seconds, whose trades are summed when they are asked for.
    """

    open: npt.NDArray[np.int32]
    high: npt.NDArray[np.int32]
    low: npt.NDArray[np.int32]
    close: npt.NDArray[np.int32]
    trades: Ints
    before: Ints
    """Trades of the shape before this row."""
    quantity: Ints
    taker_quantity: Ints
    moments: Ints | None = None


@dataclass(frozen=True)
class Shapes:
    """All shapes of all classes, one after the other: shape number = class * SHAPES + number in its class."""

    trade_ms: npt.NDArray[np.int32]
    """Of each trade: ms since the shape's start, never falling within a shape."""
    trade_height: npt.NDArray[np.int32]
    trade_quantity: npt.NDArray[np.int32]
    trade_maker: npt.NDArray[np.bool_]
    """The buyer is the maker: the seller took."""
    agg_first: Ints
    """First trade of each aggTrade, and the number of trades at the end."""
    second_first: Ints
    """First trade of each second, and the number of trades at the end."""
    seconds: Bars
    minutes: Bars
    quarters: Bars

    def trade_bounds(self, shape: int) -> tuple[int, int]:
        """First trade of a shape and the first after it."""
        return int(self.second_first[shape * SHAPE_S]), int(self.second_first[(shape + 1) * SHAPE_S])


def build(seed: int) -> Shapes:
    """All shapes of a seed: about 1.3 million trades, made in about a second."""
    counts = np.concatenate([_counts(seed, activity) for activity in range(len(RATES))])
    second_first = np.concatenate([[0], np.cumsum(counts)])
    second = np.repeat(np.arange(len(counts)), counts)
    opens_second = np.zeros(len(second), bool)
    opens_second[second_first[:-1][counts > 0]] = True
    pinned = np.zeros(len(second), bool)
    pinned[second_first[:-1][_opens_late(counts)]] = True
    after_pinned = np.concatenate([[False], pinned[:-1]])
    trade = np.arange(len(second))
    begins = opens_second | after_pinned | (below(draw(seed, Purpose.SPLIT, trade), 100) < _SPLIT_PERCENT)
    agg_first = np.flatnonzero(begins)
    agg = np.cumsum(begins) - 1
    agg_height, agg_maker = _heights(seed, second[agg_first], pinned[agg_first])
    height, maker = agg_height[agg], agg_maker[agg]
    quantity_bits = draw(seed, Purpose.QUANTITY, trade)
    quantity = (1 + below(quantity_bits, _QUANTITY_UNITS)) << doublings(quantity_bits, _QUANTITY_DOUBLINGS)
    taken = np.where(maker, 0, quantity)
    moments = _moments(height, quantity, taken, second_first[::60])
    seconds = _second_bars(second_first, height, quantity, taken)
    minutes = _coarser(seconds, 60, moments)
    return Shapes(
        trade_ms=_times(seed, second[agg_first])[agg].astype(np.int32),
        trade_height=height.astype(np.int32),
        trade_quantity=quantity.astype(np.int32),
        trade_maker=maker,
        agg_first=np.append(agg_first, len(second)),
        second_first=second_first,
        seconds=seconds,
        minutes=minutes,
        quarters=_coarser(minutes, SHAPE_MINUTES, moments.reshape(2, MOST_SHIFT + 1, -1, SHAPE_MINUTES).sum(axis=3)),
    )


def _counts(seed: int, activity: int) -> Ints:
    """Trades of each second of all shapes of a class, shape by shape."""
    shape, second = np.divmod(np.arange(SHAPES * SHAPE_S), SHAPE_S)
    # From a quarter of the class's rate to seven quarters of it, evenly in steps.
    liveliness = _ONE * (25 + shape * 150 // (SHAPES - 1)) // 100
    left, right = (below(draw(seed, Purpose.SWELL, activity, shape, second // 60 + side), _ONE) for side in (0, 1))
    swell = _ONE // 4 + left + (right - left) * (second % 60) // 60
    rate = round(RATES[activity] * _ONE / _BURST_MEAN)
    expected = (rate * liveliness >> 16) * swell * 4 // 3 >> 16
    expected = expected * below(draw(seed, Purpose.GUST, activity, shape, second), _ONE) >> 15
    expected <<= doublings(draw(seed, Purpose.BURST, activity, shape, second // 2), _BURST_DOUBLINGS)
    counts = (expected + below(draw(seed, Purpose.COUNT, activity, shape, second), _ONE)) >> 16
    counts = np.clip(counts, second == 0, _MOST_A_SECOND)
    # A carried height and one that moves on: at least two trades.
    return np.where(_opens_late(counts), np.maximum(counts, 2), counts)


def _opens_late(counts: Ints) -> npt.NDArray[np.bool_]:
    """For each second: it holds the first trades of a minute whose first second is quiet."""
    by_minute = counts.reshape(-1, 60) > 0
    first = by_minute & (np.cumsum(by_minute, axis=1) == 1)
    first[:, 0] = False
    return np.asarray(first.reshape(-1), np.bool_)


def _heights(seed: int, second: Ints, pinned: npt.NDArray[np.bool_]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Height and taker side of each aggTrade: a walk within its shape, bids a little below it and asks above."""
    shape = second // SHAPE_S
    activity = shape // SHAPES
    a_shape = np.bincount(activity, minlength=len(RATES)) // SHAPES
    stride = np.array([(1 << HEIGHT_BITS) // math.isqrt(max(int(aggs), 1)) for aggs in a_shape])
    half_spread = (1 << HEIGHT_BITS) >> np.maximum(9 - np.arange(len(RATES)), 3)
    agg = np.arange(len(second))
    walk = np.cumsum(bell(draw(seed, Purpose.WALK, agg), stride[activity]))
    first = np.searchsorted(shape, shape)
    walk -= walk[first]
    # Even shapes end above their start and odd ones below: a day can always be led back.
    last = np.searchsorted(shape, np.arange(len(RATES) * SHAPES), side="right") - 1
    walk *= np.where((walk[last] > 0) == (np.arange(len(last)) % 2 == 0), 1, -1)[shape]
    maker = (draw(seed, Purpose.SIDE, agg) & np.uint64(1)).astype(bool)
    heights = walk + np.where(maker, -half_spread[activity], half_spread[activity])
    # The aggTrade before a pinned one is never pinned itself: a late minute has at least two.
    before = agg[pinned] - 1
    heights[pinned] = heights[before]
    return heights, maker


def _times(seed: int, second: Ints) -> Ints:
    """Ms of each aggTrade since its shape's start: rising strictly; the first of a shape at 0."""
    starts = np.searchsorted(second, second)
    number = np.arange(len(second)) - starts
    count = np.searchsorted(second, second, side="right") - starts
    jitter = below(draw(seed, Purpose.TIME, np.arange(len(second))), 1000 // count)
    ms = (second % SHAPE_S) * 1000 + number * 1000 // count + jitter
    opening = (second % SHAPE_S == 0) & (number == 0)
    return np.where(opening, 0, ms)


def _second_bars(first: Ints, heights: Ints, quantity: Ints, taker: Ints) -> Bars:
    counts = np.diff(first)
    traded = counts > 0
    at = first[:-1][traded]
    close = heights[np.maximum(first[1:] - 1, 0)]  # of the last trade so far: a shape opens with a trade, so it is the shape's own

    def filled(values: Ints) -> npt.NDArray[np.int32]:
        column: npt.NDArray[np.int32] = close.astype(np.int32)
        column[traded] = values
        return column

    def summed(values: Ints) -> Ints:
        column = np.zeros(len(counts), np.int64)
        column[traded] = np.add.reduceat(values, at)
        return column

    return Bars(
        open=filled(heights[at]),
        high=filled(np.maximum.reduceat(heights, at)),
        low=filled(np.minimum.reduceat(heights, at)),
        close=close.astype(np.int32),
        trades=counts,
        before=first[:-1] - np.repeat(first[:-1:SHAPE_S], SHAPE_S),
        quantity=summed(quantity),
        taker_quantity=summed(taker),
    )


def _coarser(bars: Bars, rows: int, moments: Ints) -> Bars:
    """Each `rows` rows as one."""

    def grid(column: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return np.asarray(column.reshape(-1, rows), np.int32)

    return Bars(
        open=grid(bars.open)[:, 0],
        high=grid(bars.high).max(axis=1),
        low=grid(bars.low).min(axis=1),
        close=grid(bars.close)[:, -1],
        trades=bars.trades.reshape(-1, rows).sum(axis=1),
        before=bars.before[::rows],
        quantity=bars.quantity.reshape(-1, rows).sum(axis=1),
        taker_quantity=bars.taker_quantity.reshape(-1, rows).sum(axis=1),
        moments=moments,
    )


def _moments(height: Ints, quantity: Ints, taken: Ints, bounds: Ints) -> Ints:
    """Sums of quantity * (height >> shift) from the trade of each bound to the next: shape (2, shifts, rows)."""
    sums = np.zeros((2, MOST_SHIFT + 1, len(bounds) - 1), np.int64)
    for shift in range(MOST_SHIFT + 1):
        for kind, amount in enumerate((quantity, taken)):
            running = np.concatenate([[0], np.cumsum(amount * (height >> shift))])  # reduceat would take an empty minute for its next trade
            sums[kind, shift] = np.diff(running[bounds])
    return sums
