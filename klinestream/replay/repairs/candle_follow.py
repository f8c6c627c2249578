"""Follows the exchange's own candles, and repairs what corrected ones lead to: the part of `repair --follow` for candles.

    crypto_candle_history ─► settle ─► due ─► repaired up to the newest candle ─► looked at again as the reach goes on
                                        ▲                                            │              │
                                        └────────────────────────────────────────────┘              └─► finished, and told

A candle that becomes known later, be it one that fills a hole, may lie in the warm-up or the reach of what was repaired
before: that is looked at again too.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog

from klinestream.market.errors import BrokerError
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS
from klinestream.market.topics import CANDLE_HISTORY, PIPELINE_EVENTS
from klinestream.replay.repairs.candle_topics import CandleIndex, CandleOutcome, CandleTopicRepair
from klinestream.replay.repairs.candles import Reach, reaches
from klinestream.replay.repairs.index import CLUSTERS_MOST, Cluster, RepairIndex
from klinestream.replay.repairs.loop import Connections, acknowledged, finished_before, finished_event, keep_following, wall_ms
from klinestream.replay.repairs.metrics import RepairMetrics
from klinestream.replay.repairs.progress import Progress, told
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Record
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.studies import candle_settings

log = structlog.get_logger()

_POLL_S = 0.5
_RARER = 4  # a correction matters less and less: looked at again when a quarter more time has passed since it


class CandleProgress(Progress):
    """What is due of one interval."""

    again_most_s = DAY_MS / SECOND_MS  # the longest interval

    def __init__(self, reach: Reach, index: RepairIndex, settle_s: float) -> None:
        """`settle_s` as for `Progress`."""
        super().__init__(index, reach.after_ms, settle_s)
        self.reach = reach
        self._known: OrderedDict[Cluster, bool] = OrderedDict()

    def pause_s(self, cluster: Cluster, newest_ms: int) -> float:
        """Until the reach is over, or so long that looking again costs little."""
        left_ms = cluster.last_ms + self.reach.after_ms - newest_ms
        passed_ms = newest_ms - cluster.last_ms
        return min(left_ms, max(self.reach.length_ms, passed_ms // _RARER)) / SECOND_MS

    def known(self, cluster: Cluster, corrected: bool, now_s: float) -> None:
        """Its candles stand in the job's topic. What they may reach, or what reaches them, is due again: it might not have seen them."""
        first_time = cluster not in self._known
        self._known[cluster] = corrected
        if len(self._known) > CLUSTERS_MOST:
            self._known.popitem(last=False)
        if not first_time:
            return
        for other in self.index.within(cluster.symbol, cluster.first_ms - self.reach.after_ms, cluster.last_ms + self.reach.before_ms):
            if other != cluster and self._known.get(other, True):
                self.reopen(other)
                self.touched({other.symbol}, now_s)


