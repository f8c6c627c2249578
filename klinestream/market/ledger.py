"""The ledger of gaps: the records of `crypto_feed_gaps`, folded into what is known of each gap (see `stories`)."""

from collections.abc import Iterable
from typing import Any

from klinestream.market.codec import decode_gap
from klinestream.market.events import FeedGap, GapState
from klinestream.market.stories import GAPS_MOST, PRODUCERS_MOST, Stories, Story

__all__ = ["GAPS_MOST", "PRODUCERS_MOST", "Gap", "Ledger"]

Span = tuple[int, int]
"""Open times: the first second missing, and the first one there again."""
Gap = Story[FeedGap]

_RANK = {state: rank for rank, state in enumerate(GapState)}
_OPEN = frozenset({GapState.DETECTED, GapState.DEFERRED})
_FILLED = frozenset({GapState.REFILLED, GapState.REPAIRED})


class Ledger(Stories[FeedGap]):
    """Gaps of seconds, by symbol and time."""

    def __init__(self, most: int = GAPS_MOST) -> None:
        """Nothing is known yet."""
        super().__init__(decode_gap, most)

    def holes(self, symbol: str) -> list[Span]:
        """The seconds of a symbol that are missing and that no gap's refill or repair gave, as spans in order.

        A second that two gaps share is found as soon as one of them is filled.
        """
        own = [gap for gap in self._gaps.values() if gap.record.symbol == symbol]
        missing = _merged((gap.record.from_ms, gap.record.to_ms) for gap in own if not gap.filled)
        return _without(missing, _merged((gap.record.from_ms, gap.record.to_ms) for gap in own if gap.filled))

    def _is_open(self, record: FeedGap) -> bool:
        return record.state in _OPEN

    def _is_filled(self, record: FeedGap) -> bool:
        return record.state in _FILLED

    def _precedence(self, record: FeedGap) -> tuple[Any, ...]:
        # How a gap was settled tells the one who did it; later ones only found it so. How far an open one is, tells the newest.
        time_ms = record.time_ms if record.state in _OPEN else -record.time_ms
        trades = -1 if record.trades is None else record.trades
        return _RANK[record.state], time_ms, record.klines, trades, record.proved, record.producer, record.source, record.reason

    def _place(self, record: FeedGap) -> tuple[Any, ...]:
        return record.symbol, record.from_ms, record.to_ms

    def _age(self, record: FeedGap) -> int:
        return record.from_ms


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
