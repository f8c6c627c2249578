"""Asks REST for what is missing: what is wanted most first, within the exchange's limits, until it answers.

ask ─► waiting, by rank ─► a worker, once Weights lets it ─► answered
              ▲                                          ├─► failed: an answer that can't be used
              └──── back-off ◄── 429, 418, 5xx, silence ─┘
"""

import heapq
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sized
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

import structlog

from klinestream.market.errors import ExchangeError
from klinestream.runtime.config import Config
from klinestream.runtime.rest import NotYetError, PassingError, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from producer.backoff import pauses

log = structlog.get_logger()

QUEUE_MOST = 20_000
"""Requests that wait at most: four hours of 1,400 symbols."""
_LOOK_S = 1.0  # a wait is looked at anew that often: the wall clock, which ends a minute's limit, may be set


class Asked(Protocol):
    """A request."""

    @property
    def symbol(self) -> str:
        """Whose data it asks for."""

    @property
    def urgent(self) -> bool:
        """Live records are held until it is answered."""

    @property
    def span(self) -> Hashable:
        """What it asks for, urgent or not: no two requests for the same wait."""

    @property
    def order(self) -> int:
        """Among requests alike, the least comes first."""

    @property
    def weight(self) -> int:
        """What it costs."""


R = TypeVar("R", bound=Asked)
A = TypeVar("A")


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Counts:
    """What is to be counted; each is called from any thread."""

    answered: Callable[[int], None] = _nothing
    """A request was answered with so many items."""
    retried: Callable[[], None] = _nothing
    """A request was sent, and has to be sent again."""
    failed: Callable[[], None] = _nothing
    """A request got an answer that can't be used."""
    refused: Callable[[], None] = _nothing
    """A request was not taken, since the queue was full."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[R]):
    request: R
    number: int
    pauses: Iterator[float]
    wanted: bool = True
    ready_s: float = field(default=0.0)


class Fetcher(Generic[R, A]):
    """Workers that each ask REST for one request at a time, from `start` to `stop`. For any number of threads.

    `answered` and `failed` are called from the workers' threads, without a lock, so they may `ask` again; an error in
    them goes to `failures` and ends that worker.
    """

    def __init__(
        self,
        config: Config,
        counts: Counts,
        send: Callable[[Rest, R], A],
        answered: Callable[[R, A], None],
        failed: Callable[[R, str], None],
        *,
        weights: Weights,
        failures: "SimpleQueue[Exception]",
        first: Callable[[], frozenset[str]] | None = None,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        """`send` asks for one request's answer; `weights` is shared with whoever else asks the same exchange.

        `first` tells the symbols that come before others, the same object until they change; without it those that the
        configuration names do.
        """
        self._config = config
        self._counts = counts
        self._send = send
        self._answered = answered
        self._failed = failed
        self._weights = weights
        self._failures = failures
        self._queue_most = queue_most
        named = frozenset(config.producer.priority_symbols)
        self._first_now = first or (lambda: named)
        self._first = self._first_now()
        self._numbers = count()
        self._changed = threading.Condition()
        self._stopped = False
        self._waiting: dict[Hashable, _Entry[R]] = {}
        self._asking: set[_Entry[R]] = set()
        # Entries that were withdrawn or replaced stay in the heaps until they come up, or until they are the most of them.
        self._ready: list[tuple[tuple[bool, bool, int, int], _Entry[R]]] = []
        self._later: list[tuple[float, int, _Entry[R]]] = []
        # Each request has its own back-off; this one is everybody's, for an exchange that answers nothing at all.
        self._outage = self._pauses()
        self._quiet_until_s = 0.0
        self._workers = [
            threading.Thread(target=self._run, name=f"refill-{number}", daemon=True) for number in range(config.producer.refill_workers)
        ]

    def start(self) -> None:
        """Begin to ask."""
        for worker in self._workers:
            worker.start()

    def reconfigure(self, config: Config) -> None:
        """Ask where another configuration says, and wait as it says, from the next requests on; as many workers as before do."""
        with self._changed:
            self._config = config
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End at once, but for requests that are under way: those are given `timeout_s`. What waits is forgotten."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        deadline_s = time.monotonic() + timeout_s
        for worker in self._workers:
            if worker.is_alive():
                worker.join(max(0.0, deadline_s - time.monotonic()))

    def ask(self, request: R) -> bool:
        """Take a request, or if its span waits or is under way already, nothing but its urgency.

        False if the queue is full, or after `stop`.
        """
        with self._changed:
            if self._is_known(request):
                return True
            known = self._waiting.get(request.span)
            taken = not self._stopped and (known is not None or len(self._waiting) < self._queue_most)
            if taken:
                self._enqueue(self._entry(request))
                self._changed.notify()
        if not taken:
            self._counts.refused()
        return taken

    def withdraw(self, request: R) -> None:
        """Forget a request, urgent or not. If it is under way its answer may still come, but it is not tried again."""
        with self._changed:
            self._waiting.pop(request.span, None)
            self._tidy()
            for entry in self._under_way(request):
                entry.wanted = False

    def waiting(self) -> int:
        """How many requests wait, for whatever reason."""
        with self._changed:
            return len(self._waiting)

    def asking(self) -> int:
        """How many requests are under way."""
        with self._changed:
            return len(self._asking)

    def _run(self) -> None:
        """A worker's whole work."""
        try:
            while not self._stopped:
                exchange = self._config.exchange
                with Rest(exchange, self._weights) as rest:
                    while (entry := self._next(exchange)) is not None:
                        self._ask_rest(rest, entry)
        except Exception as error:
            self._failures.put(error)

    def _ask_rest(self, rest: Rest, entry: _Entry[R]) -> None:
        request = entry.request
        try:
            answer = self._send(rest, request)
        except NotYetError:
            self._again(entry, 0.0)
        except PassingError as error:
            wait_s = next(entry.pauses)
            self._hush()
            self._counts.retried()
            log.warning("not fetched, trying again", symbol=request.symbol, reason=str(error), wait_s=round(wait_s, 3))
            self._again(entry, wait_s)
        except ExchangeError as error:
            self._done(entry)
            self._counts.failed()
            self._failed(request, str(error))
        else:
            self._done(entry)
            self._counts.answered(_size(answer))
            self._answered(request, answer)

    def _next(self, exchange: ExchangeConfig) -> _Entry[R] | None:
        """The request to send there now, waiting for one; None at the end, or if another address is to be asked."""
        with self._changed:
            while not self._stopped and self._config.exchange is exchange:
                wait_s = self._until_next_s()
                if not wait_s:
                    _, entry = heapq.heappop(self._ready)
                    del self._waiting[entry.request.span]
                    self._asking.add(entry)
                    return entry
                self._changed.wait(min(wait_s, _LOOK_S))
        return None

    def _until_next_s(self) -> float:
        """How long until the head of `_ready` may be sent, as things stand."""
        self._rank_anew()
        now_s = time.monotonic()
        while self._later and (self._later[0][0] <= now_s or not self._is_waiting(self._later[0][2])):
            entry = heapq.heappop(self._later)[2]
            if self._is_waiting(entry):
                heapq.heappush(self._ready, (self._rank(entry), entry))
        while self._ready and not self._is_waiting(self._ready[0][1]):
            heapq.heappop(self._ready)
        until_later_s = self._later[0][0] - now_s if self._later else _LOOK_S
        if not self._ready:
            return until_later_s
        allowed_s = self._weights.wait_s(self._ready[0][1].request.weight, self._ready[0][1].request.urgent)
        return min(until_later_s, max(allowed_s, self._quiet_until_s - now_s))

    def _rank_anew(self) -> None:
        """Put what waits into order again if other symbols come first now."""
        first = self._first_now()
        if first is not self._first:
            self._first = first
            self._ready = [(self._rank(entry), entry) for _, entry in self._ready if self._is_waiting(entry)]
            heapq.heapify(self._ready)

    def _rank(self, entry: _Entry[R]) -> tuple[bool, bool, int, int]:
        request = entry.request
        return not request.urgent, request.symbol not in self._first, request.order, entry.number

    def _entry(self, request: R) -> _Entry[R]:
        return _Entry(request, next(self._numbers), self._pauses())

    def _pauses(self) -> Iterator[float]:
        return pauses(self._config.producer.backoff_first_s, self._config.producer.backoff_most_s, random.uniform)

    def _enqueue(self, entry: _Entry[R]) -> None:
        self._waiting[entry.request.span] = entry
        if entry.ready_s:
            heapq.heappush(self._later, (entry.ready_s, entry.number, entry))
        else:
            heapq.heappush(self._ready, (self._rank(entry), entry))
        self._tidy()

    def _again(self, entry: _Entry[R], wait_s: float) -> None:
        """Put a request back, if it is still wanted and was not asked for anew meanwhile; there is room for it, full or not."""
        with self._changed:
            self._asking.discard(entry)
            if entry.wanted and not self._stopped and entry.request.span not in self._waiting:
                entry.ready_s = time.monotonic() + wait_s if wait_s else 0.0
                self._enqueue(entry)
                self._changed.notify()

    def _done(self, entry: _Entry[R]) -> None:
        """The exchange answered."""
        with self._changed:
            self._asking.discard(entry)
            self._outage = self._pauses()
            self._quiet_until_s = 0.0

    def _hush(self) -> None:
        """Let all workers pause, once for all requests that went wrong at the same time."""
        with self._changed:
            now_s = time.monotonic()
            if now_s >= self._quiet_until_s:
                self._quiet_until_s = now_s + next(self._outage)

    def _is_known(self, request: R) -> bool:
        """Whether its span waits or is under way, no less urgently; one under way that was withdrawn is wanted again."""
        for entry in self._under_way(request):
            if entry.request.urgent >= request.urgent:
                entry.wanted = True
                return True
        known = self._waiting.get(request.span)
        return known is not None and known.request.urgent >= request.urgent

    def _under_way(self, request: R) -> list[_Entry[R]]:
        return [entry for entry in self._asking if entry.request.span == request.span]

    def _is_waiting(self, entry: _Entry[R]) -> bool:
        return self._waiting.get(entry.request.span) is entry

    def _tidy(self) -> None:
        """Keep the heaps from growing with entries that nobody waits for."""
        if len(self._ready) + len(self._later) > 2 * len(self._waiting) + 64:
            self._ready = [item for item in self._ready if self._is_waiting(item[1])]
            self._later = [item for item in self._later if self._is_waiting(item[2])]
            heapq.heapify(self._ready)
            heapq.heapify(self._later)


def _size(answer: object) -> int:
    return len(answer) if isinstance(answer, Sized) else 1
