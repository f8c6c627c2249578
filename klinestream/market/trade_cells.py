"""Cells: what trades add up to, exactly, so that cells add up too.

    trades   │·· ·│    │·  ····│       │    a cell is a column of integers: one for each field below
    cells    │ a  │ -  │   b   │ -     │    `-`: without trades
    windows  │── a+-+b+- ──────────────│    of any cells that follow each other

Prices and quantities are taken apart in whole units and remainders of 1e-8, products of the two in five digits of base 1e8.
Nothing is carried over before the end, so that a sum of differences of prefix sums is exact too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from klinestream.market.decimals import UNIT, Ints
from klinestream.market.trade_batch import BUYER_TOOK, NOBODY_KNOWS
from klinestream.market.trade_seconds import products

Cells = Ints
"""(FIELDS, any shape)."""

COUNT = 0
PRICE = 1  # and its remainders: of each trade, so that one that stands for several counts as often
BASE = 3  # and remainders
QUOTE = 5  # five digits, the lowest first, of 1e-16
TAKER_BASE = 10  # and remainders; of buyers who took
TAKER_QUOTE = 12  # five digits
UNKNOWN = 17  # trades whose taker nobody knows
FINER = 18  # trades whose quote volume has more than eight decimals
SUMS = slice(0, 19)
FIRST_ID, LOW = 19, 20
LEASTS = slice(19, 21)
LAST_ID, HIGH, PROOF = 21, 22, 23  # PROOF: the weakest
MOSTS = slice(21, 24)
OPEN = 24
CLOSE, SOURCE, NEWEST_PROOF = 25, 26, 27  # carried on through cells without trades
NEWEST = slice(25, 28)
FIELDS = 28

NEVER_LEAST = np.iinfo(np.int64).max
NO_ID = -1


def empty(*shape: int) -> Cells:
    """Cells without trades."""
    cells = np.zeros((FIELDS, *shape), np.int64)
    cells[LEASTS], cells[LAST_ID] = NEVER_LEAST, NO_ID
    return cells


def single(ids: Ints, prices: Ints, quantities: Ints, *, sides: Ints, sources: Ints, proofs: Ints) -> Cells:
    """A cell for each trade, or for consecutive ones that the source gives as one."""
    first, last = ids
    whole, rest = quantities
    count = last - first + 1
    taken = sides == BUYER_TOOK
    quote = products(prices, whole, rest)
    cells = np.empty((FIELDS, len(prices)), np.int64)
    cells[COUNT] = count
    cells[PRICE], cells[PRICE + 1] = prices // UNIT * count, prices % UNIT * count
    cells[BASE], cells[BASE + 1] = whole, rest
    cells[QUOTE : QUOTE + 5] = quote
    cells[TAKER_BASE : TAKER_BASE + 2] = quantities * taken
    cells[TAKER_QUOTE : TAKER_QUOTE + 5] = cells[QUOTE : QUOTE + 5] * taken
    cells[UNKNOWN] = sides == NOBODY_KNOWS
    cells[FINER] = count * (cells[QUOTE] != 0)
    cells[FIRST_ID], cells[LAST_ID] = first, last
    cells[LOW] = cells[HIGH] = cells[OPEN] = cells[CLOSE] = prices
    cells[SOURCE] = sources
    cells[PROOF] = cells[NEWEST_PROOF] = proofs
    return cells


def joined(cells: Cells, starts: Ints) -> Cells:
    """Cells added up from each start to the next; none of them is without trades."""
    if len(starts) == cells.shape[1]:
        return cells
    ends = np.append(starts[1:], cells.shape[1]) - 1
    found = np.empty((FIELDS, len(starts)), np.int64)
    found[SUMS] = np.add.reduceat(cells[SUMS], starts, axis=1)
    found[LEASTS] = np.minimum.reduceat(cells[LEASTS], starts, axis=1)
    found[MOSTS] = np.maximum.reduceat(cells[MOSTS], starts, axis=1)
    found[OPEN], found[NEWEST] = cells[OPEN, starts], cells[NEWEST, ends]
    return found


def added(older: Cells, newer: Cells) -> Cells:
    """Cell by cell the sum of two; the newer ones have trades."""
    found = np.empty_like(older)
    found[SUMS] = older[SUMS] + newer[SUMS]
    found[LEASTS] = np.minimum(older[LEASTS], newer[LEASTS])
    found[MOSTS] = np.maximum(older[MOSTS], newer[MOSTS])
    found[OPEN] = np.where(older[COUNT] > 0, older[OPEN], newer[OPEN])
    found[NEWEST] = newer[NEWEST]
    return found


def carry_on(cells: Cells, known: Any) -> None:
    """Give cells without trades the close, source and proof of the one before; `known`: where there is nothing to carry."""
    places = np.maximum.accumulate(np.where(known | (cells[COUNT] > 0), np.arange(cells.shape[1]), 0))
    cells[NEWEST] = cells[NEWEST][:, places]


def spans(cells: Cells, ends: Ints, length: int) -> Cells:
    """The sums of the `length` cells before each of `ends`."""
    found = np.empty((FIELDS, len(ends)), np.int64)
    before = np.zeros((SUMS.stop, cells.shape[1] + 1), np.int64)
    np.cumsum(cells[SUMS], axis=1, out=before[:, 1:])
    # Sums of all that came before may run over; their differences are right even so.
    found[SUMS] = before[:, ends] - before[:, ends - length]
    found[LEASTS] = _slid(np.minimum, cells[LEASTS], length)[:, ends - length]
    found[MOSTS] = _slid(np.maximum, cells[MOSTS], length)[:, ends - length]
    found[OPEN], found[NEWEST] = 0, cells[NEWEST][:, ends - 1]
    return found


def _slid(reduce: Callable[..., Any], values: Ints, length: int) -> Ints:
    """Of each place the least, or the greatest, of it and the `length` - 1 after it; at the end of what is there."""
    found, have = values.copy(), 1
    while have < length:
        step = min(have, length - have)
        if step < found.shape[1]:
            found[:, :-step] = reduce(found[:, :-step], found[:, step:])
        have += step
    return found


def integer(digits: list[int]) -> int:
    """Digits as one integer: of base 1e8, the lowest first, if there are five; else whole units and a remainder.

    >>> integer([2, 5]), integer([5, 2, 0, 0, 0])
    (200000005, 200000005)
    """
    if len(digits) == 2:
        return digits[0] * UNIT + digits[1]
    total = 0
    for digit in reversed(digits):
        total = total * UNIT + digit
    return total
