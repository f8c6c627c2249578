"""Which of the exchange's own candles have to be fetched, so that those of a symbol and interval follow each other without a hole.

    wanted    |─────────── the newest `history` closed candles ───────────|in progress
    stored    |███████████|                                                 in crypto_candle_history already
    klines                 ·▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒· · ·▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒     published from `since` on, some of them lost
    needed                |█|                  |███|                        what neither holds whole

Nobody keeps a list of requests: what is needed follows from these facts alone, at any time, after any failure.
All spans are half-open, of open times in ms; those of candles lie on their interval's grid.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from klinestream.market import decimals
from klinestream.market.codec import TIME_MOST_MS
from klinestream.market.errors import RecordError
from klinestream.market.events import CandleHistory, HistoryReason
from klinestream.market.intervals import INTERVALS, opened

SETTLE_MS = 2000
"""So long after its end a candle is first asked for: the exchange has it then, mostly."""
NEVER_MS = TIME_MOST_MS
ROW = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
"""REST's columns of a candle, as records hold them; one that says nothing follows."""

_BEGIN_MS = 0
_PRICES, _VOLUMES = slice(1, 5), (5, 7, 9, 10)

Span = tuple[int, int]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Need:
    """Candles that follow each other and are to be fetched."""

    span: Span
    reason: HistoryReason


@dataclass(slots=True)
class Taken:
    """What an answer gave: what of it goes to the topic, a record a run of candles, and what has to be asked for again."""

    records: list[CandleHistory] = field(default_factory=list)
    waiting: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Series:
    """What is known of the candles of one symbol and interval. Whatever is older than the wanted ones is forgotten."""

    symbol: str
    interval: str
    history: int
    """How many closed candles are wanted."""
    refresh_ms: int
    """How old the newest stored one may grow, beyond its own length, before those since are fetched too."""
    stored: list[Span] = field(default_factory=list)
    absent: list[Span] = field(default_factory=list)
    """The exchange has none, and won't."""
    lost: list[Span] = field(default_factory=list)
    """Klines of them are not in the feed."""
    corrected: list[Span] = field(default_factory=list)
    """Klines of them were corrected: what is stored doesn't count."""
    asked: list[Span] = field(default_factory=list)
    """The corrected ones that a request under way asks for."""
    newest_ms: int = -1
    """Where the newest one that was ever stored, or absent, ends; below 0 if there was none."""

    @property
    def length_ms(self) -> int:
        """Length of a candle."""
        return INTERVALS[self.interval]

    def store(self, spans: Iterable[Span]) -> None:
        """The topic holds these candles."""
        self.stored = merged([*self.stored, *spans])
        self._reach(self.stored)

    def lose(self, spans: Iterable[Span]) -> None:
        """Klines of these spans are not in the feed."""
        self.lost = merged([*self.lost, *(aligned(span, self.length_ms) for span in spans)])

    def correct(self, spans: Iterable[Span]) -> None:
        """Klines of these spans are others than those that were published, or came after all."""
        self.corrected = merged([*self.corrected, *(aligned(span, self.length_ms) for span in spans)])

    def wanted(self, now_ms: int) -> Span:
        """The newest closed candles, as many as are wanted."""
        return newest_closed(self.length_ms, self.history, now_ms)

    def needs(self, since_ms: int | None, now_ms: int) -> list[Need]:
        """What has to be fetched now, in order; `since_ms` is when the symbol's klines begin, None if there is none yet."""
        wanted = self.wanted(now_ms)
        self._forget_before(wanted[0])
        missing = without([wanted], merged([*self.stored, *self.absent]))
        corrected = within(self.corrected, wanted)
        lost = common(merged([*missing, *corrected]), self.lost)
        other = without(corrected, lost)
        start = missing
        if not self.is_old(now_ms) and since_ms is not None:
            start = within(missing, (_BEGIN_MS, _first_whole(since_ms, self.length_ms)))
        start = without(start, merged([*lost, *other]))
        reasons = ((HistoryReason.GAP, lost), (HistoryReason.CORRECTION, other), (HistoryReason.START, start))
        return sorted((Need(span, reason) for reason, spans in reasons for span in spans), key=lambda need: need.span)

    def is_old(self, now_ms: int) -> bool:
        """The newest stored candle has grown so old that those since are needed, though klines may hold them."""
        return now_ms >= self._old_ms()

    def look_again_ms(self, since_ms: int | None, now_ms: int) -> int:
        """Until when nothing further is needed, unless something is lost or corrected before."""
        end_ms = self.wanted(now_ms)[1]
        partly = since_ms is None or since_ms > end_ms or within([*self.lost, *self.corrected], (end_ms, NEVER_MS))
        closes_ms = end_ms + self.length_ms + SETTLE_MS if partly else NEVER_MS
        return max(min(closes_ms, self._old_ms()), now_ms + 1)

    def begin(self, needs: Iterable[Need]) -> None:
        """These are being fetched: what is corrected from now on has to be fetched again."""
        asked = merged(need.span for need in needs)
        self.asked, self.corrected = common(self.corrected, asked), without(self.corrected, asked)

    def fail(self) -> None:
        """They were not fetched."""
        self.correct(self.asked)
        self.asked = []

    def take(self, needs: Iterable[Need], rows: Mapping[int, Row], absent_before_ms: int) -> Taken:
        """Sort an answer to a request for the hull of some needs: rows by open time, all of them checked and closed.

        What it lacks is absent where it had closed by `absent_before_ms`, or where it lies before the oldest row that the exchange
        has: the symbol was not listed yet.
        """
        taken = Taken()
        limit_ms = opened(max(absent_before_ms, _BEGIN_MS), self.length_ms)
        if rows and not self.stored:  # as far as is known
            limit_ms = max(limit_ms, min(rows))
        for need in needs:
            there = merged((at, at + self.length_ms) for at in range(*need.span, self.length_ms) if at in rows)
            for span in there:
                run = tuple(rows[at] for at in range(*span, self.length_ms))
                taken.records.append(CandleHistory(self.symbol, self.interval, need.reason, run))
            lacking = without([need.span], there)
            self.store(there)
            self.absent = merged([*self.absent, *within(lacking, (_BEGIN_MS, limit_ms))])
            self._reach(self.absent)
            taken.waiting += within(lacking, (limit_ms, NEVER_MS))
        self.correct(common(taken.waiting, self.asked))
        self.asked = []
        return taken

    def _reach(self, spans: list[Span]) -> None:
        self.newest_ms = max(self.newest_ms, spans[-1][1] if spans else self.newest_ms)

    def _old_ms(self) -> int:
        return self.newest_ms + self.length_ms + self.refresh_ms if self.newest_ms >= 0 else _BEGIN_MS

    def _forget_before(self, time_ms: int) -> None:
        kept = time_ms, NEVER_MS
        self.stored, self.absent = within(self.stored, kept), within(self.absent, kept)
        self.lost, self.corrected = within(self.lost, kept), within(self.corrected, kept)


