"""Each symbol's days, by closed forms: its plan, price at midnight, shift of heights, weight, and first trade id."""

import functools
from dataclasses import dataclass, fields

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.seeded.listing import Listing
from klinestream.standin.seeded.mix import Purpose, below, draw
from klinestream.standin.seeded.plans import DAY_SHAPES, MOST_CALM, PLANS, Plans
from klinestream.standin.seeded.shapes import HEIGHT_BITS, MOST_SHIFT

# Swing of the price by each octave, in 1/65536: lattices of 1, 2, 4 … 1024 days, each about 1.4 times as far as the last.
_SWINGS = (800, 1100, 1550, 2200, 3100, 4400, 6200, 8800, 12500, 17500, 24000)
_DAY_WEIGHTS = (768, 1280)  # a day's quantities are multiplied by so many 1/1024: three to five quarters
_QUARTERS_HELD = 8
_EXTRA_BITS = 8  # below the tick while the octaves are multiplied, so that cheap coins don't lose a tick to each


@dataclass(frozen=True)
class Quarters:
    """Quarters of an hour of some symbols, each array of shape (symbols, quarters). What the numbers are for: `market`."""

    shape: Ints
    offset: Ints
    """Ticks that are added to the shifted heights."""
    shift: Ints
    weight: Ints
    first_trade_id: Ints
    first_agg_id: Ints

    def of(self, rows: Ints) -> "Quarters":
        """Those of some of the symbols, given by their rows."""
        return Quarters(*(getattr(self, f.name)[rows] for f in fields(self)))

    def at(self, columns: Ints) -> "Quarters":
        """Those of some of the quarters, given by their columns, each as often as it is named."""
        return Quarters(*(getattr(self, f.name)[:, columns] for f in fields(self)))


