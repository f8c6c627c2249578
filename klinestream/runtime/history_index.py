"""Reads which of the exchange's candles are stored, from the topic that holds them, up to where that ends now."""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import structlog

from klinestream.market.codec import decode_event, is_symbol
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import CandleHistory
from klinestream.market.history import Span, checked_rows, merged
from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import CANDLE_HISTORY
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

CLIENT_ID = "klinestream-history"
_POLL_S = 0.5
_SILENCE_S = 15.0
_TOLD_MOST = 5
_MERGE_AT = 64
# As the producer writes them: the rows of a whole topic needn't be parsed to know how far they reach.
_BEGIN = re.compile(rb'\{"s":"([^"\\]+)","i":"(\d+[mhd])","reason":"[a-z]+","rows":\[\[(\d{1,13}),')
_BETWEEN = b"],["


@dataclass(slots=True)
class HistoryIndex:
    """Which candles are stored."""

    spans: dict[tuple[str, str], list[Span]] = field(default_factory=lambda: defaultdict(list))
    """Symbol and interval → open times, merged."""
    unusable: int = 0
    """Records that hold no candles."""

    def read(self, value: bytes | None, last_close_ms: int) -> None:
        """Take a record: its value and timestamp. One that can't be used is counted, and RecordError raised."""
        try:
            symbol, interval, spans = _found_at_once(value or b"", last_close_ms) or _decoded(value or b"")
        except RecordError:
            self.unusable += 1
            raise
        held = self.spans[symbol, interval]
        held += spans
        if len(held) > _MERGE_AT:
            self.spans[symbol, interval] = merged(held)

    def merge(self) -> None:
        """Leave as few spans as possible."""
        for series, spans in self.spans.items():
            self.spans[series] = merged(spans)


def read_history(config: KafkaConfig, *, topic: str = CANDLE_HISTORY.name, clock_s: Callable[[], float] = time.monotonic) -> HistoryIndex:
    """All that the topic holds, from its beginning to its present end.

    Raises BrokerError if no broker answers, if there is no such topic, or if records that must be there don't come for 15 s.
    """
    index = HistoryIndex()
    with closing(open_reader(config, CLIENT_ID)) as reader:
        bounds = {partition: (first, end) for partition, (first, end) in reader.bounds(topic).items() if first < end}
        reader.assign({(topic, partition): first for partition, (first, _) in bounds.items()})
        _read_to(reader, topic, {partition: end for partition, (_, end) in bounds.items()}, index, clock_s)
    index.merge()
    return index


def _read_to(reader: Reader, topic: str, ends: dict[int, int], index: HistoryIndex, clock_s: Callable[[], float]) -> None:
    """Read until every partition has come to its end."""
    heard_s = clock_s()
    while ends:
        for record in reader.poll(_POLL_S):
            end = ends.get(record.partition)
            if end is None or record.offset >= end:
                ends.pop(record.partition, None)  # written after the reading began
                continue
            heard_s = clock_s()
            _take(record, index)
            if record.offset + 1 >= end:
                del ends[record.partition]
        if clock_s() - heard_s > _SILENCE_S:
            raise BrokerError(
                f"expected {topic} up to offset {ends} (partition: offset), but nothing came for {_SILENCE_S:g} s: "
                "check that the broker runs, and what it logs; then try again"
            )


def _take(record: Record, index: HistoryIndex) -> None:
    try:
        index.read(record.value, record.timestamp_ms)
    except RecordError as error:
        if index.unusable <= _TOLD_MOST:
            log.warning("record is no history", topic=record.topic, partition=record.partition, offset=record.offset, reason=str(error))


def _found_at_once(value: bytes, last_close_ms: int) -> tuple[str, str, list[Span]] | None:
    """What a record holds, where its beginning, its timestamp and its number of rows agree that no candle is missing."""
    begin = _BEGIN.match(value)
    length_ms = INTERVALS.get(begin[2].decode(), 0) if begin else 0
    if begin is None or not length_ms:
        return None
    from_ms, to_ms = int(begin[3]), last_close_ms + 1
    if from_ms % length_ms or to_ms - from_ms != (value.count(_BETWEEN) + 1) * length_ms:
        return None
    return begin[1].decode(), begin[2].decode(), [(from_ms, to_ms)]


def _decoded(value: bytes) -> tuple[str, str, list[Span]]:
    history = decode_event(CandleHistory, value)
    length_ms = INTERVALS.get(history.interval)
    if length_ms is None or not is_symbol(history.symbol):
        raise RecordError("s, i: expected a symbol and an interval")
    rows = checked_rows(history.rows, length_ms)
    return history.symbol, history.interval, merged((row[0], row[0] + length_ms) for row in rows)
