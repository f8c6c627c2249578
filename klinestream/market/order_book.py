"""One symbol's book: a snapshot, and the diffs that continue it.

       bids                                          asks
    ┆ ▁ ▃ ▂ ▅ ▂ ▃ █  best bid  ···  best ask  █ ▂ ▅ ▁ ▃ ┆
    reach                                            reach
    ◄─ not known

A snapshot shows so many levels a side at most. What stands beyond the deepest of them, its reach, nobody tells: a level there becomes
known only if it changes, its neighbours don't. So a side is exact up to its reach, and what lies beyond is left out; a side that a
snapshot shows less of than was asked for is known as a whole. As prices move away from the snapshot a side grows; of more than twice
as many levels as were asked for the farthest are dropped, and the reach with them.

A side is a dict of quantities beside a sorted list of prices, kept by `bisect`: half of what `sortedcontainers` takes for a diff, and a
fifth of numpy (docs/order-books.md). Quantities are summed by buckets of prices too, so that a wide band is some fifty numbers to add, not
thousands.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from klinestream.market import decimals
from klinestream.market.errors import RecordError

Level = tuple[int, int]
"""Price and quantity in 1e-8; in a diff quantity 0 removes the level."""

_KEPT = 2  # times the levels of a snapshot, a side
_LEFT = 4  # below this part of them a side is short; of a hundred more are left than are published
_BUCKETS = 2000  # so many would reach from zero to the best price: 5 basis points each
_NOWHERE = -(1 << 80)  # a reach beyond every price
_NUMBER = r"(?:0|[1-9][0-9]{0,14})\.[0-9]{8}"
_CANONICAL = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*").fullmatch


@dataclass(slots=True)  # not frozen: one is made for every update
class Diff:
    """What the updates `first_id` to `last_id` changed: U and u on the wire."""

    first_id: int
    last_id: int
    time_ms: int
    """When the exchange sent it."""
    bids: Sequence[Level]
    asks: Sequence[Level]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The best levels of both sides after an update, best first."""

    last_id: int
    bids: Sequence[Level]
    asks: Sequence[Level]
    asked: int
    """Levels a side that were asked for: a side that holds fewer holds all there are."""


