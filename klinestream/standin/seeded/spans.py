"""Stretches of time of some symbols as rows: seconds, minutes, quarters, and from a time until a time."""

import itertools

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.intervals import MINUTE_MS
from klinestream.standin.rows import Rows
from klinestream.standin.seeded.bars import bar_rows, second_rows, trade_rows
from klinestream.standin.seeded.days import Days
from klinestream.standin.seeded.shapes import SHAPE_MINUTES, SHAPE_MS, SHAPE_S, Shapes


class Spans:
    """Answers for any symbols, by their numbers in the list, and any time from their listing on."""

    def __init__(self, shapes: Shapes, days: Days) -> None:
        """The bars that these shapes and days make."""
        self._shapes = shapes
        self._days = days

    def seconds(self, symbols: Ints, first: int, end: int) -> Rows:
        """The seconds `first` to `end` - 1 since 1970."""
        # A quarter at a time: its constants are the same for all its seconds.
        cuts = [first, *range((first // SHAPE_S + 1) * SHAPE_S, end, SHAPE_S), end]
        parts = []
        for start, stop in itertools.pairwise(cuts):
            held = self._days.quarter(symbols, start // SHAPE_S)
            second = np.arange(start, stop) % SHAPE_S
            parts.append(second_rows(self._shapes, held.shape * SHAPE_S + second, held))
        return Rows.joined(parts)

    def minutes(self, symbols: Ints, first: int, end: int) -> Rows:
        """The minutes `first` to `end` - 1 since 1970."""
        quarter, minute = np.divmod(np.arange(first, end), SHAPE_MINUTES)
        held = self._days.quarters(symbols, int(quarter[0]), int(quarter[-1]) + 1).at(quarter - quarter[0])
        return bar_rows(self._shapes.minutes, held.shape * SHAPE_MINUTES + minute, held)

    def quarters(self, symbols: Ints, first: int, end: int) -> Rows:
        """The quarters of an hour `first` to `end` - 1 since 1970."""
        held = self._days.quarters(symbols, first, end)
        return bar_rows(self._shapes.quarters, held.shape, held)

    def whole_minutes(self, symbols: Ints, first: int, end: int) -> Rows:
        """The same minutes, at least one, as one row: by whole quarters as far as may be."""
        first_quarter, end_quarter = -(-first // SHAPE_MINUTES), end // SHAPE_MINUTES
        if first_quarter >= end_quarter:
            return self.minutes(symbols, first, end).total()
        parts = [self.quarters(symbols, first_quarter, end_quarter)]
        if first < first_quarter * SHAPE_MINUTES:
            parts.insert(0, self.minutes(symbols, first, first_quarter * SHAPE_MINUTES))
        if end > end_quarter * SHAPE_MINUTES:
            parts.append(self.minutes(symbols, end_quarter * SHAPE_MINUTES, end))
        return Rows.joined(parts).total()

    def until(self, symbol: int, from_ms: int, at_ms: int) -> Rows:
        """All trades of one symbol in `[from_ms, at_ms)` as one row; `from_ms` is a whole second, a minute if a minute lies within."""
        symbols = np.array([symbol])
        first_minute, end_minute = -(-from_ms // MINUTE_MS), at_ms // MINUTE_MS
        parts = []
        if first_minute < end_minute:
            parts.append(self.whole_minutes(symbols, first_minute, end_minute))
        rest_ms = max(from_ms, end_minute * MINUTE_MS)
        if rest_ms < at_ms:
            quarter = rest_ms // SHAPE_MS
            held = self._days.quarter(symbols, quarter)
            shape = int(held.shape[0, 0])
            start, end = self._shapes.trade_bounds(shape)
            bounds = np.array([rest_ms, at_ms]) - quarter * SHAPE_MS
            first, stop = start + np.searchsorted(self._shapes.trade_ms[start:end], bounds)
            parts.append(trade_rows(self._shapes, shape, int(first), int(stop), held))
        return Rows.joined(parts).total()
