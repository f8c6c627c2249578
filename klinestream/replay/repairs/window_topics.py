"""Repairs from topic to topic: klines and their repairs in, windows with a higher revision out. Bounded in memory.

    crypto_kline_repairs ─► index: clusters ─► passes ─┬─► their repairs                    ─┐
                                                       └─► crypto_kline_data, by time, just ─┴─► repair ─► crypto_data_aggregated
                                                           what the windows need

A pass holds so many klines at most, of one cluster a symbol; what doesn't fit is for the next one, and is read then.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from klinestream.market.batch import KlineBatch, decode, from_klines, join
from klinestream.market.codec import encode_event
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINE_REPAIRS, KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, WINDOWS
from klinestream.market.windows import WindowSettings
from klinestream.replay.repairs.index import Cluster, RepairIndex
from klinestream.replay.repairs.reading import Places, Stretches
from klinestream.replay.repairs.windows import Recomputation, Republished, accepted, recomputations, republished, symbols_of, warm_up_ms
from klinestream.runtime.kafka import Reader, Record
from klinestream.runtime.sections import WindowsConfig

KLINES_AT_ONCE = 150_000  # a pass takes some 100 MB then
_APART_MS = 600_000  # further apart than this clusters are read in passes of their own: what lies between would be read in vain


def settings_of(config: WindowsConfig) -> WindowSettings:
    """What the windows job computes with."""
    return WindowSettings(config.size_ms, config.slide_ms, config.rsi_period, config.remembered_s)


@dataclass(frozen=True, slots=True)
class Repaired:
    """A stretch that was computed again."""

    symbol: str
    from_ms: int
    """Open time of the first repaired second."""
    to_ms: int
    """End of the last one, exclusive."""
    filled: int
    corrected: int
    since_ms: int
    revision: int
    windows: int
    """How many were published."""
    complete: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cluster."""

    cluster: Cluster
    repaired: tuple[Repaired, ...]
    newest_ms: int
    """Open time of the feed's newest kline, as far as it was looked at; 0 if there is none."""
    held: bool
    """False: the feed doesn't hold the klines around it any more."""

    @property
    def complete(self) -> bool:
        """Nothing of it is left for later."""
        return not self.held or (self.newest_ms >= self.cluster.last_ms and all(one.complete for one in self.repaired))


def klines_of(records: Sequence[Record]) -> tuple[KlineBatch, Ints]:
    """Records as klines with their offsets; what is no kline is passed over, as the job does."""
    batch, places, _ = decode([record.value or b"" for record in records], [record.timestamp_ms for record in records])
    return batch, np.array([record.offset for record in records], np.int64)[places]


def take_places(index: RepairIndex, records: Iterable[Record], partitions: int) -> set[str]:
    """Put records of `crypto_kline_repairs` into an index; the symbols that have new ones."""
    by_partition: defaultdict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_partition[record.partition].append(record)
    symbols: set[str] = set()
    for partition, mine in by_partition.items():
        batch, offsets = klines_of(mine)
        for symbol, opened, offset in zip(batch.symbols, batch.open_times.tolist(), offsets.tolist(), strict=True):
            # On another partition it would be no part of the symbol's order.
            if partition_of(symbol, partitions) == partition:
                index.add(symbol, opened, partition, offset)
                symbols.add(symbol)
    return symbols