class Side:
    """The levels of one side up to its reach. Ranks are prices, those of asks negated: the best level's rank is the greatest."""

    __slots__ = ("_asked", "_quantities", "_ranks", "_reach", "_sign", "_sums", "_width")

    def __init__(self, sign: int, levels: Sequence[Level], asked: int) -> None:
        """`sign`: 1 for bids, -1 for asks. `asked`: how many levels were asked for."""
        self._sign = sign
        self._asked = asked
        self._quantities = {sign * price: quantity for price, quantity in levels}
        self._ranks = sorted(self._quantities)
        self._reach = self._ranks[0] if len(levels) >= asked else _NOWHERE
        self._width = max(1, abs(self._ranks[-1]) // _BUCKETS) if levels else 1
        self._sums: dict[int, int] = {}
        self._sum_up()

    def __len__(self) -> int:
        """How many levels are known."""
        return len(self._ranks)

    @property
    def whole(self) -> bool:
        """Whether all levels are known, however far away."""
        return self._reach == _NOWHERE

    @property
    def short(self) -> bool:
        """Whether little is left of what was asked for, though there is more."""
        return not self.whole and len(self) < self._asked // _LEFT

    def change(self, levels: Iterable[Level]) -> None:
        """Set the levels' quantities, as far as they lie within the reach."""
        sign, ranks, quantities, reach, sums, width = self._sign, self._ranks, self._quantities, self._reach, self._sums, self._width
        for price, quantity in levels:
            rank = sign * price
            if rank < reach:
                continue
            if quantity:
                more = quantity - quantities.get(rank, 0)
                if more == quantity:
                    insort(ranks, rank)
                quantities[rank] = quantity
            elif more := -quantities.pop(rank, 0):
                del ranks[bisect_left(ranks, rank)]
            if more:
                bucket = rank // width
                if total := sums.get(bucket, 0) + more:
                    sums[bucket] = total
                else:
                    del sums[bucket]
        if len(ranks) > _KEPT * self._asked:
            self._prune()

    def best(self, count: int) -> list[Level]:
        """The best levels, best first; fewer where fewer are known."""
        return [(self._sign * rank, self._quantities[rank]) for rank in self._ranks[: -count - 1 : -1]]

    def within(self, price: int) -> int | None:
        """The sum of quantities from the best level to this price, inclusive; None where that reaches beyond what is known."""
        rank = self._sign * price
        if rank < self._reach:
            return None
        ranks, bucket = self._ranks, rank // self._width
        edge = ranks[bisect_left(ranks, rank) : bisect_left(ranks, (bucket + 1) * self._width)]
        return sum(map(self._quantities.__getitem__, edge)) + sum(total for place, total in self._sums.items() if place > bucket)

    def agrees(self, other: "Side") -> bool:
        """Whether both say the same of what both know."""
        reach = max(self._reach, other._reach)
        mine, theirs = (side._ranks[bisect_left(side._ranks, reach) :] for side in (self, other))
        return mine == theirs and all(self._quantities[rank] == other._quantities[rank] for rank in mine)

    def _prune(self) -> None:
        dropped = self._ranks[: -self._asked]
        del self._ranks[: -self._asked]
        for rank in dropped:
            del self._quantities[rank]
        self._reach = self._ranks[0]
        self._sum_up()

    def _sum_up(self) -> None:
        sums, width = self._sums, self._width
        sums.clear()
        for rank, quantity in self._quantities.items():
            sums[rank // width] = sums.get(rank // width, 0) + quantity


class Book:
    """Both sides after the update `last_id`; `since_id` is that of the snapshot."""

    __slots__ = ("asks", "bids", "last_id", "since_id", "time_ms")

    def __init__(self, snapshot: Snapshot) -> None:
        """As the snapshot shows it: its time isn't known before a diff continues it."""
        self.bids = Side(1, snapshot.bids, snapshot.asked)
        self.asks = Side(-1, snapshot.asks, snapshot.asked)
        self.last_id = self.since_id = snapshot.last_id
        self.time_ms = 0

    def follows(self, diff: Diff) -> bool:
        """Whether a diff holds the next update: nothing is missing between the book and it."""
        return diff.first_id <= self.last_id + 1 <= diff.last_id

    def change(self, diff: Diff) -> None:
        """Take in a diff that follows. One that begins before the book's id is as good: its quantities are those after its last update."""
        self.bids.change(diff.bids)
        self.asks.change(diff.asks)
        self.last_id, self.time_ms = diff.last_id, diff.time_ms

    def shows(self, count: int) -> bool:
        """Whether the best `count` levels of each side, or all that there are, are known."""
        return all(side.whole or len(side) >= count for side in (self.bids, self.asks))

    @property
    def short(self) -> bool:
        """Whether little is left of a side, though the exchange has more."""
        return self.bids.short or self.asks.short

    def crossing(self) -> str:
        """What is wrong if a bid is as high as an ask; empty if none is."""
        bid, ask = self.bids.best(1), self.asks.best(1)
        if not bid or not ask or bid[0][0] < ask[0][0]:
            return ""
        return f"crossed: best bid {decimals.show(bid[0][0])}, best ask {decimals.show(ask[0][0])}"

    def agrees(self, other: "Book") -> bool:
        """Whether both say the same of what both know; both after the same update."""
        return self.bids.agrees(other.bids) and self.asks.agrees(other.asks)


def levels_of(rows: Any) -> list[Level]:
    """Rows of price and quantity as on the wire; raises RecordError.

    >>> levels_of([["0.0024", "10"]])
    [(240000, 1000000000)]
    """
    if not isinstance(rows, list) or not all(type(row) is list and len(row) == 2 for row in rows):
        raise RecordError("expected rows of price and quantity")
    texts = [text for row in rows for text in row]
    try:
        joined = ",".join(texts)
    except TypeError:
        raise RecordError("expected prices and quantities as text") from None
    # All at once where they are written as the exchange does it: a tenth of the time.
    canonical = joined.count(",") == len(texts) - 1 and _CANONICAL(joined) is not None
    numbers = list(map(int, joined.replace(".", "").split(","))) if canonical else list(map(decimals.parse, texts))
    prices = numbers[::2]
    if prices and not 0 < min(prices) <= max(prices) <= decimals.PRICE_MOST:
        raise RecordError(f"expected prices above 0 and up to {decimals.show(decimals.PRICE_MOST)}")
    return list(zip(prices, numbers[1::2], strict=True))


def snapshot_of(answer: Any, asked: int) -> Snapshot:
    """REST's depth as a snapshot; raises RecordError."""
    if not isinstance(answer, dict):
        raise RecordError("expected an object")
    last_id = answer.get("lastUpdateId")
    if type(last_id) is not int or not 0 <= last_id < 2**63:
        raise RecordError("lastUpdateId: expected an integer from 0")
    bids, asks = (levels_of(answer.get(side)) for side in ("bids", "asks"))
    for side, sign in ((bids, 1), (asks, -1)):
        if any(sign * (better - worse) <= 0 for (better, _), (worse, _) in pairwise(side)) or any(not quantity for _, quantity in side):
            raise RecordError("expected levels best first, each once and with a quantity")
    if len(bids) > asked or len(asks) > asked:
        raise RecordError(f"expected up to {asked} levels a side")
    if Book(found := Snapshot(last_id, bids, asks, asked)).crossing():
        raise RecordError("expected bids below asks")
    return found
