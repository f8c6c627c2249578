"""How much of the exchange's weight a minute is used, and how long the next request must wait.

    used, of the limit  0 ───── others ───── 50 % ───── urgent ones ───── 90 % ── left for others at this address ── 100 %
    429 or 418          nothing at all is sent until Retry-After is over

The exchange counts from each full minute, UTC. Its answers say what is used, by whoever shares our address too; what
is on its way is not in them yet, so it is counted here.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MINUTE_MS = 60_000
LIMIT_LEAST = 100  # below it the heaviest single request might never pass
_URGENT_PERCENT, _OTHER_PERCENT = 90, 50
# What to wait if an answer doesn't say: a minute's weight is forgotten after a minute, and the first ban lasts two.
_CLOSED_S = {429: 60, 418: 120}
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on its way."""

    weight: int
    minute: int
    """In which it was sent, since 1970."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Weights:
    """The account of all requests of this process. For any number of threads.

    Each request `take`s its weight before it is sent, and tells how it ended: `answered` or `lost`.
    """

    def __init__(self, limit: int, monotonic_s: Callable[[], float] = time.monotonic, wall_ms: Callable[[], int] = _wall_ms) -> None:
        """`limit` is the weight a minute that the exchange allows; `wall_ms` is as near to the exchange's clock as it can be had."""
        if limit < LIMIT_LEAST:
            raise ValueError(f"expected a limit of at least {LIMIT_LEAST} a minute, got {limit}")
        self._limit = limit
        self._monotonic_s = monotonic_s
        self._wall_ms = wall_ms
        self._lock = threading.Lock()
        self._minute = wall_ms() // MINUTE_MS
        self._sent = 0  # what we sent in this minute, or what may have arrived in it
        self._told = 0  # the most that the exchange said in this minute
        self._on_way = 0
        self._closed_until_s = float("-inf")

    def used(self) -> int:
        """The weight used in this minute as far as it is known, with what is on its way."""
        with self._lock:
            self._turn(self._wall_ms())
            return self._total()

    def closed_s(self) -> float:
        """For how long nothing is sent, since the exchange said so; 0 if it didn't."""
        with self._lock:
            return max(0.0, self._closed_until_s - self._monotonic_s())

    def wait_s(self, weight: int, urgent: bool) -> float:
        """How long a request of that weight must wait as things stand; 0 if it may `take` its weight now."""
        with self._lock:
            return self._wait_s(weight, urgent)

    def take(self, weight: int, urgent: bool) -> Sent | None:
        """Count a request that is sent now; None if it must wait."""
        with self._lock:
            if self._wait_s(weight, urgent):
                return None
            self._sent += weight
            self._on_way += weight
            return Sent(weight, self._minute)

    def answered(self, sent: Sent, status: int, used: str | None, retry_after: str | None) -> None:
        """An answer came, with this HTTP status and the texts of `X-MBX-USED-WEIGHT-1M` and `Retry-After`, if it had them."""
        with self._lock:
            self._arrive(sent, used)
            if status in _CLOSED_S:
                seconds = _number(retry_after)
                closed_s = _CLOSED_S[status] if seconds is None else seconds
                self._closed_until_s = max(self._closed_until_s, self._monotonic_s() + closed_s)

    def lost(self, sent: Sent) -> None:
        """No answer came; the exchange may have counted the request even so."""
        with self._lock:
            self._arrive(sent, None)

    def _arrive(self, sent: Sent, used: str | None) -> None:
        self._turn(self._wall_ms())
        self._on_way -= sent.weight
        if sent.minute != self._minute:
            return  # nobody knows which minute the answer tells of; the request was carried over into this one
        told = _number(used)
        self._told = self._told + sent.weight if told is None else max(self._told, told)

    def _wait_s(self, weight: int, urgent: bool) -> float:
        closed_s = self._closed_until_s - self._monotonic_s()
        if closed_s > 0:
            return closed_s
        now_ms = self._wall_ms()
        self._turn(now_ms)
        share = self._limit * (_URGENT_PERCENT if urgent else _OTHER_PERCENT) // 100
        if self._total() + weight <= share:
            return 0.0
        return (MINUTE_MS - now_ms % MINUTE_MS) / 1000

    def _total(self) -> int:
        return max(self._sent, self._told + self._on_way)

    def _turn(self, now_ms: int) -> None:
        """Begin a new minute if it is time; what is on its way may be counted in it."""
        if now_ms // MINUTE_MS != self._minute:
            self._minute = now_ms // MINUTE_MS
            self._sent, self._told = self._on_way, 0


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None
