"""One symbol's series without holes: what to publish, what to hold, what is missing, and what proves it.

    topic        ··|10|11|                     newest published: 11, up to trade 500
    live                     |14: 507–509|     12 and 13 are missing, with trades 501 to 506: 14 is held
    REST               |12: 2|13: 4|           2 + 4 trades: just those, so 12, 13 and 14 are published, in order
    or, live                 |14: 501–509|     no trade is missing: 12 and 13 were quiet and are derived, without REST

A pure state machine: klines in (from any connection, in any order, any number of times), records to publish out. It asks
nobody and waits for nothing; what is missing stands in `gaps`, and whoever runs it fetches that, or gives it up.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from klinestream.market.events import SECOND_MS, Origin

HELD_MOST = 600
"""How many klines are held behind a gap at most; whoever runs the machine gives a gap up long before."""


class Second(Protocol):
    """What the machine looks at in a closed 1 s kline."""

    open_time_ms: int
    close: str
    """As on the wire; carried on through quiet seconds."""
    trades: int
    first_trade_id: int
    """-1 where no trade fell in the second, and in a kline of REST, which doesn't tell it."""
    last_trade_id_within: int


S = TypeVar("S", bound=Second)
Span = tuple[int, int]
"""Open times: the first second missing, and the first one there again."""


class Verdict(enum.Enum):
    """What became of a live kline."""

    PUBLISH = "publish"
    HOLD = "hold"
    """Seconds before it are missing."""
    DUPLICATE = "duplicate"
    """Of a second that is published, or held already."""
    STALE = "stale"
    """Older than the run of seconds that is published; or of a span that was given up."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest record of a symbol in the topic."""

    open_time_ms: int
    close: str
    last_trade_id: int | None


@dataclass(slots=True)  # not frozen: one is made for every kline, and that would take three times as long
class Publish(Generic[S]):
    """A record to publish. `kline` is None for a derived second: no trades, `close` four times."""

    open_time_ms: int
    kline: S | None
    close: str
    origin: Origin
    first_trade_id: int | None
    last_trade_id_within: int | None
    last_trade_id: int | None
    counted: bool = False
    """Of REST, with as many trades as ids were missing when it was published."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A span of seconds that the series goes on without."""

    from_ms: int
    to_ms: int
    trades: int | None
    """How many trades fell in it, where ids tell: what is obtained of it later is proved by that."""


