"""Which klines were repaired lately: so that a producer that starts knows of the candles over them that are still to be fetched."""

import time
from collections import defaultdict
from contextlib import closing

from klinestream.market.errors import BrokerError
from klinestream.market.events import SECOND_MS
from klinestream.market.history import Span, merged
from klinestream.market.topics import KLINE_REPAIRS
from klinestream.runtime.kafka import open_reader
from klinestream.runtime.sections import KafkaConfig
from producer.history_plan import bounded

RECORDS_MOST = 200_000
"""Newest records of a partition that are looked at: spans that long are in the ledger of gaps too."""
_MERGE_AT = 1000
_POLL_S = 0.5
_SILENCE_S = 15.0


def repaired(config: KafkaConfig, client_id: str, since_ms: int) -> dict[str, list[Span]]:
    """Symbol → spans of its repaired klines that open then or later. Raises BrokerError."""
    found: dict[str, list[Span]] = defaultdict(list)
    with closing(open_reader(config, client_id)) as reader:
        begin = reader.offsets_at(KLINE_REPAIRS.name, since_ms)
        bounds = reader.bounds(KLINE_REPAIRS.name)
        places = {partition: max(begin[partition], end - RECORDS_MOST) for partition, (_, end) in bounds.items() if begin[partition] < end}
        ends = {partition: bounds[partition][1] for partition in places}
        reader.assign({(KLINE_REPAIRS.name, partition): offset for partition, offset in places.items()})
        heard_s = time.monotonic()
        while ends:
            for record in reader.poll(_POLL_S):
                heard_s = time.monotonic()
                opened_ms = record.timestamp_ms + 1 - SECOND_MS
                if record.key and opened_ms >= since_ms:
                    _add(found, record.key.decode(errors="replace"), opened_ms)
                if record.offset + 1 >= ends.get(record.partition, 0):
                    ends.pop(record.partition, None)
            if time.monotonic() - heard_s > _SILENCE_S:
                raise BrokerError(
                    f"expected {KLINE_REPAIRS.name} up to offset {ends} (partition: offset), but nothing came: check the broker"
                )
    return {symbol: merged(spans) for symbol, spans in found.items()}


def _add(found: dict[str, list[Span]], symbol: str, opened_ms: int) -> None:
    spans = found[symbol]
    if spans and spans[-1][1] == opened_ms:
        spans[-1] = spans[-1][0], opened_ms + SECOND_MS  # most come in order
        return
    spans.append((opened_ms, opened_ms + SECOND_MS))
    if len(spans) > _MERGE_AT:
        found[symbol] = bounded(spans)