def newest_closed(length_ms: int, candles: int, now_ms: int) -> Span:
    """The newest so many candles that have closed and had time to settle.

    >>> newest_closed(60_000, 3, 300_000 + SETTLE_MS)
    (120000, 300000)
    """
    end_ms = opened(max(now_ms - SETTLE_MS, _BEGIN_MS), length_ms)
    return max(end_ms - candles * length_ms, _BEGIN_MS), end_ms


@dataclass(frozen=True, slots=True)
class Stock:
    """What is stored of one symbol and interval, beside what is wanted."""

    symbol: str
    interval: str
    candles: int
    from_ms: int | None
    """Open time of the oldest one; None if there is none."""
    to_ms: int | None
    """Where the newest one ends."""
    holes: list[Span]
    """Wanted ones that are missing between stored ones."""
    missing_before: int
    """Wanted ones that are missing before the oldest stored one: all of them if none is stored."""
    closed_since: int
    """How many have closed since the newest stored one."""

    @property
    def missing_in_holes(self) -> int:
        """How many candles the holes have room for."""
        return number_of(self.holes, INTERVALS[self.interval])


def stock(symbol: str, interval: str, stored: Iterable[Span], candles: int, now_ms: int) -> Stock:
    """Compare what is stored of a symbol and interval with the newest so many closed candles."""
    length_ms, spans = INTERVALS[interval], merged(stored)
    wanted = newest_closed(length_ms, candles, now_ms)
    if not spans:
        return Stock(symbol, interval, 0, None, None, [], number_of([wanted], length_ms), 0)
    from_ms, to_ms = spans[0][0], spans[-1][1]
    missing = without([wanted], spans)
    before = number_of(within(missing, (_BEGIN_MS, from_ms)), length_ms)
    since = max(wanted[1] - to_ms, 0) // length_ms
    return Stock(symbol, interval, number_of(spans, length_ms), from_ms, to_ms, within(missing, (from_ms, to_ms)), before, since)


