"""All that carries a feed's symbols: a lane a partition, its connections, REST for what they miss, and the clock that ends holds."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from klinestream.market.events import IdGap, IdGapState
from klinestream.market.id_ledger import IdLedger
from klinestream.market.partitions import partition_of
from klinestream.runtime.config import Config
from klinestream.runtime.rest import Rest
from klinestream.runtime.weights import Weights
from producer.carriers import Carriers
from producer.connection import Connection
from producer.dialect import Manners
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.interface import Feed, Promise, Repairing, Settled
from producer.fetcher import Counts, Fetcher
from producer.frames import Reply, Shutdown
from producer.id_backlog import IdBacklog
from producer.lane import Lane
from producer.tails import newest_values
from producer.wants import WantRequest

_TICK_S = 0.1
# Together with the rest below the five seconds in which a part ends.
_JOIN_S = 1.0
_ALL_SYMBOLS = 1 << 20


class _Speech:
    """The dialect of the connections of one lane."""

    def __init__(self, feed: Feed, lane: Lane) -> None:
        """A hand-over without a break takes ids that prove it, and a venue that lets two connections be open."""
        settings = feed.settings
        self.manners = Manners(
            feed.url(),
            settings.fallback_url,
            overlap=not settings.one_connection,
            sparse=settings.sparse,
            request_pause_s=settings.request_pause_s,
        )
        self._feed, self._lane = feed, lane

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """See `Feed.requests`."""
        return self._feed.requests(method, symbols, first_id)

    def interrupted(self) -> None:
        """See `Lane.interrupted`."""
        self._lane.interrupted()

    def take(self, raw: bytes, proved: set[str]) -> Reply | Shutdown | None:
        """See `Lane.take`."""
        return self._lane.take(raw, proved)

    def ages_s(self) -> Mapping[str, float]:
        """See `Lane.ages_s`."""
        return self._lane.ages_s()


class FeedFleet:
    """`follow` and `forget` symbols while it runs. An error that nothing mends goes to `failures`."""

    def __init__(
        self,
        config: Config,
        feed: Feed,
        partitions: int,
        outlet: FeedOutlet,
        metrics: FeedMetrics,
        *,
        client_id: str,
        weights: Weights,
        now_ms: Callable[[], int],
        failures: "SimpleQueue[Exception]",
    ) -> None:
        """Nothing is followed yet."""
        self._config, self._feed, self._client_id, self._failures = config, feed, client_id, failures
        self._stopped = threading.Event()
        self._fetcher: Fetcher[WantRequest, Any] = Fetcher(
            config,
            _counts(metrics),
            self._fetch,
            self._answered,
            self._failed,
            weights=weights,
            failures=failures,
        )
        self._backlog = (
            IdBacklog(feed, outlet, metrics, self._fetcher.ask, config.producer.repair_patience_s, time.monotonic)
            if isinstance(feed, Repairing)
            else None
        )
        one = feed.settings.one_connection
        self._lanes = [self._made_lane(number, outlet, metrics, now_ms) for number in range(1 if one else partitions)]
        producer = config.producer.model_copy(update={"streams_per_connection": _ALL_SYMBOLS} if one else {})
        ours = config.model_copy(update={"producer": producer})
        self._carriers = Carriers(ours, self._speech, metrics, failures, self._stopped)
        self._changing = threading.Lock()
        self._clock = threading.Thread(target=self._run_clock, name="holds", daemon=True)
        metrics.backlog.set_function(lambda: len(self._backlog or ()))
        metrics.waiting.set_function(lambda: sum(lane.waiting() for lane in self._lanes))
        metrics.rest_waiting.set_function(self._fetcher.waiting)

    def start(self) -> None:
        """Begin to fetch what is missing."""
        self._fetcher.start()
        self._clock.start()

    def stop(self) -> None:
        """End everything; what was taken is published."""
        self._stopped.set()
        connections = self.connections
        self._carriers.stop()
        self._fetcher.stop(_JOIN_S)
        deadline_s = time.monotonic() + _JOIN_S
        for thread in [*connections, self._clock]:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    @property
    def connections(self) -> list[Connection]:
        """All that are kept up."""
        return self._carriers.connections

    def waiting(self) -> int:
        """How many symbols' entries are held."""
        return sum(lane.waiting() for lane in self._lanes)

    def follow(self, symbols: Iterable[str], ledger: IdLedger) -> None:
        """Follow symbols from where the topic ends, and with the gaps that the ledger holds open. Raises BrokerError."""
        new = sorted(symbols)
        by_arrival = self._feed.promise is Promise.NONE
        topic, source = self._feed.topic, self._feed.source
        tails = newest_values(self._config.kafka, self._client_id, topic, source, new, by_arrival=by_arrival)
        detected: dict[str, list[IdGap]] = defaultdict(list)
        for gap in ledger.open_gaps():
            record = gap.record
            if record.feed != self._feed.name or record.symbol not in new:
                continue
            if record.state is IdGapState.DETECTED:
                detected[record.symbol].append(record)
            else:
                told = Settled(record.from_id, record.to_id, record.state, record.after_ms, record.before_ms, record.obtained)
                self._defer(record.symbol, told)
        by_lane: dict[int, list[str]] = defaultdict(list)
        for symbol in new:
            by_lane[self._lane(symbol)].append(symbol)
        with self._changing:
            for number, mine in by_lane.items():
                self._lanes[number].follow(mine, tails, detected)
                self._carriers.carry(number, mine)

    def forget(self, symbols: Iterable[str]) -> None:
        """Follow symbols no longer; what is left of their gaps is still repaired."""
        gone = set(symbols)
        with self._changing:
            self._carriers.drop(gone)
            for lane in self._lanes:
                lane.forget(gone)

    def followed(self) -> list[str]:
        """All symbols that are followed; from any thread, as the next two."""
        return [symbol for lane in self._lanes for symbol in lane.followed()]

    def sample(self, symbol: str) -> None:
        """Keep what is published of a symbol from now on, until `sampled`."""
        self._lanes[self._lane(symbol)].sample(symbol)

    def sampled(self, symbol: str) -> list[bytes]:
        """The values of the records that were published since `sample`."""
        return self._lanes[self._lane(symbol)].sampled(symbol)

    def _made_lane(self, number: int, outlet: FeedOutlet, metrics: FeedMetrics, now_ms: Callable[[], int]) -> Lane:
        return Lane(
            self._feed,
            number,
            outlet,
            metrics,
            ask=self._fetcher.ask,
            withdraw=self._fetcher.withdraw,
            deferred=self._defer,
            now_ms=now_ms,
            now_s=time.monotonic,
        )

    def _speech(self, number: int, _config: Config) -> _Speech:
        return _Speech(self._feed, self._lanes[number])

    def _lane(self, symbol: str) -> int:
        return partition_of(symbol, len(self._lanes))

    def _defer(self, symbol: str, gap: Settled) -> None:
        if self._backlog is not None:
            self._backlog.add(symbol, gap)

    def _fetch(self, rest: Rest, request: WantRequest) -> Any:
        return self._feed.fetch(rest, request.want)

    def _answered(self, request: WantRequest, answer: Any) -> None:
        if not request.deferred:
            self._lanes[self._lane(request.symbol)].answered(request, answer)
        elif self._backlog is not None:
            self._backlog.answered(request, answer)

    def _failed(self, request: WantRequest, reason: str) -> None:
        if not request.deferred:
            self._lanes[self._lane(request.symbol)].failed(request)
        elif self._backlog is not None:
            self._backlog.failed(request, reason)

    def _run_clock(self) -> None:
        try:
            while not self._stopped.wait(_TICK_S):
                for lane in self._lanes:
                    lane.look()
                if self._backlog is not None:
                    self._backlog.tick()
        except Exception as error:
            self._failures.put(error)


def _counts(metrics: FeedMetrics) -> Counts:
    return Counts(
        answered=lambda _: metrics.rest_answers.inc(),
        retried=metrics.rest_retries.inc,
        failed=metrics.rest_failures.inc,
        refused=metrics.rest_refused.inc,
    )
