"""The ledger of gaps: the records of `crypto_feed_gaps`, folded into what is known of each gap.

    producer a   detected ─► deferred ─────────────► repaired        the gap is repaired,
    producer b          detected ─► unfillable                       whatever order these are read in

Many producers write, a record may come twice, and partitions are read in any order: the state that counts is the furthest
one that any of them reached.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from klinestream.market.codec import decode_gap
from klinestream.market.errors import RecordError
from klinestream.market.events import FeedGap, GapState

GAPS_MOST = 100_000
PRODUCERS_MOST = 16
"""How many producers are named a gap at most: the first by name."""

Span = tuple[int, int]
"""Open times: the first second missing, and the first one there again."""

_RANK = {state: rank for rank, state in enumerate(GapState)}
_OPEN = frozenset({GapState.DETECTED, GapState.DEFERRED})
_FILLED = frozenset({GapState.REFILLED, GapState.REPAIRED})


@dataclass(frozen=True, slots=True)
class Gap:
    """One gap as far as it is known: the record that counts, and all producers that spoke of it, by name."""

    record: FeedGap
    producers: tuple[str, ...]

    @property
    def open(self) -> bool:
        """Somebody may still fill it."""
        return self.record.state in _OPEN

    @property
    def filled(self) -> bool:
        """All its seconds were found: they are in the feed or among the repairs."""
        return self.record.state in _FILLED


class Ledger:
    """Takes records in any order, any number of times; holds `most` gaps.

    What there is no room for is forgotten: filled gaps first, then unfillable, then open ones, the oldest of each first.
    A record of a forgotten gap that comes again is taken as new.
    """

    def __init__(self, most: int = GAPS_MOST) -> None:
        """Nothing is known yet."""
        self._most = most
        self._gaps: dict[str, Gap] = {}
        self.forgotten = 0
        """How many gaps there was no room for."""
        self.unusable = 0
        """How many lines were no record of a gap."""

    def read(self, line: bytes | None) -> None:
        """Take the value of a record as it stands in the topic; one that can't be used is counted, and RecordError raised."""
        try:
            self.add(decode_gap(line or b""))
        except RecordError:
            self.unusable += 1
            raise

    def add(self, record: FeedGap) -> None:
        """Take a record."""
        held = self._gaps.get(record.gap)
        self._gaps[record.gap] = Gap(record, (record.producer,)) if held is None else _joined(held, record)
        if len(self._gaps) > self._most:
            self._make_room()

    def gaps(self) -> list[Gap]:
        """All gaps, by symbol and time."""
        return sorted(self._gaps.values(), key=lambda gap: (gap.record.symbol, gap.record.from_ms, gap.record.to_ms))

    def open_gaps(self) -> list[Gap]:
        """Those that are detected or deferred, and nothing further, by symbol and time."""
        return [gap for gap in self.gaps() if gap.open]

    def holes(self, symbol: str) -> list[Span]:
        """The seconds of a symbol that are missing and that no gap's refill or repair gave, as spans in order.

        A second that two gaps share is found as soon as one of them is filled.
        """
        own = [gap for gap in self._gaps.values() if gap.record.symbol == symbol]
        missing = _merged((gap.record.from_ms, gap.record.to_ms) for gap in own if not gap.filled)
        return _without(missing, _merged((gap.record.from_ms, gap.record.to_ms) for gap in own if gap.filled))

    def _make_room(self) -> None:
        # A tenth at once: to find one costs as much as to find many.
        dropped = heapq.nsmallest(max(len(self._gaps) - self._most, self._most // 10), self._gaps.values(), key=_worth)
        for gap in dropped:
            del self._gaps[gap.record.gap]
        self.forgotten += len(dropped)


def _joined(held: Gap, record: FeedGap) -> Gap:
    producers = held.producers
    if record.producer not in producers:
        producers = tuple(sorted({*producers, record.producer})[:PRODUCERS_MOST])
    return Gap(max(held.record, record, key=_precedence), producers)


def _precedence(record: FeedGap) -> tuple[int | str, ...]:
    """Which of a gap's records counts. The whole content takes part, so that the order of reading doesn't."""
    # How a gap was settled tells the one who did it; later ones only found it so. How far an open one is, tells the newest.
    time_ms = record.time_ms if record.state in _OPEN else -record.time_ms
    trades = -1 if record.trades is None else record.trades
    return _RANK[record.state], time_ms, record.klines, trades, record.proved, record.producer, record.source, record.reason


def _worth(gap: Gap) -> tuple[int, int, str]:
    """What is forgotten first has the least."""
    kind = 0 if gap.filled else 2 if gap.open else 1
    return kind, gap.record.from_ms, gap.record.gap


def _merged(spans: Iterable[Span]) -> list[Span]:
    """The same seconds in as few spans as possible, in order.

    >>> _merged([(5, 7), (1, 3), (3, 4), (6, 9)])
    [(1, 4), (5, 9)]
    """
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _without(spans: list[Span], taken: list[Span]) -> list[Span]:
    """What is left of spans after others are taken out; both merged.

    >>> _without([(1, 9), (12, 14)], [(0, 2), (4, 5), (8, 13)])
    [(2, 4), (5, 8), (13, 14)]
    """
    left: list[Span] = []
    first = 0
    for start, end in spans:
        while first < len(taken) and taken[first][1] <= start:
            first += 1
        begin, place = start, first
        while place < len(taken) and taken[place][0] < end:
            if taken[place][0] > begin:
                left.append((begin, taken[place][0]))
            begin = taken[place][1]
            place += 1
        if begin < end:
            left.append((begin, end))
    return left
