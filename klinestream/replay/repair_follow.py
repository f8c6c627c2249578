"""`klinestream repair --follow`: repairs windows as the klines come that were missing.

What it has finished stands in `crypto_pipeline_events`, written once the windows are acknowledged: that is its position,
so it needs no consumer group. Where it was killed in between it repairs once more, which gives the same records.
"""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing

import orjson
import structlog

from klinestream.market.codec import decode_gap, encode_event
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import SECOND_MS, GapState, PipelineEvent
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.replay.repair import warm_up_ms
from klinestream.replay.repair_index import Cluster, RepairIndex
from klinestream.replay.repair_metrics import RepairMetrics
from klinestream.replay.repair_progress import Progress, tell
from klinestream.replay.repair_topics import Outcome, TopicRepair, settings_of, take_places
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import ended_by_signals

log = structlog.get_logger()

CLIENT_ID = "klinestream-repair"
COMPONENT = "repair"
FINISHED = "repaired"
_POLL_S = 0.5
_FLUSH_S = 60.0
_LOOK_S = 0.02
_CLOSE_S = 1.0
_CONNECT_S = 3.0  # one attempt: this process tries for as long as it takes, and ends at once when it shall
_BACKOFF_FIRST_S = 0.25
_BACKOFF_MOST_S = 5.0
_SETTLED = frozenset({GapState.REPAIRED, GapState.UNFILLABLE})


def follow(config: Config) -> None:
    """Repair until SIGTERM or SIGINT. Raises ConfigError if the metrics' address can't be had."""
    metrics = RepairMetrics()
    with ended_by_signals(), ExitStack() as stack:
        follower = Follower(config, metrics)
        if config.repair.metrics_port:
            server = MetricsServer(config.repair.metrics_host, config.repair.metrics_port, metrics.registry, follower.faults)
            stack.callback(server.close)
        follower.run()


class Follower:
    """Reads repairs and the ledger from one connection, and what a recomputation needs from another."""

    def __init__(self, config: Config, metrics: RepairMetrics) -> None:
        """Connects to nothing yet."""
        self._kafka = config.kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, config.kafka.connect_timeout_s)})
        self._settings = settings_of(config.windows)
        self._metrics = metrics
        self._settle_s = config.repair.settle_s
        self._progress = self._nothing_known()
        self._next: dict[tuple[str, int], int] = {}
        self._fault = "not connected to Kafka yet"

    def faults(self) -> list[str]:
        """What is wrong right now."""
        return [self._fault] if self._fault else []

    def run(self) -> None:
        """Go on for ever, whatever becomes of the broker."""
        wait_s = _BACKOFF_FIRST_S
        while True:
            try:
                with ExitStack() as stack:
                    following = stack.enter_context(closing(open_reader(self._kafka, CLIENT_ID)))
                    looking = stack.enter_context(closing(open_reader(self._kafka, CLIENT_ID)))
                    publisher = open_publisher(self._kafka, CLIENT_ID)
                    stack.callback(_close, publisher)
                    repair = TopicRepair(looking, self._settings, publisher.publish, _now_ms)
                    partitions = self._assign(following, repair, looking)
                    self._fault, wait_s = "", _BACKOFF_FIRST_S
                    while True:
                        self._take(following.poll(_POLL_S), partitions)
                        self._repair(repair, publisher)
            except BrokerError as error:
                self._fault = str(error)
                self._metrics.reconnects.inc()
                log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
                time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
                wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)

    def _nothing_known(self) -> Progress:
        warm_up = warm_up_ms(self._settings)
        return Progress(RepairIndex(warm_up), warm_up, self._settle_s)

    def _assign(self, following: Reader, repair: TopicRepair, looking: Reader) -> int:
        """Go on where reading stopped, or from the beginning; how many partitions the repairs have."""
        bounds = {
            (topic, partition): span
            for topic in (KLINE_REPAIRS.name, FEED_GAPS.name)
            for partition, span in following.bounds(topic).items()
        }
        goes_on = self._next.keys() == bounds.keys() and all(first <= self._next[place] <= end for place, (first, end) in bounds.items())
        if not goes_on:
            # A first start, a topic made anew, or one that dropped what was not read yet.
            self._progress = self._nothing_known()
            self._remember_finished(repair, looking)
            self._next = {place: first if place[0] == KLINE_REPAIRS.name else end for place, (first, end) in bounds.items()}
        following.assign(self._next)
        log.info("following", topic=KLINE_REPAIRS.name, goes_on=goes_on)
        return sum(topic == KLINE_REPAIRS.name for topic, _ in bounds)

    def _remember_finished(self, repair: TopicRepair, looking: Reader) -> None:
        bounds = looking.bounds(PIPELINE_EVENTS.name)
        places = {(PIPELINE_EVENTS.name, partition): span for partition, span in bounds.items()}
        for records in repair.read(places, with_markers=True):
            for record in records:
                try:
                    event = orjson.loads(record.value or b"")
                except orjson.JSONDecodeError:
                    continue
                if isinstance(event, dict) and (event.get("component"), event.get("event")) == (COMPONENT, FINISHED):
                    self._progress.remember(str(event.get("detail")))

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
                _acknowledged(publisher)
                for outcome in outcomes:
                    self._settle(outcome, publisher)
            _acknowledged(publisher)
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
        publisher.publish(_event(cluster, seconds, windows))
        log.info("repaired", symbol=cluster.symbol, from_ms=cluster.first_ms, seconds=seconds, windows=windows)


def _event(cluster: Cluster, seconds: int, windows: int) -> Record:
    now_ms = _now_ms()
    event = PipelineEvent(COMPONENT, FINISHED, now_ms, tell(cluster, seconds, windows))
    headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
    return Record(PIPELINE_EVENTS.name, COMPONENT.encode(), encode_event(event), now_ms, headers)


def _acknowledged(publisher: Publisher) -> None:
    """Wait until the brokers have everything. Raises DeliveryError."""
    until_s = time.monotonic() + _FLUSH_S
    # A client in C that flushes lets no signal through; this does.
    while publisher.queued() and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
    publisher.flush(_POLL_S)


def _close(publisher: Publisher) -> None:
    try:
        publisher.close(_CLOSE_S)
    except BrokerError as error:
        # Nothing is lost by it: what is not told as finished is repaired again.
        log.warning("kafka did not take everything", reason=str(error))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