class CandleFollower:
    """Repairs what candles led to, over connections that may break at any time."""

    def __init__(self, config: Config, metrics: RepairMetrics) -> None:
        """Connects to nothing yet. Raises ConfigError where an indicator or a rule can't be."""
        self.fault = "candles: not connected to Kafka yet"
        self._settings = candle_settings(config)
        self._reaches = reaches(self._settings)
        self._metrics = metrics
        self._settle_s = config.repair.settle_s
        self._going_on: Callable[[], None] = lambda: None
        self._index, self._progress = self._nothing_known()
        self._next: dict[tuple[str, int], int] = {}
        self._topics: CandleTopicRepair | None = None

    def run(self, kafka: KafkaConfig, going_on: Callable[[], None]) -> None:
        """Go on until `going_on` raises."""
        self._going_on = going_on
        keep_following(self, kafka, self._metrics, going_on)

    def begin(self, connections: Connections) -> None:
        """Go on where reading stopped, or from the beginning."""
        self._topics = CandleTopicRepair(
            connections.looking, self._settings, connections.publisher.publish, wall_ms, going_on=self._going_on
        )
        bounds = {(CANDLE_HISTORY.name, partition): span for partition, span in connections.following.bounds(CANDLE_HISTORY.name).items()}
        goes_on = self._next.keys() == bounds.keys() and all(first <= self._next[place] <= end for place, (first, end) in bounds.items())
        if not goes_on:
            # A first start, a topic made anew, or one that dropped what was not read yet.
            self._index, self._progress = self._nothing_known()
            for detail in finished_before(connections.looking):
                interval, _, rest = detail.partition(" ")
                if interval in self._progress:
                    self._progress[interval].remember(rest)
            self._next = {place: first for place, (first, _) in bounds.items()}
        connections.following.assign(self._next)
        log.info("following", topic=CANDLE_HISTORY.name, goes_on=goes_on)

    def round(self, connections: Connections) -> None:
        """Take what came, repair what is due."""
        self._take(connections.following.poll(_POLL_S))
        for interval, progress in self._progress.items():
            self._repair(interval, progress, connections.publisher)
        self._metrics.candles_waiting.set(sum(map(len, self._progress.values())))

    def _nothing_known(self) -> tuple[CandleIndex, dict[str, CandleProgress]]:
        index = CandleIndex(self._reaches)
        progress = {name: CandleProgress(reach, index.of[name], self._settle_s) for name, reach in self._reaches.items()}
        return index, progress

    def _take(self, records: Sequence[Record]) -> None:
        if not records:
            return
        # What was finished longer ago than events are kept would be done once more.
        kept_ms = wall_ms() - PIPELINE_EVENTS.retention_ms
        since_ms = {interval: kept_ms - reach.after_ms for interval, reach in self._reaches.items()}
        touched = self._index.take(records, len(self._next), since_ms)
        for record in records:
            self._next[record.topic, record.partition] = record.offset + 1
        self._metrics.candle_records.inc(len(records))
        for interval, clusters in touched.items():
            progress = self._progress[interval]
            progress.touched({one.symbol for one in clusters if not progress.is_finished(one)}, time.monotonic())

    def _repair(self, interval: str, progress: CandleProgress, publisher: Publisher) -> None:
        due = progress.due(time.monotonic())
        if not due or self._topics is None:
            return
        try:
            for outcomes in self._topics.repair(interval, due, {one: progress.done_ms(one) for one in due}):
                acknowledged(publisher)
                for outcome in outcomes:
                    self._settle(outcome, progress, publisher)
            acknowledged(publisher)
        except BrokerError:
            # What was not finished is due again; what was is known.
            progress.touched({one.symbol for one in due}, time.monotonic())
            raise

    def _settle(self, outcome: CandleOutcome, progress: CandleProgress, publisher: Publisher) -> None:
        cluster, published = outcome.cluster, outcome.published
        about = {"symbol": cluster.symbol, "interval": outcome.interval, "from_ms": cluster.first_ms}
        self._metrics.count_candles(published.indicators, published.aggregates, published.fired, published.withdrawn)
        if outcome.newest_ms:
            progress.known(cluster, outcome.corrected > 0, time.monotonic())
        if not outcome.complete:
            progress.waits(cluster, outcome.newest_ms, time.monotonic())
            log.debug("candles repaired as far as they go", **about, records=published.all)
            return
        progress.finished(cluster)
        if not outcome.held:
            self._metrics.candles_too_old.inc()
            log.warning("correction is too old, the candles around it are gone", **about)
            return
        self._metrics.candles.inc(outcome.corrected)
        self._metrics.candles_finished.inc()
        done = told(cluster, f"{outcome.corrected} candles corrected, {published.all} records published again")
        publisher.publish(finished_event(f"{outcome.interval} {done}", wall_ms()))
        if outcome.corrected:
            log.info("candles repaired", **about, corrected=outcome.corrected, records=published.all)
