"""What a feed has published, held to the venue's own word: some symbols at a time, all in turn, for as long as it runs.

round    |── 20 s: what some symbols publish is kept ──|── asked for and compared ──|   then the next ones
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import structlog

from klinestream.market.errors import ExchangeError
from klinestream.runtime.config import Config
from klinestream.runtime.rest import NotYetError, Rest
from klinestream.runtime.weights import Weights
from producer.feed_fleet import FeedFleet
from producer.feed_metrics import FeedMetrics
from producer.feeds.interface import Comparable, Compared

log = structlog.get_logger()

SPAN_S = 22.0  # twenty whole seconds, and the trades around them that prove that they are whole
_SETTLED_S = 3.0  # until then REST may lack the newest seconds
_AGAIN_S = 10.0


class FeedCheck(threading.Thread):
    """Compares until `stop`; an error that can't be mended goes to `failures` and ends it."""

    def __init__(  # noqa: PLR0917  # what it connects
        self,
        config: Config,
        feed: Comparable,
        fleet: FeedFleet,
        metrics: FeedMetrics,
        weights: Weights,
        failures: "SimpleQueue[Exception]",
        span_s: float = SPAN_S,
    ) -> None:
        """All symbols are compared once in `producer.reconcile_s`, which isn't 0."""
        super().__init__(name="check", daemon=True)
        self._config, self._feed, self._fleet = config, feed, fleet
        self._metrics, self._weights, self._failures = metrics, weights, failures
        self._span_s = span_s
        self._stopped = threading.Event()
        self._due: list[str] = []

    def stop(self) -> None:
        """Ask it to end; what is under way is forgotten."""
        self._stopped.set()

    def run(self) -> None:
        """The thread's work."""
        try:
            with Rest(self._config.exchange, self._weights) as rest:
                while not self._stopped.is_set():
                    self._round(rest)
        except Exception as error:
            self._failures.put(error)

    def _round(self, rest: Rest) -> None:
        began_s = time.monotonic()
        symbols = self._next()
        for symbol in symbols:
            self._fleet.sample(symbol)
        if self._stopped.wait(self._span_s):
            return
        samples = [(symbol, self._fleet.sampled(symbol)) for symbol in symbols]
        if self._stopped.wait(_SETTLED_S):
            return
        for symbol, values in samples:
            if values:
                self._compare(rest, symbol, values)
        share_s = self._config.producer.reconcile_s * len(symbols) / max(1, len(self._fleet.followed()))
        self._stopped.wait(max(0.0, share_s - (time.monotonic() - began_s)))

    def _next(self) -> list[str]:
        """Whose turn it is: as many as make up the whole in its time."""
        followed = self._fleet.followed()
        self._due = [symbol for symbol in self._due if symbol in set(followed)] or sorted(followed)
        most = max(1, round(len(followed) * (self._span_s + _SETTLED_S) / self._config.producer.reconcile_s))
        taken, self._due = self._due[:most], self._due[most:]
        return taken

    def _compare(self, rest: Rest, symbol: str, values: list[bytes]) -> None:
        def ask() -> Compared:
            return self._feed.compare(rest, symbol, values)

        found = self._asked(ask)
        if found is not None and found.differing:
            # REST may have been behind: what it says twice counts.
            found = None if self._stopped.wait(_AGAIN_S) else self._asked(ask)
        if found is None:
            self._metrics.check_put_off.inc()
            return
        self._metrics.checked.inc(found.items)
        for field in found.differing:
            self._metrics.check_mismatches.labels(field).inc()
        if found.differing:
            log.error("published records differ from what the venue says", symbol=symbol, fields=found.differing[:10], detail=found.detail)

    def _asked(self, ask: Callable[[], Compared]) -> Compared | None:
        """None if the venue doesn't answer: it is the next round's."""
        while not self._stopped.is_set():
            try:
                return ask()
            except NotYetError as error:
                self._stopped.wait(error.wait_s)
            except ExchangeError as error:
                log.warning("not compared", reason=str(error))
                return None
        return None
