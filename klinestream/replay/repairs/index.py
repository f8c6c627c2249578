"""Which seconds the repairs hold, in clusters that can be repaired one by one. Pure.

    repairs    |12|13|   |90|                     |7000|…|7059|
    clusters   ├─────────────┤                    ├───────────┤      closer than twice the warm-up: one

Seconds of different clusters never come into one recomputation, since each one reaches a warm-up back and a warm-up on.
A cluster tells where its klines stand in the topic, so nothing of them has to be kept.

Candles use it too, an index an interval: with half its length as the warm-up, candles side by side make a cluster.
"""

import heapq
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass

CLUSTERS_MOST = 100_000
"""How many clusters are known at once: the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Repairs of one symbol that may touch each other's windows. Equal clusters hold the same klines."""

    symbol: str
    partition: int
    first_ms: int
    """Open time of its first second."""
    last_ms: int
    first_offset: int
    last_offset: int


class RepairIndex:
    """Takes the places of klines in `crypto_kline_repairs`, each partition's in order."""

    def __init__(self, warm_up: int, most: int = CLUSTERS_MOST) -> None:
        """`warm_up` in ms; see `repair.warm_up_ms`."""
        self._apart = 2 * warm_up
        self._most = most
        self._clusters: defaultdict[str, list[Cluster]] = defaultdict(list)
        self._count = 0
        self.forgotten = 0
        """How many clusters there was no room for."""

    def __len__(self) -> int:
        """How many clusters are known."""
        return self._count

    def add(self, symbol: str, open_time_ms: int, partition: int, offset: int) -> Cluster:
        """Take one kline; the cluster that holds it now."""
        mine = self._clusters[symbol]
        cluster = Cluster(symbol, partition, open_time_ms, open_time_ms, offset, offset)
        begin = bisect_left(mine, open_time_ms - self._apart, key=lambda one: one.last_ms)
        end = begin
        while end < len(mine) and mine[end].first_ms <= open_time_ms + self._apart:
            cluster = _joined(mine[end], cluster)
            end += 1
        self._count += 1 - (end - begin)
        mine[begin:end] = [cluster]
        if self._count > self._most:
            self._make_room()
        return cluster

    def clusters(self) -> list[Cluster]:
        """All of them, by time and symbol."""
        return sorted((one for mine in self._clusters.values() for one in mine), key=lambda one: (one.first_ms, one.symbol))

    def within(self, symbol: str, first_ms: int, last_ms: int) -> list[Cluster]:
        """A symbol's clusters that reach into a span."""
        mine = self._clusters.get(symbol, [])
        begin = bisect_left(mine, first_ms, key=lambda one: one.last_ms)
        return [one for one in mine[begin:] if one.first_ms <= last_ms]

    def newest_ms(self, symbol: str) -> int | None:
        """Open time of a symbol's newest second."""
        mine = self._clusters.get(symbol)
        return mine[-1].last_ms if mine else None

    def _make_room(self) -> None:
        # A tenth at once: to find one costs as much as to find many.
        oldest = heapq.nsmallest(max(1, self._most // 10), self.clusters(), key=lambda one: one.last_ms)
        for one in oldest:
            self._clusters[one.symbol].remove(one)
        self._count -= len(oldest)
        self.forgotten += len(oldest)


def _joined(one: Cluster, other: Cluster) -> Cluster:
    return Cluster(
        one.symbol,
        one.partition,
        min(one.first_ms, other.first_ms),
        max(one.last_ms, other.last_ms),
        min(one.first_offset, other.first_offset),
        max(one.last_offset, other.last_offset),
    )
