"""Since when a symbol's klines are in the topic: an early one of each, from which on none is missing but what the ledger tells.

partition   first ├─ chunk 0 ─┼─ chunk 1 ─┼─ ··· ─┼─ chunk n ─┤ end
                   nearly all  └─ a symbol that was added later: by halving, between a chunk without and one with it
"""

from collections.abc import Collection
from contextlib import closing

from klinestream.market.events import SECOND_MS
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Reader, open_reader
from klinestream.runtime.sections import KafkaConfig
from producer.topic_chunks import by_partition, chunk_size, records_between


def first_klines(config: KafkaConfig, client_id: str, symbols: Collection[str], followed: int) -> dict[str, int]:
    """Symbol → open time of one of its first records, of those that have any near one end or the other; `followed` is how many may be.

    A symbol that was not followed for a while may be told too late, never too early: what was missed is in the ledger. Raises
    BrokerError.
    """
    found: dict[str, int] = {}
    with closing(open_reader(config, client_id)) as reader:
        bounds = reader.bounds(KLINES.name)
        size = chunk_size(followed)
        for partition, mine in by_partition(symbols, len(bounds)).items():
            chunks = _Chunks(reader, partition, *bounds[partition], size)
            for symbol in mine:
                since_ms = _search(chunks, symbol)
                if since_ms is not None:
                    found[symbol] = since_ms
    return found


class _Chunks:
    """One partition in chunks, counted from its beginning; each is read once."""

    def __init__(self, reader: Reader, partition: int, first: int, end: int, size: int) -> None:
        self._reader = reader
        self._partition = partition
        self._first, self._end, self._size = first, end, size
        self._read: dict[int, dict[str, int]] = {}

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-(self._end - self._first) // self._size)

    def first(self, number: int, symbol: str) -> int | None:
        """Open time of the symbol's first record in a chunk."""
        if number not in self._read:
            self._read[number] = self._opened(number)
        return self._read[number].get(symbol)

    def _opened(self, number: int) -> dict[str, int]:
        begin = self._first + number * self._size
        # The last chunk is as long as the others, so that every symbol has room in it.
        begin = max(min(begin, self._end - self._size), self._first)
        opened: dict[str, int] = {}
        for record in records_between(self._reader, KLINES.name, self._partition, begin, min(begin + self._size, self._end)):
            if record.key:
                opened.setdefault(record.key.decode(errors="replace"), record.timestamp_ms + 1 - SECOND_MS)
        return opened


def _search(chunks: _Chunks, symbol: str) -> int | None:
    if not chunks.count:
        return None
    without, place = -1, 0
    since_ms = chunks.first(place, symbol)
    if since_ms is None:
        without, place = 0, chunks.count - 1
        since_ms = chunks.first(place, symbol)
    while since_ms is not None and place - without > 1:
        middle = (place + without) // 2
        earlier_ms = chunks.first(middle, symbol)
        if earlier_ms is None:
            without = middle
        else:
            place, since_ms = middle, earlier_ms
    return since_ms
