"""The newest records of candles, indicators and signals as they were read: what a client can go on from. Pure and bounded.

    crypto_candles, partition 2   |·· 812 ··|·· 813 ··| … |·· 990 ··|
                                  ^ floor: who has all before it can go on     ^ next

Windows have a history of their own; of candles in progress the newest counts, so nobody goes on from an older one.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from klinestream.market.kinds import RecordKind
from server.stream.series import Item, Positions, Series

TOPICS = tuple(kind.topic for kind in (RecordKind.CANDLES, RecordKind.INDICATORS, RecordKind.SIGNALS))
BYTES_MOST = 4 << 20
"""Of a partition: minutes of the whole market, hours of fifty symbols."""
_ITEM_BYTES = 400  # what a record takes besides its value


@dataclass(slots=True)
class _Partition:
    floor: int
    next_offset: int
    items: deque[Item] = field(default_factory=deque)
    size: int = 0


class Tail:
    """Records since `begin`, the newest `bytes_most` of each partition; of one identity only what ranks higher than before."""

    def __init__(self, bytes_most: int = BYTES_MOST) -> None:
        """Not ready: see `begin`."""
        self._bytes_most = bytes_most
        self._topics: dict[str, dict[int, _Partition]] = {}
        self._ranks: dict[tuple[Series, int, str], tuple[int, int, int]] = {}

    @property
    def ready(self) -> bool:
        """Whether positions are known: all that came before is in the store."""
        return bool(self._topics)

    def begin(self, positions: Positions) -> None:
        """Forget everything; what comes now stands at these offsets and after."""
        self._ranks.clear()
        self._topics = {
            topic: {partition: _Partition(offset, offset) for partition, offset in positions.get(topic, {}).items()} for topic in TOPICS
        }

    def void(self) -> None:
        """Forget everything, until the next `begin`."""
        self._ranks.clear()
        self._topics = {}

    def add(self, item: Item) -> bool:
        """Hold a record; False if one of the same identity ranks as high."""
        held = self._topics.get(item.series.kind.topic, {}).get(item.partition)
        if held is None:
            return False
        held.next_offset = max(held.next_offset, item.offset + 1)
        before = self._ranks.get(item.identity)
        if before is not None and before >= item.rank:
            return False
        self._ranks[item.identity] = item.rank
        held.items.append(item)
        held.size += len(item.value) + _ITEM_BYTES
        while held.size > self._bytes_most:
            self._drop(held)
        return True

    def positions(self, topic: str) -> Mapping[int, int]:
        """Partition → offset after what was read of a topic."""
        return {partition: held.next_offset for partition, held in self._topics.get(topic, {}).items()}

    def since(self, topic: str, cursor: Mapping[int, int]) -> dict[Series, list[Item]] | None:
        """What the holder of a cursor has missed of a topic, by series; None if it can't be told, and snapshots are due."""
        partitions = self._topics.get(topic)
        if not partitions or any(not held.floor <= cursor.get(of, -1) <= held.next_offset for of, held in partitions.items()):
            return None
        missed: dict[Series, list[Item]] = {}
        for partition, held in partitions.items():
            for item in held.items:
                if item.offset >= cursor[partition]:
                    missed.setdefault(item.series, []).append(item)
        return missed

    def _drop(self, held: _Partition) -> None:
        item = held.items.popleft()
        held.size -= len(item.value) + _ITEM_BYTES
        held.floor = item.offset + 1
        if self._ranks.get(item.identity) == item.rank:
            del self._ranks[item.identity]
