"""When which cluster of repairs is due, and which ones are finished. Pure: the clock is passed in.

kline of a symbol ─► settle ─► due ─► repaired up to the feed's newest kline ─► waits until the feed has gone on
                                ▲                                         │          │
                                └─────────────────────────────────────────┼──────────┘
                                                                          └─► finished: all windows are published
"""

import math
import re
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass

from klinestream.market.events import SECOND_MS
from klinestream.replay.repairs.index import Cluster, RepairIndex

_FINISHED_MOST = 1000  # a symbol; what is forgotten is repaired again, which changes nothing
_AGAIN_LEAST_S = 1.0
_TOLD = re.compile(r"(\S+) (\d+)-(\d+) up to offset (\d+): .*")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A cluster whose last windows the feed has not come to yet."""

    due_s: float
    pause_s: float
    newest_ms: int
    """Up to which kline its windows are published."""


class Progress:
    """What is due; clusters as the index has them now."""

    again_most_s = 600.0

    def __init__(self, index: RepairIndex, warm_up: int, settle_s: float) -> None:
        """`settle_s`: a symbol without a further repair for this long is due."""
        self.index = index
        self._warm_up = warm_up
        self._settle_s = settle_s
        self._touched_s: dict[str, float] = {}
        self._finished: defaultdict[str, deque[tuple[int, int, int]]] = defaultdict(lambda: deque(maxlen=_FINISHED_MOST))
        self._waiting: dict[Cluster, Waiting] = {}

    def touched(self, symbols: Collection[str], now_s: float) -> None:
        """Further repairs of these symbols came."""
        self._touched_s |= dict.fromkeys(symbols, now_s)

    def settled(self, symbol: str) -> None:
        """The ledger says that no further ones come: don't wait."""
        if symbol in self._touched_s:
            self._touched_s[symbol] = -math.inf

    def due(self, now_s: float) -> list[Cluster]:
        """The clusters to repair now; they don't come again before something is said of them."""
        symbols = {symbol for symbol, touched_s in self._touched_s.items() if now_s - touched_s >= self._settle_s}
        again = {one for one, waiting in self._waiting.items() if now_s >= waiting.due_s}
        if not symbols and not again:
            return []
        self._touched_s = {symbol: touched_s for symbol, touched_s in self._touched_s.items() if symbol not in symbols}
        # Of one that waited and has grown meanwhile only the new form counts, once it has settled.
        return [
            one
            for one in self.index.clusters()
            if (one.symbol in symbols or one in again) and one.symbol not in self._touched_s and not self.is_finished(one)
        ]

    def done_ms(self, cluster: Cluster) -> int:
        """Up to which kline its windows are published, -1 for none."""
        waiting = self._waiting.get(cluster)
        return waiting.newest_ms if waiting else -1

    def waits(self, cluster: Cluster, newest_ms: int, now_s: float) -> None:
        """It is repaired up to the feed's newest kline."""
        before = self._waiting.pop(cluster, None)
        self._drop_waiting(cluster)
        pause_s = self.pause_s(cluster, newest_ms) if newest_ms else _AGAIN_LEAST_S
        if before is not None and before.newest_ms >= newest_ms:
            pause_s = 2 * before.pause_s  # the feed stands still
        pause_s = min(max(pause_s, _AGAIN_LEAST_S), self.again_most_s)
        self._waiting[cluster] = Waiting(now_s + pause_s, pause_s, newest_ms)

    def pause_s(self, cluster: Cluster, newest_ms: int) -> float:
        """How long until there is more to do for it: the rest of its windows at once."""
        return (cluster.last_ms + self._warm_up - newest_ms) / SECOND_MS

    def finished(self, cluster: Cluster) -> None:
        """All its windows are published, or never will be."""
        self._drop_waiting(cluster)
        self._finished[cluster.symbol].append((cluster.first_ms, cluster.last_ms, cluster.last_offset))

    def reopen(self, cluster: Cluster) -> None:
        """What was published of it counts no more: what it depends on has changed."""
        self._drop_waiting(cluster)
        kept = [one for one in self._finished.get(cluster.symbol, ()) if one[1] < cluster.first_ms or cluster.last_ms < one[0]]
        if cluster.symbol in self._finished:
            self._finished[cluster.symbol] = deque(kept, maxlen=_FINISHED_MOST)

    def is_finished(self, cluster: Cluster) -> bool:
        """Nothing is left to do for it."""
        return any(
            first <= cluster.first_ms and cluster.last_ms <= last and cluster.last_offset <= offset
            for first, last, offset in self._finished.get(cluster.symbol, ())
        )

    def remember(self, told: str) -> None:
        """Take what an earlier process told of a finished cluster; see `tell`."""
        if found := _TOLD.fullmatch(told):
            self._finished[found[1]].append((int(found[2]), int(found[3]), int(found[4])))

    def __len__(self) -> int:
        """How many clusters wait, and symbols that have not settled."""
        return len(self._waiting) + len(self._touched_s)

    def _drop_waiting(self, cluster: Cluster) -> None:
        """It, and what it has swallowed."""
        swallowed = [
            one
            for one in self._waiting
            if one.symbol == cluster.symbol and cluster.first_ms <= one.first_ms and one.last_ms <= cluster.last_ms
        ]
        for one in swallowed:
            del self._waiting[one]


def tell(cluster: Cluster, seconds: int, windows: int) -> str:
    """What is told of a finished cluster, for people and for `Progress.remember`.

    >>> tell(Cluster("BTCUSDT", 0, 1_700_000_000_000, 1_700_000_003_000, 7, 10), 4, 310)
    'BTCUSDT 1700000000000-1700000003000 up to offset 10: 4 seconds repaired, 310 windows published again'
    """
    return told(cluster, f"{seconds} seconds repaired, {windows} windows published again")


def told(cluster: Cluster, done: str) -> str:
    """The same, of whatever was done."""
    return f"{cluster.symbol} {cluster.first_ms}-{cluster.last_ms} up to offset {cluster.last_offset}: {done}"
