"""Ids that a feed went on without: fetched for as long as it takes, into the repairs, an answer at a time.

deferred ─► asked for ─► what goes on from the beginning ─► crypto_trade_repairs ─► the rest … ─► ledger: repaired
               ▲  │ nothing of use, or refused
               └──┘ again, ever more seldom; past the patience: ledger: unfillable
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from klinestream.market.events import IdGapState
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.interface import Repairing, Settled, Want
from producer.wants import WantRequest

log = structlog.get_logger()

_AGAIN_FIRST_S = 1.0
_AGAIN_MOST_S = 60.0
_ANSWER_S = 300.0  # a request that is not answered for this long, a ban included, is asked once more


@dataclass(slots=True)
class _Work:
    """A span and how far it is. What was fetched of it is published at once, so that a long one needs no memory."""

    symbol: str
    gap: Settled
    want: Want
    give_up_s: float
    again_s: float = 0.0
    pause_s: float = _AGAIN_FIRST_S
    asked: WantRequest | None = field(default=None)

    @property
    def obtained(self) -> int:
        """How many ids are there by now."""
        return (self.want.from_id or self.gap.from_id) - self.gap.from_id

    def retry(self, now_s: float) -> None:
        """Ask again, later each time."""
        self.asked, self.again_s = None, now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s, _AGAIN_MOST_S)


class IdBacklog:
    """Thread-safe: lanes add, REST's threads answer, the clock ticks."""

    def __init__(  # noqa: PLR0917  # what it connects
        self,
        feed: Repairing,
        outlet: FeedOutlet,
        metrics: FeedMetrics,
        ask: Callable[[WantRequest], bool],
        patience_s: float,
        now_s: Callable[[], float],
    ) -> None:
        """`ask` asks REST, or returns False if it can't take more now."""
        self._feed = feed
        self._outlet = outlet
        self._metrics = metrics
        self._ask = ask
        self._patience_s = patience_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._work: dict[tuple[str, int, int], _Work] = {}

    def __len__(self) -> int:
        """How many spans wait."""
        return len(self._work)

    def add(self, symbol: str, gap: Settled) -> None:
        """Take a span in; what was obtained of its beginning is not fetched again."""
        want = replace(self._feed.missing(symbol, gap.from_id + gap.obtained, gap.to_id, gap.after_ms), urgent=False)
        with self._lock:
            work = _Work(symbol, gap, want, self._now_s() + self._patience_s)
            self._work.setdefault((symbol, gap.from_id, gap.to_id), work)

    def tick(self) -> None:
        """Ask for what is due."""
        now_s = self._now_s()
        with self._lock:
            for work in self._work.values():
                if now_s >= work.again_s:
                    work.asked = WantRequest(work.want, deferred=True)
                    if not self._ask(work.asked):
                        return  # the queue is full: later
                    work.again_s = now_s + _ANSWER_S

    def answered(self, request: WantRequest, answer: Any) -> None:
        """Take what REST gave for a request."""
        with self._lock:
            work = self._asked(request)
            if work is None:
                return
            found = self._feed.repair(work.want, answer)
            self._outlet.records(work.symbol.encode(), found.out)
            self._metrics.repaired.inc(len(found.out))
            now_s = self._now_s()
            if found.to_id >= work.gap.to_id:
                self._finish(work, IdGapState.REPAIRED, "")
            elif found.want != work.want:
                work.want = found.want
                work.asked, work.again_s, work.pause_s = None, now_s, _AGAIN_FIRST_S
            elif now_s >= work.give_up_s:
                self._finish(work, IdGapState.UNFILLABLE, f"the exchange doesn't have the ids from {found.to_id} on")
            else:
                work.retry(now_s)

    def failed(self, request: WantRequest, reason: str) -> None:
        """An answer that can't be used: one is no proof that all will be so."""
        with self._lock:
            work = self._asked(request)
            if work is None:
                return
            now_s = self._now_s()
            if now_s >= work.give_up_s:
                self._finish(work, IdGapState.UNFILLABLE, reason)
            else:
                work.retry(now_s)

    def _asked(self, request: WantRequest) -> _Work | None:
        return next((work for work in self._work.values() if work.asked is not None and work.asked.span == request.span), None)

    def _finish(self, work: _Work, state: IdGapState, reason: str) -> None:
        gap = work.gap
        del self._work[work.symbol, gap.from_id, gap.to_id]
        obtained = gap.to_id - gap.from_id if state is IdGapState.REPAIRED else work.obtained
        log.info("deferred ids settled", symbol=work.symbol, state=state.value, obtained=obtained, reason=reason)
        self._outlet.gap(work.symbol, replace(gap, state=state, obtained=obtained, reason=reason))
