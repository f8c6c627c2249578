"""`klinestream repair --follow`: repairs windows as the klines come that were missing, and beside them what candles led to.

What it has finished stands in `crypto_pipeline_events`, written once the results are acknowledged: that is its position,
so it needs no consumer group. Where it was killed in between it repairs once more, which gives the same records.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack

import structlog

from klinestream.market.codec import decode_gap
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import SECOND_MS, GapState
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS
from klinestream.replay.repairs.candle_follow import CandleFollower
from klinestream.replay.repairs.index import RepairIndex
from klinestream.replay.repairs.loop import Companion, Connections, acknowledged, finished_before, finished_event, keep_following, wall_ms
from klinestream.replay.repairs.metrics import RepairMetrics
from klinestream.replay.repairs.progress import Progress, tell
from klinestream.replay.repairs.window_topics import Outcome, TopicRepair, settings_of, take_places
from klinestream.replay.repairs.windows import warm_up_ms
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Record
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import ended_by_signals

log = structlog.get_logger()

_POLL_S = 0.5
_STOP_S = 3.0
_SETTLED = frozenset({GapState.REPAIRED, GapState.UNFILLABLE})


def follow(config: Config) -> None:
    """Repair until SIGTERM or SIGINT. Raises ConfigError if the metrics' address can't be had, or an indicator can't be."""
    metrics = RepairMetrics()
    with ended_by_signals(), ExitStack() as stack:
        windows, candles = Follower(config, metrics), CandleFollower(config, metrics)
        if config.repair.metrics_port:
            faults = lambda: [one.fault for one in (windows, candles) if one.fault]  # noqa: E731  # nowhere else of use
            server = MetricsServer(config.repair.metrics_host, config.repair.metrics_port, metrics.registry, faults)
            stack.callback(server.close)
        # Candles are looked up in long stretches of their topic: windows don't wait for that.
        companion = Companion("candles", lambda going_on: candles.run(config.kafka, going_on))
        stack.callback(companion.stop, _STOP_S)
        keep_following(windows, config.kafka, metrics, companion.check)


class Follower:
    """Reads repairs and the ledger from one connection, and what a recomputation needs from another."""

    def __init__(self, config: Config, metrics: RepairMetrics) -> None:
        """Connects to nothing yet."""
        self.fault = "not connected to Kafka yet"
        self._settings = settings_of(config.windows)
        self._metrics = metrics
        self._settle_s = config.repair.settle_s
        self._progress = self._nothing_known()
        self._next: dict[tuple[str, int], int] = {}
        self._partitions = 0
        self._topics: TopicRepair | None = None

    def begin(self, connections: Connections) -> None:
        """Go on where reading stopped, or from the beginning."""
        self._topics = TopicRepair(connections.looking, self._settings, connections.publisher.publish, wall_ms)
        bounds = {
            (topic, partition): span
            for topic in (KLINE_REPAIRS.name, FEED_GAPS.name)
            for partition, span in connections.following.bounds(topic).items()
        }
        goes_on = self._next.keys() == bounds.keys() and all(first <= self._next[place] <= end for place, (first, end) in bounds.items())
        if not goes_on:
            # A first start, a topic made anew, or one that dropped what was not read yet.
            self._progress = self._nothing_known()
            for told in finished_before(connections.looking):
                self._progress.remember(told)
            self._next = {place: first if place[0] == KLINE_REPAIRS.name else end for place, (first, end) in bounds.items()}
        connections.following.assign(self._next)
        log.info("following", topic=KLINE_REPAIRS.name, goes_on=goes_on)
        self._partitions = sum(topic == KLINE_REPAIRS.name for topic, _ in bounds)

    def round(self, connections: Connections) -> None:
        """Take what came, repair what is due."""
        self._take(connections.following.poll(_POLL_S), self._partitions)
        if self._topics is not None:
            self._repair(self._topics, connections.publisher)

    def _nothing_known(self) -> Progress:
        warm_up = warm_up_ms(self._settings)
        return Progress(RepairIndex(warm_up), warm_up, self._settle_s)

    def _take(self, records: Sequence[Record], partitions: int) -> None:
        repairs = [record for record in records if record.topic == KLINE_REPAIRS.name]
        self._progress.touched(take_places(self._progress.index, repairs, partitions), time.monotonic())
        self._metrics.klines.inc(len(repairs))
        for record in records:
            self._next[record.topic, record.partition] = record.offset + 1
            if record.topic == FEED_GAPS.name:
                self._hear(record)
        self._metrics.waiting.set(len(self._progress))

    def _hear(self, record: Record) -> None:
        """A word of the ledger. One that comes before its klines tells nothing: these then have to settle."""
        try:
            gap = decode_gap(record.value or b"")
        except RecordError:
            return
        newest_ms = self._progress.index.newest_ms(gap.symbol)
        if gap.state in _SETTLED and newest_ms is not None and newest_ms >= gap.to_ms - SECOND_MS:
            self._progress.settled(gap.symbol)

    def _repair(self, repair: TopicRepair, publisher: Publisher) -> None:
        due = self._progress.due(time.monotonic())
        if not due:
            return
        try:
            for outcomes in repair.repair(due, {one: self._progress.done_ms(one) for one in due}):
                acknowledged(publisher)
                for outcome in outcomes:
                    self._settle(outcome, publisher)
            acknowledged(publisher)
        except BrokerError:
            # What was not finished is due again; what was is known.
            self._progress.touched({one.symbol for one in due}, time.monotonic())
            raise

    def _settle(self, outcome: Outcome, publisher: Publisher) -> None:
        cluster = outcome.cluster
        seconds = sum(one.filled + one.corrected for one in outcome.repaired)
        windows = sum(one.windows for one in outcome.repaired)
        self._metrics.windows.inc(windows)
        if not outcome.complete:
            self._progress.waits(cluster, outcome.newest_ms, time.monotonic())
            log.info("repaired as far as the feed goes", symbol=cluster.symbol, from_ms=cluster.first_ms, windows=windows)
            return
        self._progress.finished(cluster)
        if not outcome.held:
            self._metrics.too_old.inc()
            log.warning("repair is too old, the feed around it is gone", symbol=cluster.symbol, from_ms=cluster.first_ms)
            return
        self._metrics.seconds.inc(seconds)
        self._metrics.finished.inc()
        publisher.publish(finished_event(tell(cluster, seconds, windows), wall_ms()))
        log.info("repaired", symbol=cluster.symbol, from_ms=cluster.first_ms, seconds=seconds, windows=windows)
