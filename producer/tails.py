"""The newest record of each symbol in the topic: where a producer that starts goes on, whoever wrote it.

    partition   ├──── chunk 3 ────┼──── chunk 2 ────┼──── chunk 1 ────┼──── chunk 0 ────┤ end
                                                                         every symbol that is followed stands here

A symbol that is followed has a record each second, so the last chunk holds nearly all. One that isn't there is looked for
in the chunks 1, 3, 7, 15 … from the end, and then by halving between the last one without and the first one with it.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing

import orjson

from klinestream.market.codec import decode_kline
from klinestream.market.continuity import Tail
from klinestream.market.errors import RecordError
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.sections import KafkaConfig
from producer.topic_chunks import by_partition, chunk_size, records_between


class Tails:
    """Looks into the topic. For any number of threads, one at a time; connects for each look."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        """Connects to nothing yet."""
        self._config = config
        self._client_id = client_id
        self._lock = threading.Lock()

    def newest(self, symbols: Collection[str], *, deep: bool = True) -> dict[str, Tail]:
        """Symbol → its newest record, of those that have one; `deep`: wherever in the topic, else only near its end.

        Raises BrokerError.
        """
        with self._lock, closing(open_reader(self._config, self._client_id)) as reader:
            bounds = reader.bounds(KLINES.name)
            found: dict[str, Tail] = {}
            for partition, mine in by_partition(symbols, len(bounds)).items():
                chunks = _Chunks(reader, partition, *bounds[partition], chunk_size(len(mine)))
                found |= _search(chunks, mine, deep)
        return found


class _Chunks:
    """One partition in chunks, counted from its end; each is read once."""

    def __init__(self, reader: Reader, partition: int, first: int, end: int, size: int) -> None:
        self._reader = reader
        self._partition = partition
        self._first, self._end, self._size = first, end, size
        self._read: dict[int, dict[str, Tail]] = {}

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-(self._end - self._first) // self._size)

    def newest(self, number: int) -> Mapping[str, Tail]:
        """Symbol → its newest record in a chunk."""
        if number not in self._read:
            end = self._end - number * self._size
            self._read[number] = _tails(records_between(self._reader, self._partition, max(self._first, end - self._size), end))
        return self._read[number]


def _tails(records: Iterable[Record]) -> dict[str, Tail]:
    found: dict[str, Tail] = {}
    for record in records:
        try:
            kline = decode_kline(record.value or b"")
        except RecordError:
            continue  # whatever it is, the job sends it to the dead letters
        held = found.get(kline.symbol)
        if held is None or kline.open_time_ms >= held.open_time_ms:
            found[kline.symbol] = Tail(kline.open_time_ms, orjson.loads(record.value or b"")["c"], kline.last_trade_id)
    return found


def _search(chunks: _Chunks, symbols: Iterable[str], deep: bool) -> dict[str, Tail]:
    found: dict[str, Tail] = {}
    if not chunks.count:
        return found
    for symbol in symbols:
        without, place = -1, 0
        while place < chunks.count and symbol not in chunks.newest(place):
            if not deep:
                break
            without, place = place, place * 2 + 1
            if place >= chunks.count > without + 1:
                place = chunks.count - 1
        if place >= chunks.count or symbol not in chunks.newest(place):
            continue
        while place - without > 1:
            middle = (place + without) // 2
            if symbol in chunks.newest(middle):
                place = middle
            else:
                without = middle
        found[symbol] = chunks.newest(place)[symbol]
    return found
