"""Stories told by many: records of which each says how far something has come, folded into the one that counts of each.

    producer a   detected ─► deferred ─────────────► repaired        the gap is repaired,
    producer b          detected ─► unfillable                       whatever order these are read in

Many producers write, a record may come twice, and partitions are read in any order: the state that counts is the furthest
one that any of them reached.
"""

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from klinestream.market.errors import RecordError

GAPS_MOST = 100_000
PRODUCERS_MOST = 16
"""How many producers are named a gap at most: the first by name."""


class Told(Protocol):
    """A record of a ledger."""

    @property
    def gap(self) -> str:
        """Of what it tells."""

    @property
    def producer(self) -> str:
        """Who tells it."""


R = TypeVar("R", bound=Told)


@dataclass(frozen=True, slots=True)
class Story(Generic[R]):
    """One gap as far as it is known: the record that counts, and all producers that spoke of it, by name."""

    record: R
    producers: tuple[str, ...]
    open: bool
    """Somebody may still fill it."""
    filled: bool
    """All of it was found: it is in the feed or among the repairs."""


class Stories(ABC, Generic[R]):
    """Takes records in any order, any number of times; holds `most` gaps.

    What there is no room for is forgotten: filled gaps first, then unfillable, then open ones, the oldest of each first.
    A record of a forgotten gap that comes again is taken as new.
    """

    def __init__(self, decode: Callable[[bytes], R], most: int = GAPS_MOST) -> None:
        """Nothing is known yet."""
        self._decode = decode
        self._most = most
        self._gaps: dict[str, Story[R]] = {}
        self.forgotten = 0
        """How many gaps there was no room for."""
        self.unusable = 0
        """How many lines were no record of a gap."""

    @abstractmethod
    def _is_open(self, record: R) -> bool:
        """Somebody may still fill it."""

    @abstractmethod
    def _is_filled(self, record: R) -> bool:
        """All of it was found."""

    @abstractmethod
    def _precedence(self, record: R) -> tuple[Any, ...]:
        """Which of a gap's records counts: the greatest. The whole content takes part, so that the order of reading doesn't."""

    @abstractmethod
    def _place(self, record: R) -> tuple[Any, ...]:
        """How gaps are sorted."""

    @abstractmethod
    def _age(self, record: R) -> int:
        """The least is forgotten first."""

    def read(self, line: bytes | None) -> None:
        """Take the value of a record as it stands in the topic; one that can't be used is counted, and RecordError raised."""
        try:
            self.add(self._decode(line or b""))
        except RecordError:
            self.unusable += 1
            raise

    def add(self, record: R) -> None:
        """Take a record."""
        held = self._gaps.get(record.gap)
        producers = {record.producer} if held is None else {*held.producers, record.producer}
        counts = record if held is None else max(held.record, record, key=self._precedence)
        named = tuple(sorted(producers)[:PRODUCERS_MOST])
        self._gaps[record.gap] = Story(counts, named, self._is_open(counts), self._is_filled(counts))
        if len(self._gaps) > self._most:
            self._make_room()

    def gaps(self) -> list[Story[R]]:
        """All gaps, in order."""
        return sorted(self._gaps.values(), key=lambda gap: self._place(gap.record))

    def open_gaps(self) -> list[Story[R]]:
        """Those that somebody may still fill, in order."""
        return [gap for gap in self.gaps() if gap.open]

    def _make_room(self) -> None:
        # A tenth at once: to find one costs as much as to find many.
        dropped = heapq.nsmallest(max(len(self._gaps) - self._most, self._most // 10), self._gaps.values(), key=self._worth)
        for gap in dropped:
            del self._gaps[gap.record.gap]
        self.forgotten += len(dropped)

    def _worth(self, gap: Story[R]) -> tuple[int, int, str]:
        """What is forgotten first has the least."""
        kind = 0 if gap.filled else 2 if gap.open else 1
        return kind, self._age(gap.record), gap.record.gap
