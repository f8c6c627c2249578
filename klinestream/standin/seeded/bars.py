"""Bars of shapes as rows of a symbol: whole seconds, minutes and quarters, and single trades."""

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.rows import Rows
from klinestream.standin.seeded.days import Quarters
from klinestream.standin.seeded.shapes import Bars, Shapes


def bar_rows(bars: Bars, row: Ints, quarters: Quarters) -> Rows:
    """Rows of minutes or quarters. `row` picks from `bars`, `quarters` holds each row's quarter: both (symbols, rows)."""
    if bars.moments is None:
        raise TypeError("expected bars with moments: seconds go through second_rows")
    return _rows(bars, row, quarters, *bars.moments[:, quarters.shift, row])


def second_rows(shapes: Shapes, row: Ints, quarters: Quarters) -> Rows:
    """Rows of seconds, whose moments are summed here, from their trades."""
    counts = shapes.seconds.trades[row]
    traded = counts > 0
    amounts = counts[traded]
    moments = np.zeros((2, *row.shape), np.int64)
    if len(amounts):
        starts = np.concatenate([[0], np.cumsum(amounts)[:-1]])
        trade = np.repeat(shapes.second_first[row[traded]] - starts, amounts) + np.arange(int(amounts.sum()))
        ticks = shapes.trade_height[trade].astype(np.int64) >> np.repeat(np.broadcast_to(quarters.shift, row.shape)[traded], amounts)
        products = ticks * shapes.trade_quantity[trade]
        moments[0][traded] = np.add.reduceat(products, starts)
        moments[1][traded] = np.add.reduceat(products * ~shapes.trade_maker[trade], starts)
    return _rows(shapes.seconds, row, quarters, *moments)


def trade_rows(shapes: Shapes, shape: int, first: int, end: int, quarters: Quarters) -> Rows:
    """One row of one symbol: the trades `first` to `end` - 1 of a shape; without any, the price of the one before."""
    shift, offset, weight = int(quarters.shift[0, 0]), int(quarters.offset[0, 0]), int(quarters.weight[0, 0])
    ticks = (shapes.trade_height[first:end].astype(np.int64) >> shift) + offset
    quantity = shapes.trade_quantity[first:end].astype(np.int64) * weight
    taken = quantity * ~shapes.trade_maker[first:end]
    if first == end:
        carried = (int(shapes.trade_height[first - 1]) >> shift) + offset
        prices = [carried] * 4
    else:
        prices = [int(ticks[0]), int(ticks.max()), int(ticks.min()), int(ticks[-1])]
    first_id = int(quarters.first_trade_id[0, 0]) + first - shapes.trade_bounds(shape)[0]
    sums = [int(quantity.sum()), int((ticks * quantity).sum()), int(taken.sum()), int((ticks * taken).sum()), end - first, first_id]
    return Rows(*(np.array([[value]], np.int64) for value in prices + sums))


def _rows(bars: Bars, row: Ints, quarters: Quarters, moment: Ints, taker_moment: Ints) -> Rows:
    """The heart of it: heights become ticks, and sums of heights become sums of ticks."""
    quantity, taken = bars.quantity[row], bars.taker_quantity[row]
    return Rows(
        open=(bars.open[row] >> quarters.shift) + quarters.offset,
        high=(bars.high[row] >> quarters.shift) + quarters.offset,
        low=(bars.low[row] >> quarters.shift) + quarters.offset,
        close=(bars.close[row] >> quarters.shift) + quarters.offset,
        base=quantity * quarters.weight,
        quote=(quarters.offset * quantity + moment) * quarters.weight,
        taker_base=taken * quarters.weight,
        taker_quote=(quarters.offset * taken + taker_moment) * quarters.weight,
        trades=bars.trades[row],
        first_id=quarters.first_trade_id + bars.before[row],
    )
