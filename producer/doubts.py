"""Klines of REST that were published too early: asked for again until their number of trades is proved, and put right by the repairs.

doubtful ─► 10 s ─► REST again ─► the trades that the ids tell ─► what differs: crypto_kline_repairs ─► corrected
               ▲                       └─► others
               └── 30 s, 120 s ◄──────────────┘ the last time: what differs all the same ─► unexplained
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from klinestream.market.events import SECOND_MS, GapState, Kline
from klinestream.market.reconcile import differences
from producer.feed import Doubt
from producer.metrics import Metrics
from producer.outlet import Outlet, Stored
from producer.refill import SPAN_MOST_MS, Request

log = structlog.get_logger()

AFTER_S = (10.0, 30.0, 120.0)
"""So long after a doubt REST is asked again: it has a second's trades within seconds, and what it lacks then may take minutes."""
DOUBTS_MOST = 5_000
_ANSWER_S = 300.0  # a request that is not answered for this long, a ban included, is asked once more


@dataclass(slots=True)
class _Work:
    """A doubt, and how often it was asked about."""

    doubt: Doubt
    request: Request
    since_s: float
    due_s: float
    answers: int = 0
    asked: bool = False


class Doubts:
    """Thread-safe: feeds add, REST's threads answer, the clock ticks."""

    def __init__(
        self,
        outlet: Outlet,
        metrics: Metrics,
        ask: Callable[[Request], bool],
        now_s: Callable[[], float],
        after_s: Sequence[float] = AFTER_S,
    ) -> None:
        """`ask` asks REST, or returns False if it can't take more now; `now_s` is monotonic."""
        self._outlet = outlet
        self._metrics = metrics
        self._ask = ask
        self._now_s = now_s
        self._after_s = after_s
        self._lock = threading.Lock()
        self._work: dict[tuple[str, int, int], _Work] = {}
        self._corrected: list[tuple[Stored, Callable[[], None]]] = []

    def __len__(self) -> int:
        """How many are not settled yet."""
        return len(self._work)

    def add(self, doubt: Doubt) -> None:
        """Take a doubt; one that there is no room for stays unexplained."""
        request = _request_for(doubt)
        now_s = self._now_s()
        with self._lock:
            if len(self._work) >= DOUBTS_MOST:
                self._settle(doubt, request, "unexplained", 0)
                return
            self._work.setdefault(request.span, _Work(doubt, request, now_s, now_s + self._after_s[0]))

    def tick(self) -> None:
        """Tell what is corrected, and ask for what is due. Raises DeliveryError if a repair is lost."""
        now_s = self._now_s()
        with self._lock:
            self._tell_what_is_stored()
            for work in self._work.values():
                if now_s >= work.due_s:
                    if not self._ask(work.request):
                        return  # the queue is full: later
                    work.asked, work.due_s = True, now_s + _ANSWER_S

    def answered(self, request: Request, klines: Iterable[Kline]) -> None:
        """Take what REST gave for a request."""
        said = {kline.open_time_ms: kline for kline in klines}
        with self._lock:
            work = self._work.get(request.span)
            if work is None or not work.asked:
                return
            doubt = work.doubt
            proved = doubt.trades is not None and _trades(doubt, said) == doubt.trades
            if proved or self._was_last(work):
                del self._work[request.span]
                corrected = self._correct(doubt, said, proved)
                self._settle(doubt, request, "corrected" if proved else "unproved" if doubt.trades is None else "unexplained", corrected)

    def failed(self, request: Request, reason: str) -> None:
        """The exchange will not answer a request."""
        with self._lock:
            work = self._work.get(request.span)
            if work is not None and work.asked and self._was_last(work):
                log.warning("doubtful klines not asked for again", symbol=request.symbol, reason=reason)
                del self._work[request.span]
                self._settle(work.doubt, request, "unexplained", 0)

    def _was_last(self, work: _Work) -> bool:
        """Count an answer that proves nothing: whether it was the last one; if not, when the next one is due."""
        work.answers, work.asked = work.answers + 1, False
        if work.answers == len(self._after_s):
            return True
        work.due_s = max(self._now_s(), work.since_s + self._after_s[work.answers])
        return False

    def _correct(self, doubt: Doubt, said: dict[int, Kline], proved: bool) -> int:
        """Publish what the exchange says otherwise now; how many klines that are."""
        wrong = [kline for kline in doubt.published if kline.open_time_ms in said and differences(kline, said[kline.open_time_ms])]
        stored = Stored()
        for kline in wrong:
            self._outlet.repair(said[kline.open_time_ms], stored)
        if wrong:
            span = wrong[0].open_time_ms, wrong[-1].open_time_ms + SECOND_MS
            reason = "published from REST with other trades than their ids tell"
            told: dict[str, Any] = {"klines": len(wrong), "source": "rest", "proved": proved, "trades": doubt.trades, "reason": reason}
            self._corrected.append((stored, partial(self._outlet.gap, doubt.symbol, span, GapState.REPAIRED, **told)))
            self._tell_what_is_stored()
        return len(wrong)

    def _tell_what_is_stored(self) -> None:
        """The ledger says that something is repaired when its repairs are there, not before."""
        waiting = []
        for stored, tell in self._corrected:
            if stored.yet():
                tell()
            else:
                waiting.append((stored, tell))
        self._corrected = waiting

    def _settle(self, doubt: Doubt, request: Request, outcome: str, corrected: int) -> None:
        self._metrics.doubts_settled.labels(outcome).inc()
        tell = log.info if outcome == "corrected" else log.error
        tell(
            "doubtful klines settled",
            symbol=doubt.symbol,
            from_ms=request.from_ms,
            to_ms=request.to_ms,
            outcome=outcome,
            corrected=corrected,
            trades=doubt.trades,
        )


def _request_for(doubt: Doubt) -> Request:
    """One request: what a trade proves late may lie hours of quiet seconds apart, then the newest of it."""
    to_ms = doubt.published[-1].open_time_ms + SECOND_MS
    return Request(doubt.symbol, max(doubt.published[0].open_time_ms, to_ms - SPAN_MOST_MS), to_ms, urgent=False)


def _trades(doubt: Doubt, said: dict[int, Kline]) -> int | None:
    """How many trades the exchange says that there were in the doubtful seconds; None where its answer lacks one."""
    if not all(kline.open_time_ms in said for kline in doubt.published):
        return None
    return sum(said[kline.open_time_ms].trades for kline in doubt.published)
