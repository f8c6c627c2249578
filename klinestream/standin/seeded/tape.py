"""The seeded market's trades one by one: by id, by time, and the last one before a time."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Ints
from klinestream.standin.market import AggTrade, Trade
from klinestream.standin.seeded.days import Days, Quarters
from klinestream.standin.seeded.listing import Listing
from klinestream.standin.seeded.plans import DAY_SHAPES
from klinestream.standin.seeded.shapes import SHAPE_MS, Shapes

_REELS_HELD = 6000  # a symbol's quarter each: the newest of as many symbols as a market may list


@dataclass(frozen=True, slots=True)
class _Reel:
    """A quarter of an hour of a symbol's trades: `first` to `end` - 1 of all shapes' trades, and what they become."""

    start_ms: int
    first: int
    end: int
    first_agg: int
    shift: int
    offset: int
    weight: int
    first_trade_id: int
    first_agg_id: int
    times: npt.NDArray[np.int32]
    """Of each trade, in ms since `start_ms`."""

    def place_at(self, at_ms: int) -> int:
        """The first trade at `at_ms` or later, among all shapes' trades; `end` where there is none in this quarter."""
        # A number of the array's own type: another would have the whole array converted first.
        ms = np.int32(min(max(at_ms - self.start_ms, 0), SHAPE_MS))
        return self.first + int(self.times.searchsorted(ms))


