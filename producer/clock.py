"""How far the exchange's clock is from ours."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from klinestream.market.errors import ExchangeError
from klinestream.runtime.rest import Rest
from producer.metrics import Metrics

log = structlog.get_logger()

OFFSET_MOST_MS = 1000.0
_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the exchange's clock: ours before and after, in ms."""

    asked_ms: float
    server_ms: int
    answered_ms: float


def offset_ms(samples: Iterable[Sample]) -> float:
    """The exchange's clock less ours: of the quickest answer, taken to stand for the middle of its round trip.

    (Cristian 1989, "Probabilistic clock synchronization", Distributed Computing 3.) It is right to half that round
    trip, and to the millisecond in which the exchange tells its time.

    >>> offset_ms([Sample(1000, 1600, 1100), Sample(2000, 2510, 2010)])
    505.0
    """
    best = min(samples, key=lambda sample: sample.answered_ms - sample.asked_ms)
    return best.server_ms - (best.asked_ms + best.answered_ms) / 2


class ClockCheck(threading.Thread):
    """Compares the clocks at once and then every `every_s`, until `stopped`."""

    def __init__(self, rest: Rest, metrics: Metrics, every_s: float, stopped: threading.Event) -> None:
        """`rest` is this thread's alone from here on."""
        super().__init__(name="clock", daemon=True)
        self._rest = rest
        self._metrics = metrics
        self._every_s = every_s
        self._stopped = stopped

    def run(self) -> None:
        """The thread's work."""
        while True:
            self._compare()
            if self._stopped.wait(self._every_s):
                return

    def _compare(self) -> None:
        try:
            offset = offset_ms(_sample(self._rest.server_time_ms) for _ in range(_SAMPLES))
        except ExchangeError as error:
            self._metrics.clock_failures.inc()
            log.warning("clock not compared", reason=str(error))
            return
        self._metrics.clock_offset.set(offset / 1000)
        if abs(offset) > OFFSET_MOST_MS:
            log.warning("our clock differs from the exchange's, check time synchronisation", offset_ms=round(offset))


def _sample(server_time_ms: Callable[[], int]) -> Sample:
    asked_ms = time.time() * 1000
    return Sample(asked_ms, server_time_ms(), time.time() * 1000)