class Continuity(Generic[S]):
    """One symbol. Every method returns what is to be published now, in order, before anything else of the symbol."""

    __slots__ = ("_close", "_fetched", "_held", "_last_trade_id", "_newest", "_since", "doubtful", "id_breaks", "refuted", "unproved")

    def __init__(self, tail: Tail | None = None) -> None:
        """Continue after the topic's newest record; without one, the first kline begins the series."""
        self._newest = tail.open_time_ms if tail else None
        self._since = self._newest  # open time of the first second of the contiguous run that is known here
        self._close = tail.close if tail else ""
        self._last_trade_id = tail.last_trade_id if tail else None
        self._held: dict[int, S] = {}
        self._fetched: dict[int, S] = {}
        self.unproved: Span | None = None
        """Seconds of REST that are published, and whose number of trades no trade has proved yet."""
        self.doubtful: list[Span] = []
        """Such seconds that a later trade contradicts, or that none can prove any more; for the caller to take out."""
        self.refuted = 0
        """How often an answer of REST had another number of trades than were missing: it is not used, ask again."""
        self.id_breaks = 0
        """How often a live kline's first trade didn't follow the newest one, though no second is missing."""

    @property
    def newest_ms(self) -> int | None:
        """Open time of the newest published second."""
        return self._newest

    @property
    def holding(self) -> bool:
        """Klines are held behind a gap."""
        return bool(self._held)

    @property
    def full(self) -> bool:
        """No more can be held: give up what is missing."""
        return len(self._held) >= HELD_MOST

    @property
    def gaps(self) -> list[Span]:
        """The spans of seconds that are neither published nor held, oldest first."""
        found: list[Span] = []
        if self._newest is None:
            return found
        expected = self._newest + SECOND_MS
        for opened in sorted(self._held):
            if opened > expected:
                found.append((expected, opened))
            expected = opened + SECOND_MS
        return found

    def live(self, kline: S) -> tuple[Verdict, list[Publish[S]]]:
        """Take a live kline."""
        opened = kline.open_time_ms
        newest = self._newest
        if newest is None:
            self._since = opened
        elif opened <= newest:
            return (Verdict.DUPLICATE if self._since is not None and opened >= self._since else Verdict.STALE), []
        elif opened in self._held:
            return Verdict.DUPLICATE, []
        elif opened != newest + SECOND_MS or self._held:
            self._held[opened] = kline
            published = self._advance()
            return (Verdict.HOLD if opened in self._held else Verdict.PUBLISH), published
        return Verdict.PUBLISH, [self._as_live(kline)]

    def refill(self, klines: Iterable[S]) -> list[Publish[S]]:
        """Take closed klines that REST gave."""
        for kline in klines:
            if self._newest is not None and kline.open_time_ms > self._newest and kline.open_time_ms not in self._held:
                self._fetched[kline.open_time_ms] = kline
        return self._advance()

    def seen(self, tail: Tail) -> list[Publish[S]]:
        """Take notice of a newer record in the topic, which another producer wrote: what lies before it is there."""
        if self._newest is not None and tail.open_time_ms <= self._newest:
            return []
        self._newest, self._close, self._last_trade_id = tail.open_time_ms, tail.close, tail.last_trade_id
        if self._since is None:
            self._since = tail.open_time_ms
        self._doubt()
        self._forget_published()
        return self._advance()

    def give_up(self) -> tuple[list[GivenUp], list[Publish[S]]]:
        """Go on without what is missing: the spans that were given up, and what was held behind them."""
        spans: list[GivenUp] = []
        published: list[Publish[S]] = []
        self._fetched.clear()
        while self._held:
            opened = min(self._held)
            if self._newest is not None and opened > self._newest + SECOND_MS:
                spans.append(GivenUp(self._newest + SECOND_MS, opened, self._trades_before(opened)))
                self._newest, self._since, self._last_trade_id = opened - SECOND_MS, opened, None
                self._doubt()
            published += self._advance()
        return spans, published

    def _trades_before(self, opened: int) -> int | None:
        """How many trades are missing before a held kline, where the klines from it to the next trade are there."""
        while (kline := self._held.get(opened)) is not None:
            if kline.first_trade_id >= 0:
                return self._missing_trades(opened)
            opened += SECOND_MS
        return None

    def _advance(self) -> list[Publish[S]]:
        """Publish all that now follows without a break."""
        published: list[Publish[S]] = []
        while self._held:
            if self._newest is not None and (kline := self._held.pop(self._newest + SECOND_MS, None)) is not None:
                published.append(self._as_live(kline))
            elif (more := self._bridge()) is not None:
                published += more
            else:
                break
        self._forget_published()
        return published

    def _bridge(self) -> list[Publish[S]] | None:
        """All from the newest second up to the next trade that is held, or to the next kline where there is none.

        None if it can't be proved yet.
        """
        trading = [opened for opened, kline in self._held.items() if kline.first_trade_id >= 0]
        end = min(trading, default=min(self._held))
        begin = (self._newest or 0) + SECOND_MS  # something is held, so something was published
        between = range(begin, end, SECOND_MS)
        missing = self._missing_trades(end)
        if missing == 0:
            return [self._as_live(self._held.pop(t)) if t in self._held else self._as_derived(t) for t in between]
        if not all(t in self._held or t in self._fetched for t in between):
            return None
        answered = sum(self._fetched[t].trades for t in between if t not in self._held)
        if missing is not None and missing != answered:
            self.refuted += 1
            self._fetched.clear()
            return None
        if self._last_trade_id is None and trading:
            # Nothing tells where the missing trades begin but where they end.
            self._last_trade_id = self._held[end].first_trade_id - 1 - answered
        elif missing is None and self._last_trade_id is not None and answered:
            self.unproved = (self.unproved[0] if self.unproved else begin, end)
        counted = missing is not None
        return [self._as_live(self._held.pop(t)) if t in self._held else self._as_rest(self._fetched[t], counted) for t in between]

    def _missing_trades(self, end: int) -> int | None:
        """How many trades lie between the newest published one and those of a held kline; None if nobody knows."""
        first = self._held[end].first_trade_id
        if first < 0 or self._last_trade_id is None:
            return None
        missing = first - self._last_trade_id - 1
        # Ids that run backwards: the exchange began to count anew, or what is published is wrong. They prove nothing.
        return missing if missing >= 0 else None

    def _as_live(self, kline: S) -> Publish[S]:
        first, last = kline.first_trade_id, kline.last_trade_id_within
        if first >= 0:
            if self._last_trade_id != first - 1 and self._last_trade_id is not None:
                self.id_breaks += 1
                self._doubt()
            self.unproved = None
            self._last_trade_id = last
        return self._publish(kline.open_time_ms, kline, kline.close, Origin.LIVE, first, last)

    def _as_rest(self, kline: S, counted: bool) -> Publish[S]:
        """REST tells how many trades there were, and the ids follow from those before."""
        before = self._last_trade_id
        first: int | None = -1
        last: int | None = -1
        if kline.trades and before is None:
            first = last = None
        elif kline.trades and before is not None:
            first, last = before + 1, before + kline.trades
            self._last_trade_id = last
        record = self._publish(kline.open_time_ms, kline, kline.close, Origin.REST, first, last)
        record.counted = counted
        return record

    def _as_derived(self, opened: int) -> Publish[S]:
        return self._publish(opened, None, self._close, Origin.DERIVED, -1, -1)

    def _publish(  # noqa: PLR0917  # a tuple of ids would cost each kline
        self, opened: int, kline: S | None, close: str, origin: Origin, first: int | None, last: int | None
    ) -> Publish[S]:
        self._newest, self._close = opened, close
        return Publish(opened, kline, close, origin, first, last, self._last_trade_id)

    def _doubt(self) -> None:
        if self.unproved is not None:
            self.doubtful.append(self.unproved)
            self.unproved = None

    def _forget_published(self) -> None:
        newest = self._newest
        if newest is None:
            return
        for kept in (self._held, self._fetched):
            for opened in [opened for opened in kept if opened <= newest]:
                del kept[opened]