class TopicRepair:
    """Recomputes clusters. Every method raises BrokerError; not for several threads at once."""

    def __init__(
        self,
        reader: Reader,
        settings: WindowSettings,
        publish: Callable[[Record], None],
        now_ms: Callable[[], int],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`publish` queues a record; `now_ms` dates what is published."""
        self._reader = reader
        self._settings = settings
        self._warm_up = warm_up_ms(settings)
        self._publish = publish
        self._now_ms = now_ms
        self._stretches = Stretches(reader, clock_s)

    def index(self) -> RepairIndex:
        """All that `crypto_kline_repairs` holds now."""
        index = RepairIndex(self._warm_up)
        bounds = self._reader.bounds(KLINE_REPAIRS.name)
        places = {(KLINE_REPAIRS.name, partition): span for partition, span in bounds.items()}
        for records in self.read(places, with_markers=True):
            take_places(index, records, len(bounds))
        return index

    def repair(self, clusters: Iterable[Cluster], done_ms: Mapping[Cluster, int]) -> Iterator[list[Outcome]]:
        """Recompute and publish, a pass after the other; what a pass published may not be acknowledged yet.

        `done_ms`: of a cluster the kline up to which its windows were published before.
        """
        feed = self._reader.bounds(KLINES.name)
        held_from = {partition: self._held_from_ms(partition, *bounds) for partition, bounds in feed.items()}
        known = []
        for cluster in clusters:
            if cluster.first_ms - self._warm_up < held_from[cluster.partition]:
                yield [Outcome(cluster, (), 0, held=False)]
            else:
                known.append(cluster)
        for chosen in passes(known, self._warm_up):
            yield self._one_pass(chosen, feed[chosen[0].partition][1], done_ms)

    def read(self, places: Places, with_markers: bool) -> Iterator[list[Record]]:
        """All records of some stretches of partitions, each partition's in order."""
        return self._stretches.read(places, with_markers)

    def _held_from_ms(self, partition: int, first: int, end: int) -> int:
        """From when on the feed is held: since ever, where nothing was deleted yet."""
        if first in {0, end}:
            return 0
        for records in self.read({(KLINES.name, partition): (first, first + 1)}, with_markers=False):
            return records[0].timestamp_ms
        return 0

    def _one_pass(self, clusters: Sequence[Cluster], end: int, done_ms: Mapping[Cluster, int]) -> list[Outcome]:
        repairs = self._repairs(clusters)
        feed, newest = self._feed(clusters, end)
        nothing = from_klines([])
        recomputed: dict[str, list[Recomputation]] = {}
        for cluster in clusters:
            klines, offsets = repairs.get(cluster.symbol, (nothing, np.zeros(0, np.int64)))
            series = feed.get(cluster.symbol, nothing)
            recomputed[cluster.symbol] = recomputations(series, klines, offsets, self._settings, newest.get(cluster.symbol))
        done = {cluster.symbol: done_ms.get(cluster, -1) for cluster in clusters}
        windows: defaultdict[tuple[str, int], int] = defaultdict(int)
        for one in republished((part for parts in recomputed.values() for part in parts), self._settings):
            if one.open_time_ms > done[one.window.symbol]:
                self._publish(self._record(one))
                windows[one.window.symbol, one.window.since_ms] += 1
        return [
            Outcome(
                cluster,
                tuple(_summary(part, windows[part.symbol, part.since_ms]) for part in recomputed[cluster.symbol]),
                newest.get(cluster.symbol, 0),
                held=True,
            )
            for cluster in clusters
        ]

    def _repairs(self, clusters: Sequence[Cluster]) -> dict[str, tuple[KlineBatch, Ints]]:
        """Symbol → its repairs in order of their offsets."""
        place = (KLINE_REPAIRS.name, clusters[0].partition)
        # Retention may have taken the oldest meanwhile.
        held_from = self._reader.bounds(KLINE_REPAIRS.name)[clusters[0].partition][0]
        span = max(held_from, min(one.first_offset for one in clusters)), max(one.last_offset for one in clusters) + 1
        wanted = {one.symbol: (one.first_ms, one.last_ms) for one in clusters}
        kept, offsets = [], []
        for records in self.read({place: span}, with_markers=False):
            batch, own = klines_of(records)
            rows = _wanted(batch, wanted)
            kept.append(batch.take(rows))
            offsets.append(own[rows])
        # Both in the same order: the order of a symbol's rows stays.
        numbers = np.concatenate([np.zeros(0, np.int64), *offsets])
        whole = join(kept)
        names = np.array(whole.symbols)
        return {symbol: (mine, numbers[names == symbol]) for symbol, mine in symbols_of(whole).items()}

    def _feed(self, clusters: Sequence[Cluster], end: int) -> tuple[dict[str, KlineBatch], dict[str, int]]:
        """Symbol → the feed's klines that its recomputation needs; symbol → open time of the newest one seen."""
        wanted = {one.symbol: (one.first_ms - self._warm_up, one.last_ms + self._warm_up) for one in clusters}
        partition = clusters[0].partition
        begin = self._reader.offsets_at(KLINES.name, max(0, min(first for first, _ in wanted.values())))[partition]
        newest: dict[str, int] = {}
        kept: list[KlineBatch] = []
        open_ended = set(wanted)
        for records in self.read({(KLINES.name, partition): (begin, end)}, with_markers=False):
            batch, _ = klines_of(records)
            rows = []
            for row, (symbol, opened) in enumerate(zip(batch.symbols, batch.open_times.tolist(), strict=True)):
                # What comes after a newer kline doesn't count, be that one needed or not.
                if symbol not in open_ended:
                    continue
                first, last = wanted[symbol]
                newest[symbol] = max(newest.get(symbol, 0), opened)
                if opened > last:
                    open_ended.discard(symbol)
                elif opened >= first:
                    rows.append(row)
            kept.append(batch.take(np.array(rows, np.int64)))
            if not open_ended:
                break
        return {symbol: accepted(mine) for symbol, mine in symbols_of(join(kept)).items()}, newest

    def _record(self, one: Republished) -> Record:
        window = one.window
        headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % self._now_ms()))
        return Record(WINDOWS.name, window.symbol.encode(), encode_event(window), window.end_ms - 1, headers)


def passes(
    clusters: Iterable[Cluster], warm_up: int, klines_most: int = KLINES_AT_ONCE, step_ms: int = SECOND_MS, apart_ms: int = _APART_MS
) -> Iterator[list[Cluster]]:
    """Clusters in passes: of one partition, near each other, one a symbol, and so many klines at most (or one cluster).

    `step_ms`: how far apart klines are, or candles. `apart_ms`: further apart than that clusters are not near each other.
    """
    by_partition: defaultdict[int, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        by_partition[cluster.partition].append(cluster)
    for mine in by_partition.values():
        left = sorted(mine, key=lambda one: (one.first_ms, one.symbol))
        while left:
            chosen: list[Cluster] = []
            symbols: set[str] = set()
            later: list[Cluster] = []
            klines, until_ms = 0, left[0].last_ms
            for cluster in left:
                own = (cluster.last_ms - cluster.first_ms + 2 * warm_up) // step_ms + 1
                fits = klines + own <= klines_most and cluster.symbol not in symbols and cluster.first_ms <= until_ms + apart_ms
                if fits or not chosen:
                    chosen.append(cluster)
                    symbols.add(cluster.symbol)
                    klines += own
                    until_ms = max(until_ms, cluster.last_ms)
                else:
                    later.append(cluster)
            yield chosen
            left = later


def _wanted(batch: KlineBatch, spans: Mapping[str, tuple[int, int]]) -> Ints:
    """The rows of symbols within their spans, first and last included."""
    rows = [
        row
        for row, (symbol, opened) in enumerate(zip(batch.symbols, batch.open_times.tolist(), strict=True))
        if (span := spans.get(symbol)) is not None and span[0] <= opened <= span[1]
    ]
    return np.array(rows, np.int64)


def _summary(part: Recomputation, windows: int) -> Repaired:
    first, last = part.repaired_ms
    return Repaired(part.symbol, first, last + SECOND_MS, part.filled, part.corrected, part.since_ms, part.revision, windows, part.complete)