class Days:
    """Answers for any symbols and days; symbols are given by their numbers in the list."""

    def __init__(self, seed: int, listings: list[Listing], plans: Plans) -> None:
        """The days of these symbols, which follow these plans."""
        self._seed = seed
        self._plans = plans
        self._activity = np.array([listing.activity for listing in listings], np.int64)
        self._base = np.array([listing.base_ticks for listing in listings], np.int64)
        self._weight = np.array([listing.weight for listing in listings], np.int64)
        self._volatility = np.array([listing.volatility for listing in listings], np.int64)
        self._listed = np.array([listing.listed_day for listing in listings], np.int64)
        self._all = np.arange(len(listings))
        # Bound to the instance, not the class: a market that is let go takes its cache along.
        self._held = functools.lru_cache(maxsize=_QUARTERS_HELD)(self._quarter_of_all)

    def quarter(self, symbols: Ints, number: int) -> Quarters:
        """One quarter of these symbols; the newest ones asked for are held, of all symbols, for streams that go second by second."""
        return self._held(number).of(symbols)

    def _quarter_of_all(self, number: int) -> Quarters:
        return self.quarters(self._all, number, number + 1)

    def quarters(self, symbols: Ints, first: int, end: int) -> Quarters:
        """The quarters of an hour `first` to `end` - 1 (since 1970) of these symbols."""
        first_day, end_day = first // DAY_SHAPES, -(-end // DAY_SHAPES)
        day, place = np.divmod(np.arange(first, end), DAY_SHAPES)
        column = day - first_day
        plan, trade_id, agg_id = (values[:, column] for values in self._plans_and_ids(symbols, np.arange(first_day, end_day)))
        midnight = self._midnight_ticks(symbols, np.arange(first_day, end_day + 1))
        shift = self._shift(symbols, midnight)[:, column]
        activity = self._activity[symbols][:, None]
        level, whole_day = (self._plans.level[activity, plan, shift, at] for at in (place, DAY_SHAPES))
        # What the day's walk misses of the next midnight's price comes in equal steps, at each quarter's opening trade.
        step = (midnight[:, column + 1] - midnight[:, column] - whole_day) * place // DAY_SHAPES
        day_weight = _DAY_WEIGHTS[0] + below(
            draw(self._seed, Purpose.DAY_WEIGHT, symbols[:, None], day), _DAY_WEIGHTS[1] - _DAY_WEIGHTS[0] + 1
        )
        weight = np.maximum(self._weight[symbols][:, None] * day_weight >> 10, 1)
        return Quarters(
            shape=self._plans.shape[activity, plan, place],
            offset=midnight[:, column] + step + level,
            shift=np.minimum(shift + self._plans.calm[activity, plan, place], MOST_SHIFT),
            weight=weight * self._plans.weight[activity, plan, place],
            first_trade_id=trade_id + self._plans.trades[activity, plan, place],
            first_agg_id=agg_id + self._plans.aggs[activity, plan, place],
        )

    def _plans_and_ids(self, symbols: Ints, days: Ints) -> tuple[Ints, Ints, Ints]:
        """Plan, first trade id and first aggTrade id of each day: three arrays (symbols, days).

        Before the listing the ids mean nothing.
        """
        block, place = np.divmod(days - self._listed[symbols][:, None], PLANS)
        order = self._plan_order(symbols[:, None], block)
        activity = self._activity[symbols][:, None]
        earlier = np.arange(PLANS) < place[..., None]
        plan = np.take_along_axis(order, place[..., None], axis=-1)[..., 0]
        ids = []
        for counts in (self._plans.trades, self._plans.aggs):
            of_days = counts[:, :, -1]
            in_block = (of_days[activity[..., None], order] * earlier).sum(axis=-1)
            ids.append(block * of_days.sum(axis=1)[activity] + in_block)
        return plan, ids[0], ids[1]

    def _plan_order(self, symbols: Ints, blocks: Ints) -> Ints:
        """The order in which the days of each block follow the plans: the blocks' shape and one axis of 32 more."""
        keys = draw(self._seed, Purpose.BLOCK, symbols[..., None], blocks[..., None], np.arange(PLANS))
        return np.argsort(keys, axis=-1)

    def quarter_of_id(self, symbol: int, number: int, *, aggs: bool) -> int:
        """The quarter of an hour (since 1970) that a trade or aggTrade id belongs to."""
        counts = (self._plans.aggs if aggs else self._plans.trades)[self._activity[symbol]]
        block, within = divmod(number, int(counts[:, -1].sum()))
        order = self._plan_order(np.array(symbol), np.array(block))
        ends = np.cumsum(counts[order, -1])
        day = int(np.searchsorted(ends, within, side="right"))
        within_day = within - int(ends[day] - counts[order[day], -1])
        place = int(np.searchsorted(counts[order[day]], within_day, side="right")) - 1
        return (int(self._listed[symbol]) + block * PLANS + day) * DAY_SHAPES + place

    def _midnight_ticks(self, symbols: Ints, days: Ints) -> Ints:
        """Price at the start of each day, (symbols, days): factors of ever longer waves, the market's and the symbol's own."""
        octave = np.arange(len(_SWINGS))[:, None, None]
        swing = np.array(_SWINGS)[:, None, None]
        lattice, place = np.divmod(days, 1 << octave)
        waves = np.zeros((), np.int64)
        for owner in (-1, symbols[:, None]):  # -1: the market as a whole
            left, right = (below(draw(self._seed, Purpose.LEVEL, owner, octave, lattice + side), 2 * swing + 1) for side in (0, 1))
            waves = waves + ((left * ((1 << octave) - place) + right * place) >> octave) - swing
        price = self._base[symbols][:, None] << _EXTRA_BITS
        # Each part swings by up to `swing`; three quarters of their sum swing as one alone would, in the mean.
        for wave in waves * 3 // 4:
            price = price + (((price >> 8) * wave) >> 8)
        return np.asarray(price >> _EXTRA_BITS, np.int64)

    def _shift(self, symbols: Ints, midnight: Ints) -> Ints:
        """By how many bits heights are shifted so that a shape moves the price by the symbol's volatility, about."""
        ticks = midnight * self._volatility[symbols][:, None] >> 16
        exponent = np.frexp(ticks.astype(np.float64))[1] - 1  # exact: floor(log2) of an integer below 2^53
        return np.asarray(np.clip(HEIGHT_BITS - exponent, 0, MOST_SHIFT - MOST_CALM), np.int64)
