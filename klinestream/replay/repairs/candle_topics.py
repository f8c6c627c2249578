"""Corrected candles from topic to topic: what they touch is published again, with a higher revision. Bounded in memory.

    crypto_candle_history ─► index: clusters ─► crypto_candles at their own times: is anything corrected? ─► no: finished
                                                    │ yes
                                                    ▼
                     crypto_candles from a warm-up before ─┬─► repair ─► crypto_indicators, crypto_aggregates
                     crypto_signals ───────────────────────┘        └──► crypto_signals

Both looks go over the topic of candles by time, many clusters at once; a pass holds so many candles at most.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from klinestream.market.candle_engine import CandleSettings
from klinestream.market.candle_history import decode_history
from klinestream.market.candle_lines import signal_lines
from klinestream.market.candles import BEGAN
from klinestream.market.codec import decode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import Candle, HistoryReason, Signal, SignalState
from klinestream.market.intervals import INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import (
    AGGREGATES,
    CANDLE_HISTORY,
    CANDLES,
    INDICATORS,
    PUBLISHED_HEADER,
    SCHEMA_HEADER,
    SCHEMA_VERSION,
    SIGNALS,
)
from klinestream.replay.repairs.candles import (
    CANDLES_AT_ONCE,
    Reach,
    Reached,
    RepublishedCandle,
    Standing,
    Versions,
    recomputations,
    republished,
)
from klinestream.replay.repairs.candles import reaches as reaches_of
from klinestream.replay.repairs.index import Cluster, RepairIndex
from klinestream.replay.repairs.reading import Stretches, nothing_said
from klinestream.replay.repairs.window_topics import passes
from klinestream.runtime.kafka import Reader, Record

_START = b'"reason":"%s"' % HistoryReason.START.encode()
_BEGINNING = 200  # bytes of a record of history that hold its reason
_FIRST_RECORDS = 100  # markers of transactions may stand before the first one


class CandleIndex:
    """Interval → the exchange's candles of lost and corrected seconds, in clusters of candles that follow each other.

    Those of a symbol's start are left out: there are as many as candles wanted, again every few hours, and a kline that
    differs from the exchange's is found and corrected by the producer.
    """

    def __init__(self, intervals: Iterable[str]) -> None:
        """Nothing yet."""
        self.of = {interval: RepairIndex(INTERVALS[interval] // 2) for interval in intervals}

    def take(self, records: Iterable[Record], partitions: int, since_ms: Mapping[str, int] | None = None) -> dict[str, set[Cluster]]:
        """Take records of `crypto_candle_history`; interval → the clusters that hold new ones, as they are now.

        `since_ms`: interval → candles that close before are passed over.
        """
        touched: defaultdict[str, set[tuple[str, int, int]]] = defaultdict(set)
        for record in records:
            value = record.value or b""
            if _START in value[:_BEGINNING]:
                continue
            try:
                history = decode_history(value, record.offset)
            except RecordError:
                continue  # the job has made a dead letter of it
            index = self.of.get(history.interval)
            old = since_ms is not None and record.timestamp_ms < since_ms.get(history.interval, 0)
            if index is None or old or partition_of(history.symbol, partitions) != record.partition:
                continue
            for opened in history.table[BEGAN].tolist():
                index.add(history.symbol, opened, record.partition, record.offset)
            touched[history.interval].add((history.symbol, int(history.table[BEGAN, 0]), int(history.table[BEGAN, -1])))
        return {interval: {one for span in spans for one in self.of[interval].within(*span)} for interval, spans in touched.items()}


@dataclass(slots=True)
class Published:
    """How many records were published."""

    indicators: int = 0
    aggregates: int = 0
    fired: int = 0
    withdrawn: int = 0

    @property
    def all(self) -> int:
        """Whatever they are."""
        return self.indicators + self.aggregates + self.fired + self.withdrawn


@dataclass(frozen=True, slots=True)
class CandleOutcome:
    """What came of a cluster of one interval."""

    interval: str
    cluster: Cluster
    newest_ms: int = 0
    """Open time of the newest candle up to which everything is published; 0 if the job has not copied the cluster's own yet."""
    corrected: int = 0
    published: Published = field(default_factory=Published)
    since_ms: int = 0
    revision: int = 0
    held: bool = True
    """False: the topic doesn't hold the candles around it any more."""
    complete: bool = True
    """Nothing of it is left for later."""