class Tape:
    """All symbols' trades; symbols are given by their numbers in the list. Nothing is traded before the listing."""

    def __init__(self, shapes: Shapes, days: Days, listings: list[Listing]) -> None:
        """The trades that these shapes and days make."""
        self._shapes = shapes
        self._days = days
        self._info = [listing.info for listing in listings]
        # Bound to the instance, not the class: a market that is let go takes its cache along.
        self._reel = functools.lru_cache(maxsize=_REELS_HELD)(self._newest_reel)

    def trade_id_at(self, symbol: int, at_ms: int) -> int:
        """The id of the first trade at `at_ms` or later."""
        if at_ms <= self._info[symbol].listed_ms:
            return 0
        reel = self._reel(symbol, at_ms // SHAPE_MS)
        return reel.first_trade_id + reel.place_at(at_ms) - reel.first

    def agg_id_at(self, symbol: int, at_ms: int) -> int:
        """The id of the first aggTrade at `at_ms` or later."""
        if at_ms <= self._info[symbol].listed_ms:
            return 0
        reel = self._reel(symbol, at_ms // SHAPE_MS)
        # Trades of one ms are one aggTrade, so the first trade at or after a time begins one.
        return reel.first_agg_id + self._agg_of(reel.place_at(at_ms)) - reel.first_agg

    def best_bid(self, symbol: int, at_ms: int) -> int:
        """Ticks of the best bid that the last trade before `at_ms` left; the best ask is one more."""
        # Each shape opens with a trade at its ms 0, so the last one lies in the quarter of the ms before.
        reel = self._reel(symbol, (at_ms - 1) // SHAPE_MS)
        last = reel.place_at(at_ms) - 1
        ticks = (int(self._shapes.trade_height[last]) >> reel.shift) + reel.offset
        return ticks if self._shapes.trade_maker[last] else ticks - 1

    def trades_between(self, symbol: int, from_ms: int, to_ms: int, limit: int | None) -> list[Trade]:
        """The oldest `limit` trades in `[from_ms, to_ms)`."""
        found: list[Trade] = []
        for reel, room in self._reels_between(symbol, from_ms, to_ms, found, limit):
            first, end = reel.place_at(from_ms), reel.place_at(to_ms)
            found += self._trades(symbol, reel, first, min(end, first + room))
        return found

    def agg_trades_between(self, symbol: int, from_ms: int, to_ms: int, limit: int | None) -> list[AggTrade]:
        """The oldest `limit` aggTrades in `[from_ms, to_ms)`."""
        found: list[AggTrade] = []
        for reel, room in self._reels_between(symbol, from_ms, to_ms, found, limit):
            first, end = self._agg_of(reel.place_at(from_ms)), self._agg_of(reel.place_at(to_ms))
            found += self._agg_trades(symbol, reel, first, min(end, first + room))
        return found

    def trades(self, symbol: int, first_id: int, end_id: int) -> list[Trade]:
        """The trades with the ids `first_id` to `end_id` - 1."""
        found: list[Trade] = []
        for reel in self._reels_of_ids(symbol, first_id, end_id, aggs=False):
            to_place = reel.first - reel.first_trade_id
            found += self._trades(symbol, reel, max(reel.first, first_id + to_place), min(reel.end, end_id + to_place))
        return found

    def agg_trades(self, symbol: int, first_id: int, end_id: int) -> list[AggTrade]:
        """The aggTrades with the ids `first_id` to `end_id` - 1."""
        found: list[AggTrade] = []
        for reel in self._reels_of_ids(symbol, first_id, end_id, aggs=True):
            to_agg = reel.first_agg - reel.first_agg_id
            found += self._agg_trades(symbol, reel, max(reel.first_agg, first_id + to_agg), min(self._agg_of(reel.end), end_id + to_agg))
        return found

    def _trades(self, symbol: int, reel: _Reel, first: int, end: int) -> list[Trade]:
        if first >= end:
            return []
        times = self._shapes.trade_ms[first:end].astype(np.int64) + reel.start_ms
        ids = np.arange(first, end) + (reel.first_trade_id - reel.first)
        sizes = self._prices_and_quantities(symbol, reel, first, end)
        columns = (ids, *sizes, times, times, self._shapes.trade_maker[first:end])
        return list(map(Trade, *(column.tolist() for column in columns)))

    def _agg_trades(self, symbol: int, reel: _Reel, first: int, end: int) -> list[AggTrade]:
        if first >= end:
            return []
        bounds = self._shapes.agg_first[first : end + 1]
        rows, next_rows = bounds[:-1], bounds[1:]
        price, quantity = self._prices_and_quantities(symbol, reel, int(rows[0]), int(next_rows[-1]))
        times = self._shapes.trade_ms[rows].astype(np.int64) + reel.start_ms
        to_id = reel.first_trade_id - reel.first
        columns = (
            *(
                np.arange(first, end) + (reel.first_agg_id - reel.first_agg),
                price[rows - rows[0]],
                np.add.reduceat(quantity, rows - rows[0]),
            ),
            *(rows + to_id, next_rows - 1 + to_id, times, times, self._shapes.trade_maker[rows]),
        )
        return list(map(AggTrade, *(column.tolist() for column in columns)))

    def _prices_and_quantities(self, symbol: int, reel: _Reel, first: int, end: int) -> tuple[Ints, Ints]:
        info = self._info[symbol]
        price = (self._shapes.trade_height[first:end].astype(np.int64) >> reel.shift) + reel.offset
        quantity = self._shapes.trade_quantity[first:end].astype(np.int64) * reel.weight
        return price * info.tick, quantity * info.step

    def _reels_between(
        self, symbol: int, from_ms: int, to_ms: int, found: list[Trade] | list[AggTrade], limit: int | None
    ) -> Iterator[tuple[_Reel, int]]:
        """The reels of a span, as long as less than `limit` is found, each with how many it may add."""
        from_ms = max(from_ms, self._info[symbol].listed_ms)
        if from_ms >= to_ms:
            return
        for reel in self._reels(symbol, from_ms // SHAPE_MS, (to_ms - 1) // SHAPE_MS):
            room = reel.end - reel.first if limit is None else limit - len(found)
            if room <= 0:
                return
            yield reel, room

    def _reels_of_ids(self, symbol: int, first_id: int, end_id: int, *, aggs: bool) -> Iterator[_Reel]:
        if first_id < end_id:
            yield from self._reels(symbol, *(self._days.quarter_of_id(symbol, number, aggs=aggs) for number in (first_id, end_id - 1)))

    def _reels(self, symbol: int, first_quarter: int, last_quarter: int) -> Iterator[_Reel]:
        if first_quarter == last_quarter:
            yield self._reel(symbol, first_quarter)
            return
        for start in range(first_quarter, last_quarter + 1, DAY_SHAPES):
            held = self._days.quarters(np.array([symbol]), start, min(start + DAY_SHAPES, last_quarter + 1))
            yield from (self._reel_of(start + column, held, column) for column in range(held.shape.shape[1]))

    def _newest_reel(self, symbol: int, quarter: int) -> _Reel:
        return self._reel_of(quarter, self._days.quarter(np.array([symbol]), quarter), 0)

    def _reel_of(self, quarter: int, held: Quarters, column: int) -> _Reel:
        first, end = self._shapes.trade_bounds(int(held.shape[0, column]))
        return _Reel(
            start_ms=quarter * SHAPE_MS,
            first=first,
            end=end,
            first_agg=self._agg_of(first),
            shift=int(held.shift[0, column]),
            offset=int(held.offset[0, column]),
            weight=int(held.weight[0, column]),
            first_trade_id=int(held.first_trade_id[0, column]),
            first_agg_id=int(held.first_agg_id[0, column]),
            times=self._shapes.trade_ms[first:end],
        )

    def _agg_of(self, trade: int) -> int:
        """The first aggTrade that begins with this trade or a later one, among all shapes' aggTrades."""
        return int(self._shapes.agg_first.searchsorted(trade))
