"""Which posted records stand behind a newer one of their symbol, as the topic has them. Pure; the same in each replica.

```
 BTC at the partition   10:00:01   10:00:02   10:00:05   10:00:03   10:00:05     late: 10:00:03 stands behind 10:00:05
```

Time is each record's own timestamp: a kline's close time, a trade's time. One of the same time is no late one.
"""

from collections import OrderedDict, deque
from collections.abc import Collection

from klinestream.runtime.kafka import Record

SYMBOLS_MOST = 100_000
LATE_MOST = 50_000
"""Late records that are remembered of each partition: long enough for who has just published them."""
VENUE = b":"


class Order:
    """The newest time of each posted symbol of one topic, and which records came late.

    >>> order = Order()
    >>> for offset, time_ms in enumerate([1000, 3000, 2000, 3000]):
    ...     order.take(Record("t", b"INGEST:A", b"", time_ms, (), 0, offset))
    >>> order.late(0, [1, 2, 3])
    [2]
    """

    def __init__(self, symbols_most: int = SYMBOLS_MOST) -> None:
        """Nothing is read."""
        self._newest: OrderedDict[bytes, int] = OrderedDict()
        self._late: dict[int, deque[int]] = {}
        self._symbols_most = symbols_most

    def take(self, record: Record) -> None:
        """The next record of its partition; the exchange's own have feeds that see to their order."""
        key = record.key
        if key is None or VENUE not in key:
            return
        newest = self._newest.get(key)
        if newest is not None and record.timestamp_ms < newest:
            self._late.setdefault(record.partition, deque(maxlen=LATE_MOST)).append(record.offset)
            return
        self._newest[key] = record.timestamp_ms
        if newest is None and len(self._newest) > self._symbols_most:
            self._newest.popitem(last=False)

    def late(self, partition: int, offsets: Collection[int]) -> list[int]:
        """Which of these records came late, ascending."""
        found = self._late.get(partition)
        if not found or not offsets:
            return []
        first = min(offsets)
        asked: Collection[int] | None = None
        late = []
        for offset in reversed(found):
            if offset < first:
                break
            asked = asked or set(offsets)
            if offset in asked:
                late.append(offset)
        return late[::-1]