class CandleTopicRepair:
    """Recomputes clusters. Every method raises BrokerError; not for several threads at once."""

    def __init__(
        self,
        reader: Reader,
        settings: CandleSettings,
        publish: Callable[[Record], None],
        now_ms: Callable[[], int],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        going_on: Callable[[], None] = nothing_said,
    ) -> None:
        """`publish` queues a record; `now_ms` dates what is published; `going_on` may end long readings by raising."""
        self._reader = reader
        self._settings = settings
        self._reaches = reaches_of(settings)
        self._publish = publish
        self._now_ms = now_ms
        self._stretches = Stretches(reader, clock_s, going_on)

    def index(self) -> CandleIndex:
        """All that `crypto_candle_history` holds now."""
        index = CandleIndex(self._reaches)
        bounds = self._reader.bounds(CANDLE_HISTORY.name)
        for records in self._stretches.read({(CANDLE_HISTORY.name, p): span for p, span in bounds.items()}, with_markers=True):
            index.take(records, len(bounds))
        return index

    def repair(self, interval: str, clusters: Iterable[Cluster], done_ms: Mapping[Cluster, int]) -> Iterator[list[CandleOutcome]]:
        """Recompute and publish, a pass after the other; what a pass published may not be acknowledged yet.

        `done_ms`: of a cluster the candle up to which values were published before; signals are always looked at again.
        """
        reach = self._reaches[interval]
        for chosen in passes(clusters, 0, CANDLES_AT_ONCE, reach.length_ms, reach.before_ms):
            outcomes, corrected = self._look(reach, chosen)
            if outcomes:
                yield outcomes
            # What is corrected may be a small part of a cluster, most of which fills holes.
            for narrow in passes(corrected, reach.before_ms, CANDLES_AT_ONCE, reach.length_ms, reach.before_ms):
                yield self._one_pass(reach, {one: corrected[one] for one in narrow}, done_ms)

    def _look(self, reach: Reach, clusters: Sequence[Cluster]) -> tuple[list[CandleOutcome], dict[Cluster, Cluster]]:
        """Those of which nothing is corrected, or not known yet; and of the others what is corrected → the cluster."""
        versions = self._versions(reach, clusters[0].partition, {one.symbol: (one.first_ms, one.last_ms) for one in clusters})
        held_from_ms = self._held_from_ms(clusters[0].partition)
        outcomes, corrected = [], {}
        for cluster in clusters:
            found = versions[cluster.symbol]
            times = found.corrected(cluster.first_ms, cluster.last_ms)
            if found.newest_offset(cluster.first_ms, cluster.last_ms) < cluster.last_offset:
                # The job has not copied it yet, or what it copied is deleted.
                held = cluster.last_ms >= held_from_ms
                outcomes.append(CandleOutcome(reach.interval, cluster, held=held, complete=not held))
            elif times:
                corrected[replace(cluster, first_ms=times[0], last_ms=times[-1])] = cluster
            else:
                outcomes.append(CandleOutcome(reach.interval, cluster, cluster.last_ms))
        return outcomes, corrected

    def _one_pass(self, reach: Reach, clusters: Mapping[Cluster, Cluster], done_ms: Mapping[Cluster, int]) -> list[CandleOutcome]:
        """`clusters`: what is corrected → the whole cluster."""
        partition = next(iter(clusters)).partition
        spans = {one.symbol: (one.first_ms - reach.before_ms, one.last_ms + reach.after_ms) for one in clusters}
        versions = self._versions(reach, partition, spans)
        standing = self._standing(partition, {one.symbol: one.first_ms + reach.length_ms for one in clusters})
        held_from_ms = self._held_from_ms(partition)
        outcomes, reached = [], {}
        for narrow, cluster in clusters.items():
            found = recomputations(versions[narrow.symbol], narrow.first_ms, narrow.last_ms)
            if spans[narrow.symbol][0] + reach.length_ms >= held_from_ms or found.warm:
                reached[narrow.symbol] = found
            else:
                outcomes.append(CandleOutcome(reach.interval, cluster, held=False))
        done = {cluster.symbol: done_ms.get(cluster, -1) for cluster in clusters.values()}
        published: defaultdict[str, Published] = defaultdict(Published)
        for said in republished((part for one in reached.values() for part in one.parts), self._settings):
            self._say(said, standing, done[said.symbol], published[said.symbol])
        own = {cluster.symbol: cluster for cluster in clusters.values()}
        return [*outcomes, *(_outcome(reach, own[symbol], one, published[symbol]) for symbol, one in reached.items())]

    def _say(self, said: RepublishedCandle, standing: Standing, done_ms: int, published: Published) -> None:
        if said.open_time_ms > done_ms or not said.settled:
            self._publish(self._record(INDICATORS.name, said.indicators))
            published.indicators += 1
            if said.aggregate is not None:
                self._publish(self._record(AGGREGATES.name, said.aggregate))
                published.aggregates += 1
        changes = standing.changes(said)
        for signal, line in zip(changes, signal_lines(changes), strict=True):
            self._publish(self._record(SIGNALS.name, line))
            standing.take(signal)
            published.fired += signal.state == SignalState.FIRED
            published.withdrawn += signal.state == SignalState.WITHDRAWN

    def _versions(self, reach: Reach, partition: int, spans: Mapping[str, tuple[int, int]]) -> dict[str, Versions]:
        """Symbol → what the topic says of its candles that open within its span, first and last included."""
        found = {symbol: Versions(symbol, reach) for symbol in spans}
        wanted = {symbol.encode(): span for symbol, span in spans.items()}
        mark = b'"i":"%s"' % reach.interval.encode()
        for record in self._from(CANDLES.name, partition, min(first for first, _ in spans.values()) + reach.length_ms - 1):
            span = wanted.get(record.key or b"")
            value = record.value or b""
            if span is None or mark not in value or not span[0] <= record.timestamp_ms - reach.length_ms + 1 <= span[1]:
                continue
            try:
                candle = decode_event(Candle, value)
            except RecordError:
                continue  # not the job's
            if candle.interval == reach.interval and candle.symbol in found and span[0] <= candle.open_time_ms <= span[1]:
                found[candle.symbol].add(candle)
        return found

    def _standing(self, partition: int, closed_ms: Mapping[str, int]) -> Standing:
        """The signals of symbols on candles that close from these times on."""
        standing = Standing()
        for record in self._from(SIGNALS.name, partition, min(closed_ms.values()) - 1):
            if (record.key or b"").decode(errors="replace") in closed_ms:
                try:
                    standing.take(decode_event(Signal, record.value or b""))
                except RecordError:
                    continue  # not the job's
        return standing

    def _from(self, topic: str, partition: int, time_ms: int) -> Iterator[Record]:
        """All records of a partition from the first one that is not older."""
        begin = self._reader.offsets_at(topic, max(0, time_ms))[partition]
        end = self._reader.bounds(topic)[partition][1]
        # A job that writes transactions leaves markers.
        for records in self._stretches.read({(topic, partition): (begin, end)}, with_markers=True):
            yield from records

    def _held_from_ms(self, partition: int) -> int:
        """What closed from then on is held: since ever, where nothing was deleted yet."""
        first, end = self._reader.bounds(CANDLES.name)[partition]
        if first in {0, end}:
            return 0
        for records in self._stretches.read({(CANDLES.name, partition): (first, min(first + _FIRST_RECORDS, end))}, with_markers=True):
            # Its own time may be long before it was written.
            written = dict(records[0].headers).get(PUBLISHED_HEADER, b"")
            return int(written) if written.isdigit() else records[0].timestamp_ms
        return 0

    def _record(self, topic: str, line: str) -> Record:
        key, time_ms, value = line.split("\t")
        headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % self._now_ms()))
        return Record(topic, key.encode(), value.encode(), int(time_ms), headers)


def _outcome(reach: Reach, cluster: Cluster, reached: Reached, published: Published) -> CandleOutcome:
    return CandleOutcome(
        interval=reach.interval,
        cluster=cluster,
        newest_ms=reached.newest_ms,
        corrected=reached.corrected,
        published=published,
        since_ms=min((part.since_ms for part in reached.parts), default=0),
        revision=max((int(part.revisions[-1]) for part in reached.parts), default=0),
        # A broker that fell silent may have given less than before.
        complete=reached.complete and reached.corrected > 0,
    )
