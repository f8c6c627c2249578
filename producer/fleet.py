"""All that carries symbols: a feed a partition, its connections, REST for what they miss, and the clock that ends holds."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from queue import SimpleQueue

import structlog

from klinestream.market.continuity import GivenUp, Span, Tail
from klinestream.market.errors import BrokerError
from klinestream.market.events import GapState, Kline
from klinestream.market.ledger import Ledger
from klinestream.market.partitions import partition_of
from klinestream.runtime.config import Config
from klinestream.runtime.weights import Weights
from producer.backlog import Backlog
from producer.carriers import Carriers
from producer.connection import Connection
from producer.doubts import AFTER_S, Doubts
from producer.feed import Deferred, Feed
from producer.feeds.binance_klines import Klines
from producer.fetcher import Counts
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.refill import Refiller, Request
from producer.tails import Tails

log = structlog.get_logger()

_TICK_S = 0.1
# Of a full market's partition some ten thousand records. Holds of others wait for them: what was passed longer ago REST is asked for.
_READ_MOST_MS = 60_000
# Together with the rest below the five seconds in which a part ends.
_JOIN_S = 1.0


class Fleet:
    """`follow` and `forget` symbols, and `reconfigure`, while it runs. An error that nothing mends goes to `failures`."""

    def __init__(
        self,
        config: Config,
        partitions: int,
        outlet: Outlet,
        metrics: Metrics,
        *,
        tails: Tails,
        weights: Weights,
        now_ms: Callable[[], int],
        failures: "SimpleQueue[Exception]",
        first: Callable[[], frozenset[str]] | None = None,
        doubts_after_s: Sequence[float] = AFTER_S,
    ) -> None:
        """Nothing is followed yet. `first` tells whose missing klines are asked for before others': see `Refiller`."""
        self._tails = tails
        self._failures = failures
        self._stopped = threading.Event()
        counts = Counts(
            answered=lambda klines: metrics.rest_answers.inc(),  # noqa: ARG005  # answers are counted, not what is in them
            retried=metrics.rest_retries.inc,
            failed=metrics.rest_failures.inc,
            refused=metrics.rest_refused.inc,
        )
        self._refiller = Refiller(config, counts, self._answered, self._failed, weights=weights, failures=failures, first=first)
        self._backlog = Backlog(outlet, self._refiller.ask, config.producer.repair_patience_s, time.monotonic)
        self._doubts = Doubts(outlet, metrics, self._refiller.ask, time.monotonic, doubts_after_s)
        self._feeds = [
            Feed(
                partition,
                outlet,
                metrics,
                hold_s=config.producer.hold_s,
                ask=self._refiller.ask,
                withdraw=self._refiller.withdraw,
                doubt=self._doubts.add,
                now_ms=now_ms,
                now_s=time.monotonic,
            )
            for partition in range(partitions)
        ]
        self._carriers = Carriers(config, self._klines, metrics, failures, self._stopped)
        self._changing = threading.Lock()
        self._clock = threading.Thread(target=self._run_clock, name="holds", daemon=True)
        metrics.backlog.set_function(lambda: len(self._backlog))
        metrics.doubts.set_function(lambda: len(self._doubts))
        metrics.rest_waiting.set_function(self._refiller.waiting)

    def start(self) -> None:
        """Begin to refill what is missing."""
        self._refiller.start()
        self._clock.start()

    def stop(self) -> None:
        """End everything; what was taken is published."""
        self._stopped.set()
        connections = self.connections
        self._carriers.stop()
        self._refiller.stop(_JOIN_S)
        deadline_s = time.monotonic() + _JOIN_S
        for thread in [*connections, self._clock]:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    @property
    def connections(self) -> list[Connection]:
        """All that are kept up."""
        return self._carriers.connections

    def follow(self, symbols: Iterable[str], ledger: Ledger) -> None:
        """Follow symbols from where the topic ends, and with the gaps that the ledger holds open. Raises BrokerError."""
        wanted = set(symbols)
        new = sorted(wanted)
        tails = self._tails.newest(new, followed=len(self.followed()) + len(new))
        detected: dict[str, list[Span]] = defaultdict(list)
        for gap in ledger.open_gaps():
            record = gap.record
            if record.symbol not in wanted:
                continue
            if record.state is GapState.DETECTED:
                detected[record.symbol].append((record.from_ms, record.to_ms))
            else:
                self._backlog.add([Deferred(record.symbol, GivenUp(record.from_ms, record.to_ms, record.trades))])
        by_partition: dict[int, list[str]] = defaultdict(list)
        for symbol in new:
            by_partition[self._partition(symbol)].append(symbol)
        there = self._there(_firsts(detected, tails), tails)
        with self._changing:
            for partition, mine in by_partition.items():
                self._backlog.add(self._feeds[partition].follow(mine, tails, detected, there))
                self._carriers.carry(partition, mine)

    def forget(self, symbols: Iterable[str]) -> None:
        """Follow symbols no longer; what is left of their gaps is still repaired."""
        gone = set(symbols)
        with self._changing:
            self._carriers.drop(gone)
            for feed in self._feeds:
                feed.forget(gone)

    def reconfigure(self, config: Config) -> bool:
        """Go on with other settings, without a break: each connection that is made otherwise is opened before the former one ends.

        One after the other. If a new one is not proved in time, or all is to stop, the former ones stay: False. Then the
        settings of connections are as before, and the same may be tried again.
        """
        self._refiller.reconfigure(config)
        for feed in self._feeds:
            feed.hold_s = config.producer.hold_s
        while True:
            with self._changing:
                renewed = self._carriers.renew(config)
                if renewed is None:
                    self._carriers.config = config
                    return True
                if not renewed:
                    return False

    def followed(self) -> list[str]:
        """All symbols that are followed; from any thread, as the next two."""
        return [symbol for feed in self._feeds for symbol in feed.followed]

    def sample(self, symbol: str) -> None:
        """Keep what is published of a symbol from now on, until `sampled`."""
        self._feeds[self._partition(symbol)].sample(symbol)

    def sampled(self, symbol: str) -> list[bytes]:
        """The values of the records that were published since `sample`."""
        return self._feeds[self._partition(symbol)].sampled(symbol)

    def _klines(self, partition: int, config: Config) -> Klines:
        return Klines(config.exchange, self._feeds[partition])

    def _partition(self, symbol: str) -> int:
        return partition_of(symbol, len(self._feeds))

    def _answered(self, request: Request, klines: list[Kline]) -> None:
        if request.urgent:
            self._feeds[self._partition(request.symbol)].answered(request, klines)
        self._backlog.answered(request, klines)
        self._doubts.answered(request, klines)

    def _failed(self, request: Request, reason: str) -> None:
        log.warning("the exchange refuses klines", symbol=request.symbol, from_ms=request.from_ms, to_ms=request.to_ms, reason=reason)
        self._backlog.failed(request, reason)
        self._doubts.failed(request, reason)

    def _run_clock(self) -> None:
        try:
            while not self._stopped.wait(_TICK_S):
                for feed in self._feeds:
                    self._end_holds(feed)
                self._backlog.tick()
                self._doubts.tick()
        except Exception as error:
            self._failures.put(error)

    def _end_holds(self, feed: Feed) -> None:
        expired = feed.look()
        if not expired:
            return
        try:
            tails = self._tails.newest(expired, followed=len(feed.followed), deep=False)
        except BrokerError as error:
            log.warning("topic not read before a hold ends", reason=str(error))
            tails = {}
        self._backlog.add(feed.expire(expired, tails, self._there(expired, tails)))

    def _there(self, since_ms: Mapping[str, int], tails: Mapping[str, Tail]) -> Mapping[str, Container[int]]:
        """Open times that the topic has of symbols from a time on, where its end has passed that not long ago."""
        passed = {
            symbol: from_ms
            for symbol, from_ms in since_ms.items()
            if symbol in tails and 0 <= tails[symbol].open_time_ms - from_ms <= _READ_MOST_MS
        }
        try:
            return self._tails.opened(passed) if passed else {}
        except BrokerError as error:
            log.warning("topic not read for what another producer wrote", reason=str(error))
            return {}


def _firsts(detected: Mapping[str, Iterable[Span]], tails: Mapping[str, Tail]) -> dict[str, int]:
    """Symbol → its first missing second that the topic's end hasn't passed too long ago to be read."""
    found: dict[str, int] = {}
    for symbol, spans in detected.items():
        least_ms = tails[symbol].open_time_ms - _READ_MOST_MS if symbol in tails else 0
        recent = [from_ms for from_ms, _ in spans if from_ms >= least_ms]
        if recent:
            found[symbol] = min(recent)
    return found
