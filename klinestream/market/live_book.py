"""A symbol's book kept in step with the exchange's, by its own procedure, and the moments at which it is published.

    diffs    |··5··|··6··|··7··|       |··9··|··10··|··11··|         held from the gap on: nothing is published
    book     ─────────────────►|  gap 8 |             └──────────►   goes on with the diffs after the snapshot
    snapshot                                     9 ▲

- Diffs are held until a snapshot is there. One from before the first of them is useless; those that it holds already are dropped; the
  first that is left must hold the update after it. From then on each diff must hold the update after the book's: beyond it is a gap.
- A gap is over with a snapshot from after it, or when all that was missing comes late (at a hand-over two sessions overlap).
- A book whose bid meets its ask is wrong whatever its ids say, and begins anew as after a gap.
- A snapshot is asked for too when little of a side is left within its reach, and each hour of the exchange's time: the book goes on
  meanwhile, is compared with it after the same update, and goes on from it.

Publication follows the exchange's time alone, so that a replay publishes the same: each update's book every 100 ms, else the newest book
of each stretch of time, once an update of a later one has come.
"""

import enum
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from klinestream.market.book_features import SHOWN, order_book
from klinestream.market.events import IdGapState, OrderBook
from klinestream.market.order_book import Book, Diff, Snapshot

EACH_MS = 100
"""The exchange sends a diff as often as that: to publish so often is to publish each."""
HELD_MOST = 150
"""Diffs that are held at most, fifteen seconds of them: more than an answer takes. The oldest of more are useless by then."""
COMPARED_EVERY_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class BookGap:
    """Updates that the book lacks, or in which it became wrong."""

    from_id: int
    to_id: int
    """The first one that is there again, exclusive."""
    after_ms: int | None
    before_ms: int


class Taken(enum.Enum):
    """What became of a diff."""

    APPLIED = enum.auto()
    HELD = enum.auto()
    DUPLICATE = enum.auto()


class Withheld(enum.StrEnum):
    """Why a book was not published."""

    FEW_LEVELS = "few_levels"
    """Of a side fewer levels are known than are published, though there are more."""
    CROSSED = "crossed"
    """A bid is as high as an ask."""


@dataclass(slots=True)
class Change:
    """What a diff or a snapshot led to."""

    taken: Taken = Taken.APPLIED
    books: list[OrderBook] = field(default_factory=list)
    """In the order in which they are to be published."""
    gaps: list[tuple[BookGap, IdGapState, str]] = field(default_factory=list)
    """Each with the state it has come to, and why."""
    withheld: list[Withheld] = field(default_factory=list)
    """One for each book that was not published though its update is there."""


