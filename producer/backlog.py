"""Spans that the feed went on without: fetched for as long as it takes, into the repairs, a chunk at a time.

deferred ─► asked for ─► all of a chunk is there ─► crypto_kline_repairs ─► the next chunk … ─► ledger: repaired
               ▲  │ incomplete, refused, or another number of trades
               └──┘ again, ever more seldom; past the patience on with the next chunk … ─► ledger: unfillable
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from klinestream.market.continuity import Span
from klinestream.market.events import NO_SOURCE, SECOND_MS, GapState, Kline
from producer.feed import Deferred
from producer.outlet import Outlet, Stored
from producer.refill import SPAN_MOST_MS, Request

log = structlog.get_logger()

_AGAIN_FIRST_S = 1.0
_AGAIN_MOST_S = 60.0
_ANSWER_S = 300.0  # a request that is not answered for this long, a ban included, is asked once more
_DOUBTS_MOST = 5  # answers with another number of trades than the ids tell, before the klines are taken as they are


@dataclass(slots=True)
class _Work:
    """A span and how far it is. What was fetched of it is published at once, so that hours of many symbols need no memory."""

    symbol: str
    span: Span
    trades: int | None
    give_up_s: float
    next_ms: int
    obtained: int = 0
    counted: int = 0
    again_s: float = 0.0
    pause_s: float = _AGAIN_FIRST_S
    doubts: int = 0
    missing: str = ""
    """What the exchange hasn't given by the end of the patience: the first of it."""
    asked: Request | None = field(default=None)
    stored: Stored = field(default_factory=Stored)
    """Its repairs."""

    @property
    def fetched(self) -> bool:
        """No chunk is left."""
        return self.next_ms >= self.span[1]

    def request(self) -> Request:
        """For the next chunk."""
        return Request(self.symbol, self.next_ms, min(self.next_ms + SPAN_MOST_MS, self.span[1]), urgent=False)

    def retry(self, now_s: float) -> None:
        """Ask again, later each time."""
        self.asked, self.again_s = None, now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s, _AGAIN_MOST_S)


class Backlog:
    """Thread-safe: feeds add, REST's threads answer, the clock ticks."""

    def __init__(self, outlet: Outlet, ask: Callable[[Request], bool], patience_s: float, now_s: Callable[[], float]) -> None:
        """`ask` asks REST, or returns False if it can't take more now."""
        self._outlet = outlet
        self._ask = ask
        self._patience_s = patience_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._work: dict[tuple[str, Span], _Work] = {}

    def add(self, deferred: Iterable[Deferred]) -> None:
        """Take spans in."""
        with self._lock:
            for entry in deferred:
                span = (entry.span.from_ms, entry.span.to_ms)
                give_up_s = self._now_s() + self._patience_s
                self._work.setdefault((entry.symbol, span), _Work(entry.symbol, span, entry.span.trades, give_up_s, span[0]))

    def __len__(self) -> int:
        """How many spans wait."""
        return len(self._work)

    def tick(self) -> None:
        """Tell what is settled, and ask for what is due. Raises DeliveryError if a repair is lost."""
        now_s = self._now_s()
        with self._lock:
            for work in [work for work in self._work.values() if work.fetched]:
                self._settle_if_stored(work)
            for work in self._work.values():
                if now_s >= work.again_s and not work.fetched:
                    work.asked = work.request()
                    if not self._ask(work.asked):
                        return  # the queue is full: later
                    work.again_s = now_s + _ANSWER_S

    def answered(self, request: Request, klines: Iterable[Kline]) -> None:
        """Take what REST gave for a request."""
        with self._lock:
            work = self._asked(request)
            if work is None:
                return
            found = sorted(klines, key=lambda kline: kline.open_time_ms)
            now_s = self._now_s()
            if len(found) != (request.to_ms - request.from_ms) // SECOND_MS:
                if now_s < work.give_up_s:
                    work.retry(now_s)
                    return
                work.missing = work.missing or f"the exchange has {len(found)} of the klines from {request.from_ms} on"
            elif self._doubtful(work, request, found):
                work.retry(now_s)
                return
            self._go_on(work, request, found)

    def failed(self, request: Request, reason: str) -> None:
        """The exchange will not answer a request now: it may later."""
        with self._lock:
            work = self._asked(request)
            if work is None:
                return
            now_s = self._now_s()
            if now_s < work.give_up_s:
                work.retry(now_s)
                return
            work.missing = work.missing or reason
            self._go_on(work, request, [])

    def _asked(self, request: Request) -> _Work | None:
        return next((work for work in self._work.values() if work.asked is not None and work.asked.span == request.span), None)

    def _doubtful(self, work: _Work, request: Request, found: list[Kline]) -> bool:
        """The answer contradicts the trade ids, and it is worth to ask again. Only a span of one chunk is judged before it is published."""
        counted = sum(kline.trades for kline in found)
        if work.trades in (None, counted) or request.from_ms != work.span[0] or request.to_ms != work.span[1]:
            return False
        work.doubts += 1
        return work.doubts < _DOUBTS_MOST

    def _go_on(self, work: _Work, request: Request, found: list[Kline]) -> None:
        """Take what was found of a chunk, all there is, and turn to the next one: what one lacks says nothing of the others."""
        self._take(work, found)
        work.next_ms, work.asked, work.again_s, work.pause_s = request.to_ms, None, self._now_s(), _AGAIN_FIRST_S
        if work.fetched:
            self._settle_if_stored(work)

    def _take(self, work: _Work, found: list[Kline]) -> None:
        for kline in found:
            self._outlet.repair(kline, work.stored)
        work.obtained += len(found)
        work.counted += sum(kline.trades for kline in found)

    def _settle_if_stored(self, work: _Work) -> None:
        """Tell what became of a span, but not before its repairs are stored: whoever is killed until then fetches it again."""
        if not work.stored.yet():
            return
        del self._work[work.symbol, work.span]
        missing = work.missing
        state = GapState.UNFILLABLE if missing else GapState.REPAIRED
        differs = work.trades is not None and work.counted != work.trades
        reason = missing or (f"{work.counted} trades, by their ids {work.trades}" if differs else "")
        source = "rest" if work.obtained else NO_SOURCE
        proved = work.trades is not None and not differs and not missing
        log.info("deferred klines settled", symbol=work.symbol, state=state.value, klines=work.obtained, reason=reason)
        self._outlet.gap(
            work.symbol, work.span, state, klines=work.obtained, source=source, proved=proved, trades=work.trades, reason=reason
        )
