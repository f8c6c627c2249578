"""The newest record of each symbol in a topic: where a producer that starts goes on, whoever wrote it.

    partition   ├──── chunk 3 ────┼──── chunk 2 ────┼──── chunk 1 ────┼──── chunk 0 ────┤ end
                                                                         every symbol that is followed stands here

A symbol that is followed has a record each second, so the last chunk holds nearly all. One that isn't there is looked for
in the chunks 1, 3, 7, 15 … from the end, and then by halving between the last one without and the first one with it.

Of other feeds a symbol may be silent for long: then the partition is read backwards until each has been found.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from typing import Any, Generic, TypeVar

import orjson
import structlog

from klinestream.market.codec import decode_event, decode_kline
from klinestream.market.continuity import Tail
from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import KLINES, Topic
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.sections import KafkaConfig
from producer.topic_chunks import by_partition, chunk_size, records_between

log = structlog.get_logger()

SCANNED_AT_ONCE = 20_000
"""Records of a chunk where a partition is read backwards."""


class Tails:
    """Looks into the topic. For any number of threads, one at a time; connects for each look."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        """Connects to nothing yet."""
        self._config = config
        self._client_id = client_id
        self._lock = threading.Lock()

    def newest(self, symbols: Collection[str], *, followed: int = 0, deep: bool = True) -> dict[str, Tail]:
        """Symbol → its newest record, of those that have one; `deep`: wherever in the topic, else only near its end.

        `followed` is how many others may stand in a partition with them: a chunk has to hold some seconds of all. Raises BrokerError.
        """
        with self._lock, closing(open_reader(self._config, self._client_id)) as reader:
            bounds = reader.bounds(KLINES.name)
            found: dict[str, Tail] = {}
            for partition, mine in by_partition(symbols, len(bounds)).items():
                size = chunk_size(max(len(mine), followed))
                chunks = _Chunks(reader, KLINES.name, partition, *bounds[partition], size, _tails)
                found |= _search(chunks, mine, deep)
                lost = sorted(set(mine) - found.keys())
                if lost and deep:
                    _log_lost(KLINES, partition, lost)
        return found

    def opened(self, since_ms: Mapping[str, int]) -> dict[str, set[int]]:
        """Symbol → open times of its records in the topic, from its time on. For times shortly before the end. Raises BrokerError."""
        found: dict[str, set[int]] = {symbol: set() for symbol in since_ms}
        with self._lock, closing(open_reader(self._config, self._client_id)) as reader:
            bounds = reader.bounds(KLINES.name)
            for partition, mine in by_partition(since_ms, len(bounds)).items():
                end = bounds[partition][1]
                begin = reader.offsets_at(KLINES.name, min(since_ms[symbol] for symbol in mine))[partition]
                for record in records_between(reader, KLINES.name, partition, begin, end) if begin < end else ():
                    symbol = (record.key or b"").decode(errors="replace")
                    if symbol in found:
                        found[symbol].add(record.timestamp_ms + 1 - SECOND_MS)
        return found


def newest_values(
    config: KafkaConfig, client_id: str, topic: Topic, source: str, symbols: Collection[str], *, by_arrival: bool = False
) -> dict[str, bytes]:
    """Symbol → value of its newest record of a source in a topic keyed by symbol, of those that have one there, however long ago.

    Newest by its time; or `by_arrival`, where times within a second come in any order and only one process writes.

    Others may write into the topic too, over HTTP for example: their ids are no place to go on from. A symbol that has none
    costs reading the whole of its partition. Raises BrokerError.
    """
    found: dict[str, bytes] = {}

    def values(records: Iterable[Record]) -> dict[str, bytes]:
        return _values(records, topic.event, source, lost, by_arrival)

    with closing(open_reader(config, client_id)) as reader:
        bounds = reader.bounds(topic.name)
        for partition, mine in by_partition(symbols, len(bounds)).items():
            chunks = _Chunks(reader, topic.name, partition, *bounds[partition], SCANNED_AT_ONCE, values)
            lost = set(mine)
            for number in range(chunks.count):
                newest = chunks.newest(number)
                chunks.forget(number)
                found |= newest
                lost -= newest.keys()
                if not lost:
                    break
            if lost:
                _log_lost(topic, partition, sorted(lost))
    return found


def _log_lost(topic: Topic, partition: int, lost: list[str]) -> None:
    log.info("symbols without a record in the topic begin anew", topic=topic.name, partition=partition, symbols=lost[:10], count=len(lost))


def _values(records: Iterable[Record], event: type[Any], source: str, symbols: Collection[str], by_arrival: bool) -> dict[str, bytes]:
    newest: dict[bytes, tuple[int, bytes]] = {}
    wanted = {symbol.encode() for symbol in symbols}
    for record in records:
        key = record.key
        if key in wanted and record.value is not None and (by_arrival or key not in newest or record.timestamp_ms >= newest[key][0]):
            try:
                of = getattr(decode_event(event, record.value), "source", source)
            except RecordError:
                continue  # whatever it is, its readers send it to the dead letters
            if of != source:
                continue
            newest[key] = record.timestamp_ms, record.value
    return {key.decode(): value for key, (_, value) in newest.items()}


T = TypeVar("T")


class _Chunks(Generic[T]):
    """One partition in chunks, counted from its end; each is read once."""

    def __init__(  # noqa: PLR0917  # where, and how far
        self,
        reader: Reader,
        topic: str,
        partition: int,
        first: int,
        end: int,
        size: int,
        tails: Callable[[Iterable[Record]], dict[str, T]],
    ) -> None:
        """`tails` finds the newest of each symbol in a chunk's records."""
        self._reader = reader
        self._topic, self._partition = topic, partition
        self._first, self._end, self._size = first, end, size
        self._tails = tails
        self._read: dict[int, dict[str, T]] = {}

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-(self._end - self._first) // self._size)

    def newest(self, number: int) -> Mapping[str, T]:
        """Symbol → its newest record in a chunk."""
        if number not in self._read:
            end = self._end - number * self._size
            begin = max(self._first, end - self._size)
            self._read[number] = self._tails(records_between(self._reader, self._topic, self._partition, begin, end))
        return self._read[number]

    def forget(self, number: int) -> None:
        """A chunk is not looked at again."""
        self._read.pop(number, None)


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


def _search(chunks: _Chunks[Tail], symbols: Iterable[str], deep: bool) -> dict[str, Tail]:
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