class LiveBook:
    """One symbol's book and what is lacking of it. Pure: it knows no clock but the exchange's."""

    def __init__(self, symbol: str, every_ms: int, bands: Sequence[int]) -> None:
        """Publishes every `every_ms` of the exchange's time, with the depth within `bands` basis points."""
        self._symbol = symbol
        self._every_ms = every_ms
        self._bands = bands
        self._book: Book | None = None
        self._held: list[Diff] = []  # by ids; empty while the book is in step
        self._gap: BookGap | None = None
        self._anew = False  # with a snapshot from after the gap
        self._comparing = False
        self._applied: deque[Diff] = deque(maxlen=HELD_MOST)  # since a snapshot to compare with was asked for
        self._ahead: Snapshot | None = None
        self._compared_ms = 0
        self._stretch = -1
        self._due = False

    @property
    def wanting(self) -> bool:
        """Whether a snapshot is needed: not before the first diff, since one from before it may be useless."""
        return bool(self._held) or (self._comparing and self._ahead is None)

    @property
    def gap(self) -> BookGap | None:
        """Why nothing is published after something was."""
        return self._gap

    def take(self, diff: Diff) -> Change:
        """A diff came, of any session and in any order."""
        change, book = Change(), self._book
        if book is not None and diff.last_id <= book.last_id:
            change.taken = Taken.DUPLICATE
        elif book is not None and not self._held and book.follows(diff):
            self._apply(book, diff, change)
        else:
            self._hold(diff, change)
        return change

    def answer(self, snapshot: Snapshot) -> Change:
        """A snapshot came. It may be useless: then one is wanted still."""
        change = Change()
        if self._held:
            self._adopt(snapshot, change)
        elif self._comparing:
            self._ahead = snapshot
            self._compare(change)
        return change

    def _hold(self, diff: Diff, change: Change) -> None:
        """Keep what doesn't follow, or can't yet."""
        change.taken = Taken.HELD
        place = bisect_left(self._held, diff.last_id, key=_last_id)
        if place < len(self._held) and self._held[place].last_id == diff.last_id:
            change.taken = Taken.DUPLICATE
            return
        self._held.insert(place, diff)
        del self._held[:-HELD_MOST]
        book = self._book
        if book is None:
            return
        if self._is_whole(book):
            self._catch_up(book, change)
            change.taken = Taken.APPLIED
        elif self._gap is None and book.time_ms:  # without a time nothing came of it yet: its snapshot was too old
            if self._due and diff.time_ms // self._every_ms > self._stretch:
                self._publish(book, change)  # its stretch is over, whatever is missing after it
            gap = BookGap(book.last_id + 1, diff.first_id, book.time_ms, diff.time_ms)
            self._begin_gap(gap, f"{gap.to_id - gap.from_id} updates missing", change)

    def _is_whole(self, book: Book) -> bool:
        """Whether nothing is missing between the book and the last diff held."""
        next_id = book.last_id + 1
        for diff in self._held:
            if diff.first_id > next_id:
                return False
            next_id = max(next_id, diff.last_id + 1)
        return True

    def _adopt(self, snapshot: Snapshot, change: Change) -> None:
        """Begin anew with a snapshot, if the diffs held continue it."""
        book = Book(snapshot)
        left = [diff for diff in self._held if diff.last_id > snapshot.last_id]
        if left and not book.follows(left[0]):
            return
        self._book, self._held = book, left
        self._anew, self._compared_ms = True, 0
        self._catch_up(book, change)

    def _catch_up(self, book: Book, change: Change) -> None:
        """Take in what was held, as far as it follows."""
        held, self._held = self._held, []
        for number, diff in enumerate(held):
            if diff.last_id <= book.last_id:
                continue
            if not book.follows(diff):
                self._held = held[number + 1 :]
                self._hold(diff, change)
                return
            if not self._apply(book, diff, change):
                self._held += held[number + 1 :]
                return

    def _apply(self, book: Book, diff: Diff, change: Change) -> bool:
        """Take in what follows; whether the book is sound after it."""
        stretch, after_ms = diff.time_ms // self._every_ms, book.time_ms or None
        if self._due and stretch > self._stretch:
            self._publish(book, change)
        book.change(diff)
        if crossing := book.crossing():
            self._book, self._held = None, [diff]
            change.withheld.append(Withheld.CROSSED)
            self._begin_gap(BookGap(diff.first_id, diff.last_id + 1, after_ms, diff.time_ms), crossing, change)
            return False
        if self._gap is not None:
            self._end_gap(book, self._gap, change)
        self._stretch = max(stretch, self._stretch)
        if self._every_ms == EACH_MS:
            self._publish(book, change)
        else:
            self._due = True
        self._see_to(book, diff, change)
        return True

    def _publish(self, book: Book, change: Change) -> None:
        self._due = False
        if book.shows(SHOWN):
            change.books.append(order_book(self._symbol, book, self._bands))
        else:
            change.withheld.append(Withheld.FEW_LEVELS)

    def _begin_gap(self, gap: BookGap, why: str, change: Change) -> None:
        self._due, self._stretch = False, -1
        self._anew, self._comparing, self._ahead = False, False, None
        self._applied.clear()
        if self._gap is None:
            self._gap = gap
            change.gaps.append((gap, IdGapState.DETECTED, why))

    def _end_gap(self, book: Book, gap: BookGap, change: Change) -> None:
        self._gap = None
        if self._anew:
            change.gaps.append((gap, IdGapState.RESYNCHRONISED, f"by a snapshot at {book.since_id}"))
        else:
            change.gaps.append((gap, IdGapState.REFILLED, "its updates came late"))

    def _see_to(self, book: Book, diff: Diff, change: Change) -> None:
        """Ask for a snapshot to compare with and to go on from, if it is time; compare with one that is there."""
        self._compared_ms = self._compared_ms or diff.time_ms
        if self._comparing:
            self._applied.append(diff)
            self._compare(change)
        elif book.short or diff.time_ms - self._compared_ms >= COMPARED_EVERY_MS:
            self._comparing = True

    def _compare(self, change: Change) -> None:
        """Go on from the snapshot that came, once the book is as far as it is."""
        book, snapshot = self._book, self._ahead
        if book is None or snapshot is None or snapshot.last_id > book.last_id:
            return
        self._ahead = None
        other = Book(snapshot)
        for diff in self._applied:
            if other.follows(diff):
                other.change(diff)
        if other.last_id != book.last_id or other.crossing():
            return  # too old
        other.time_ms = self._compared_ms = book.time_ms
        if not book.agrees(other):
            gap = BookGap(book.since_id + 1, book.last_id + 1, None, book.time_ms)
            change.gaps.append((gap, IdGapState.DETECTED, f"a snapshot at {snapshot.last_id} says otherwise"))
            change.gaps.append((gap, IdGapState.RESYNCHRONISED, f"by the snapshot at {snapshot.last_id}"))
        self._book, self._comparing = other, False
        self._applied.clear()


def _last_id(diff: Diff) -> int:
    return diff.last_id
