"""One symbol's series without missing ids: what to publish, what to hold, and what is missing.

    topic        ··|40–41|42|                  newest published: up to id 42
    live                       |47|48–50|      43 to 46 are missing: 47 and 48–50 are held
    REST               |43|44–46|              just those ids: so all go out, in order
    live                    |46–52|            46 and more are there: what is left of it is missing, to be had one by one

A pure state machine: entries with the ids that they hold in (from any connection, in any order, any number of times), entries to
publish out. It asks nobody and waits for nothing; what is missing stands in `gaps`, and whoever runs it fetches that, or gives it up.
"""

import enum
from bisect import bisect_right
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What the machine looks at: the ids that an entry holds, both included."""

    first_id: int
    last_id: int


E = TypeVar("E", bound=Entry)
Span = tuple[int, int]
"""Ids: the first one missing, and the first one there again."""


class Verdict(enum.Enum):
    """What became of a live entry."""

    PUBLISH = "publish"
    HOLD = "hold"
    """Ids before it are missing, or ids of its own that can't be taken from it."""
    DUPLICATE = "duplicate"
    """All its ids are published, or held already."""
    STALE = "stale"
    """Older than the run of ids that is published, or of ids that were given up."""


class IdContinuity(Generic[E]):
    """One symbol. Every method returns what is to be published now, in order, before anything else of the symbol."""

    __slots__ = ("_gaps", "_held", "_held_end", "_newest", "_since", "overlaps")

    def __init__(self, newest_id: int | None = None) -> None:
        """Continue after the topic's newest id; without one, the first entry begins the series."""
        self._newest = newest_id
        self._since = None if newest_id is None else newest_id + 1
        self._held: dict[int, E] = {}
        self._gaps: list[Span] = []
        self._held_end = 0
        self.overlaps = 0
        """How often an entry held ids that were there beside others that weren't: its own are missing still."""

    @property
    def newest_id(self) -> int | None:
        """Up to which id all is published, or was given up."""
        return self._newest

    @property
    def since_id(self) -> int | None:
        """From which id on none is missing, as far as is known here."""
        return self._since

    @property
    def holding(self) -> bool:
        """Something is missing."""
        return bool(self._gaps)

    @property
    def held(self) -> int:
        """How many entries are held behind what is missing."""
        return len(self._held)

    @property
    def gaps(self) -> list[Span]:
        """The spans of ids that are neither published nor held, in order."""
        return list(self._gaps)

    @property
    def first_gap(self) -> Span | None:
        """The one that all else waits for."""
        return self._gaps[0] if self._gaps else None

    def before(self, gap: Span) -> E | None:
        """The entry that is held right before a gap that isn't the first one."""
        return next((entry for entry in self._held.values() if entry.last_id == gap[0] - 1), None)

    def live(self, entry: E) -> tuple[Verdict, list[E]]:
        """Take a live entry."""
        newest = self._newest
        if not self._gaps:
            if newest is None:
                self._since = entry.first_id
            elif entry.first_id != newest + 1:
                return self._out_of_order(entry, newest)
            self._newest = entry.last_id
            return Verdict.PUBLISH, [entry]
        return self._behind(entry)

    def refill(self, entries: Iterable[E]) -> list[E]:
        """Take what was fetched; of it counts what fits into a gap as a whole, and where nothing is missing what goes on."""
        published: list[E] = []
        for entry in entries:
            if self._newest is None or entry.last_id <= self._newest:
                continue
            if self._gaps:
                self._fit(entry)
            elif entry.first_id == self._newest + 1:
                self._newest = entry.last_id
                published.append(entry)
        return published + self._advance()

    def give_up(self) -> tuple[list[Span], list[E]]:
        """Go on without what is missing: the spans that were given up, and what was held behind them."""
        spans, self._gaps = self._gaps, []
        published = [self._held[first] for first in sorted(self._held)]
        self._held.clear()
        if spans:
            self._newest, self._since = self._held_end - 1, spans[-1][1]
        return spans, published

    def _out_of_order(self, entry: E, newest: int) -> tuple[Verdict, list[E]]:
        """Nothing is missing so far."""
        if entry.last_id <= newest:
            return self._known(entry), []
        if entry.first_id <= newest:  # in part: the rest has to come by itself
            self.overlaps += 1
            self._gaps, self._held_end = [(newest + 1, entry.last_id + 1)], entry.last_id + 1
            return Verdict.HOLD, []
        self._gaps, self._held_end = [(newest + 1, entry.first_id)], entry.last_id + 1
        self._held[entry.first_id] = entry
        return Verdict.HOLD, []

    def _behind(self, entry: E) -> tuple[Verdict, list[E]]:
        """Something is missing already."""
        if entry.first_id >= self._held_end:
            if entry.first_id > self._held_end:
                self._gaps.append((self._held_end, entry.first_id))
            self._held[entry.first_id] = entry
            self._held_end = entry.last_id + 1
            return Verdict.HOLD, []
        if entry.last_id >= self._held_end:  # in part: see above
            self.overlaps += 1
            self._gaps.append((self._held_end, entry.last_id + 1))
            self._held_end = entry.last_id + 1
            return Verdict.HOLD, []
        if not self._fit(entry):
            return self._known(entry), []
        published = self._advance()
        return (Verdict.HOLD if entry.first_id in self._held else Verdict.PUBLISH), published

    def _known(self, entry: E) -> Verdict:
        return Verdict.DUPLICATE if self._since is not None and entry.first_id >= self._since else Verdict.STALE

    def _fit(self, entry: E) -> bool:
        """Hold it, if all its ids are missing."""
        place = bisect_right(self._gaps, entry.first_id, key=lambda gap: gap[0]) - 1
        if place < 0:
            return False
        start, end = self._gaps[place]
        after = entry.last_id + 1
        if after > end:
            self.overlaps += entry.first_id < end
            return False
        left = [(start, entry.first_id)] if start < entry.first_id else []
        right = [(after, end)] if after < end else []
        self._gaps[place : place + 1] = [*left, *right]
        self._held[entry.first_id] = entry
        return True

    def _advance(self) -> list[E]:
        """Publish all that now follows without a break."""
        published: list[E] = []
        newest = self._newest
        while newest is not None and (entry := self._held.pop(newest + 1, None)) is not None:
            newest = entry.last_id
            published.append(entry)
        self._newest = newest
        return published
