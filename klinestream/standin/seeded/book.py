"""A plausible order book in closed form: what stands on each price at any time, without stepping through updates.

    asks   rungs ┆ ┆  ┆   ┆ ┆      each rung holds a price near its place and a quantity that changes now and then,
           top   █                 each at a pace of its own
    bids   top   █
           rungs ┆   ┆ ┆  ┆  ┆

The book is a function of the slot of time. A diff is the difference of two books, so a snapshot and the diffs after it
give every later book exactly. Update ids are a function of the slot too: each has one at least, and they are contiguous.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.market import BookTicker, DepthDiff, DepthSnapshot, Levels
from klinestream.standin.seeded.mix import Purpose, below, doublings, draw

RUNGS = 1000
"""Levels a side, besides the top."""
_UPDATES = 16  # update ids a slot, in the mean
_PACE_BITS = 5  # a rung's quantity changes every 2^5 to 2^12 slots
_PACES = 8
_TOP_UNITS = 4000  # quantities, in units of the symbol's weight
_RUNG_UNITS = 500
_RUNG_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Ladder:
    """What makes the book of one symbol: `symbol` its number, sizes in 1e-8, `spacing` the rungs' distance in ticks."""

    seed: int
    symbol: int
    tick: int
    lot: int
    """1e-8 that one unit of quantity stands for."""
    spacing: int
    slot_ms: int
    """How often the book changes; divides a second or is a multiple of one."""


@dataclass(frozen=True, slots=True)
class Book:
    """Both sides after a slot's updates: prices in ticks, quantities in units, best first; arrays of one length a side."""

    bid: Ints
    bid_quantity: Ints
    ask: Ints
    ask_quantity: Ints


def last_update_id(ladder: Ladder, slot: int) -> int:
    """Id of the last update up to the slot's end. The next slot's first one is one more."""
    return slot * _UPDATES + int(below(draw(ladder.seed, Purpose.UPDATE, ladder.symbol, slot), _UPDATES))


def book(ladder: Ladder, slot: int, best_bid: int) -> Book:
    """The book of a slot whose best bid is this many ticks; the best ask is one tick above."""
    return Book(*_side(ladder, slot, best_bid, -1), *_side(ladder, slot, best_bid + 1, 1))


def ticker(ladder: Ladder, slot: int, best_bid: int) -> BookTicker:
    """The top of the same book."""
    return BookTicker(
        update_id=last_update_id(ladder, slot),
        bid=best_bid * ladder.tick,
        bid_quantity=_top_quantity(ladder, slot, -1) * ladder.lot,
        ask=(best_bid + 1) * ladder.tick,
        ask_quantity=_top_quantity(ladder, slot, 1) * ladder.lot,
        time_ms=slot * ladder.slot_ms,
    )


def diff(ladder: Ladder, before: tuple[int, Book], after: tuple[int, Book]) -> DepthDiff:
    """What changed from one slot's book to a later slot's."""
    (slot_before, old), (slot, new) = before, after
    return DepthDiff(
        first_update_id=last_update_id(ladder, slot_before) + 1,
        last_update_id=last_update_id(ladder, slot),
        bids=_changes(ladder, (old.bid, old.bid_quantity), (new.bid, new.bid_quantity))[::-1],
        asks=_changes(ladder, (old.ask, old.ask_quantity), (new.ask, new.ask_quantity)),
        event_ms=slot * ladder.slot_ms,
    )


def snapshot(ladder: Ladder, slot: int, full: Book, limit: int) -> DepthSnapshot:
    """The best `limit` levels a side."""
    return DepthSnapshot(
        last_update_id=last_update_id(ladder, slot),
        bids=_levels(ladder, full.bid[:limit], full.bid_quantity[:limit]),
        asks=_levels(ladder, full.ask[:limit], full.ask_quantity[:limit]),
    )


def _side(ladder: Ladder, slot: int, best: int, direction: int) -> tuple[Ints, Ints]:
    """Prices and quantities of one side, best first. `direction`: 1 for asks, which rise, -1 for bids."""
    rung = best // ladder.spacing + direction * np.arange(RUNGS)
    place = draw(ladder.seed, Purpose.RUNG, ladder.symbol, rung)
    price = rung * ladder.spacing + below(place, ladder.spacing)
    behind = (direction * (price - best) > 0) & (price > 0)
    rung, place, price = rung[behind], place[behind], price[behind]
    pace = _PACE_BITS + (place & np.uint64(_PACES - 1)).astype(np.int64)
    epoch = (slot + (place >> np.uint64(8) & np.uint64(0xFFFF)).astype(np.int64)) >> pace
    bits = draw(ladder.seed, Purpose.RUNG_QUANTITY, ladder.symbol, rung, epoch, direction)
    quantity = (1 + below(bits, _RUNG_UNITS)) << doublings(bits, _RUNG_DOUBLINGS)
    return np.append(best, price), np.append(_top_quantity(ladder, slot, direction), quantity)


def _top_quantity(ladder: Ladder, slot: int, direction: int) -> int:
    return 1 + int(below(draw(ladder.seed, Purpose.TOP_QUANTITY, ladder.symbol, slot, direction), _TOP_UNITS))


def _changes(ladder: Ladder, old: tuple[Ints, Ints], new: tuple[Ints, Ints]) -> Levels:
    """New or changed levels, and those that are gone with quantity 0, by rising price."""
    prices = np.union1d(old[0], new[0])
    quantities = np.zeros((2, len(prices)), np.int64)
    for row, (price, quantity) in zip(quantities, (old, new), strict=True):
        row[np.searchsorted(prices, price)] = quantity
    changed = quantities[0] != quantities[1]
    return _levels(ladder, prices[changed], quantities[1][changed])


def _levels(ladder: Ladder, prices: Ints, quantities: Ints) -> Levels:
    # Python's integers: a rung of a cheap coin passes 9.2e10 units.
    return tuple((price * ladder.tick, quantity * ladder.lot) for price, quantity in zip(prices.tolist(), quantities.tolist(), strict=True))