def hull(needs: Iterable[Need]) -> Span:
    """From the first to the last of some needs: a request costs the same however many candles it asks for.

    >>> hull([Need((60, 120), HistoryReason.GAP), Need((0, 20), HistoryReason.START)])
    (0, 120)
    """
    spans = [need.span for need in needs]
    return min(span[0] for span in spans), max(span[1] for span in spans)


def checked_row(row: Any, length_ms: int) -> Row:
    """A row of REST's klines as records hold it; raises RecordError."""
    if not isinstance(row, list) or len(row) <= len(ROW):
        raise RecordError(f"not a row of {len(ROW) + 1} columns or more")
    cells = tuple(row[: len(ROW)])
    opened_ms, closed_ms, trades = cells[0], cells[6], cells[8]
    if any(type(number) is not int or number < 0 for number in (opened_ms, closed_ms, trades)):
        raise RecordError("t, T, n: expected integers from 0")
    if opened_ms % length_ms or closed_ms != opened_ms + length_ms - 1 or closed_ms >= TIME_MOST_MS:
        raise RecordError("t, T: not a candle of the interval")
    first, high, low, last = (_decimal(text) for text in cells[_PRICES])
    for place in _VOLUMES:
        _decimal(cells[place])
    if not 0 < low <= min(first, last) <= max(first, last) <= high <= decimals.PRICE_MOST:
        raise RecordError("l, h: open or close lies outside them, or they are no prices")
    return cells


def checked_rows(rows: Iterable[Any], length_ms: int) -> list[Row]:
    """Rows as records hold them, with what stands in those of REST besides or without it; raises RecordError."""
    return [checked_row([*row, None] if isinstance(row, list) and len(row) == len(ROW) else row, length_ms) for row in rows]


def _decimal(text: Any) -> int:
    try:
        return decimals.parse(text)
    except RecordError as error:
        raise RecordError(f"o, h, l, c, v, q, V, Q: {error}") from None


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same times in as few spans as possible, in order.

    >>> merged([(5, 7), (1, 3), (3, 4), (6, 9)])
    [(1, 4), (5, 9)]
    """
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        elif start < end:
            found.append((start, end))
    return found


def within(spans: Iterable[Span], limits: Span) -> list[Span]:
    """The part of spans that lies within limits.

    >>> within([(1, 4), (5, 9)], (2, 6))
    [(2, 4), (5, 6)]
    """
    cut = ((max(start, limits[0]), min(end, limits[1])) for start, end in spans)
    return [(start, end) for start, end in cut if start < end]


def common(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What two lists of spans share; both merged.

    >>> common([(1, 4), (5, 9)], [(3, 6), (8, 20)])
    [(3, 4), (5, 6), (8, 9)]
    """
    known = list(others)
    return [part for span in spans for part in within(known, span)]


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What is left of spans after others are taken out; both merged.

    >>> without([(1, 9), (12, 14)], [(0, 2), (4, 5), (8, 13)])
    [(2, 4), (5, 8), (13, 14)]
    """
    left = list(spans)
    for start, end in taken:
        left = [part for span in left for part in (within([span], (_BEGIN_MS, start)) + within([span], (end, NEVER_MS)))]
    return left


def aligned(span: Span, length_ms: int) -> Span:
    """The candles that overlap a span.

    >>> aligned((59, 61), 60)
    (0, 120)
    """
    return opened(span[0], length_ms), -(-span[1] // length_ms) * length_ms


def number_of(spans: Iterable[Span], length_ms: int) -> int:
    """How many candles spans hold."""
    return sum(end - start for start, end in spans) // length_ms


def _first_whole(since_ms: int, length_ms: int) -> int:
    """Open time of the first candle that begins then or later."""
    return -(-since_ms // length_ms) * length_ms
