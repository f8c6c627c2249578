"""Archives as tests need them: klines put straight into files, as `klinestream archive` puts them there."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive import parquet
from klinestream.archive.columns import table_of
from klinestream.archive.files import Files, Span, date_of
from klinestream.market.codec import encode_kline
from klinestream.market.events import Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES, PUBLISHED_HEADER, Topic
from klinestream.replay.klines import IMPORTED
from klinestream.runtime.kafka import Record

LATE_MS = 120
"""How long after its close a kline is published, where a test doesn't say otherwise."""


def record(kline: Kline, offset: int, published_ms: int | None = None, topic: Topic = KLINES) -> Record:
    """A kline as it stands in a topic, at an offset of its symbol's partition."""
    header = (PUBLISHED_HEADER, b"%d" % (kline.close_time_ms + LATE_MS if published_ms is None else published_ms))
    partition = partition_of(kline.symbol, topic.partitions)
    return Record(topic.name, kline.symbol.encode(), encode_kline(kline), kline.close_time_ms, (header,), partition, offset)


def archive(files: Files, feed: Iterable[Kline], topic: Topic = KLINES, file_rows: int = 10_000) -> list[Record]:
    """Archive klines, which come in this order; returns them as records."""
    ends = [0] * topic.partitions
    records = []
    for kline in feed:
        partition = partition_of(kline.symbol, topic.partitions)
        records.append(record(kline, ends[partition], topic=topic))
        ends[partition] += 1
    put(files, records, file_rows)
    return records


def put(files: Files, records: Sequence[Record], file_rows: int = 10_000) -> None:
    """Archive records of one topic, each partition's in order of offset: by the day of their publishing, so many a file."""
    for partition in sorted({one.partition for one in records}):
        mine = [one for one in records if one.partition == partition]
        day = date_of(mine[0].timestamp_ms)
        batch: list[Record] = []
        for one in mine:
            today = max(day, date_of(_published(one)))
            if batch and (today != day or len(batch) == file_rows):
                _write(files, batch, day)
                batch = []
            day = today
            batch.append(one)
        _write(files, batch, day)


def bring(files: Files, klines: Sequence[Kline]) -> None:
    """Put klines where imported ones stand: a file a symbol and day, with the event's columns alone."""
    places: dict[str, list[Kline]] = {}
    for one in klines:
        places.setdefault(f"{IMPORTED}/{KLINES.name}/date={date_of(one.open_time_ms)}/{one.symbol}.parquet", []).append(one)
    for place, mine in places.items():
        table = table_of(KLINES, [record(one, 0) for one in mine])
        event = table.select(table.column_names[8:])
        sink = pa.BufferOutputStream()
        pq.write_table(event, sink, compression="zstd")
        files.put(place, sink.getvalue().to_pybytes())


def _write(files: Files, records: Sequence[Record], day: str) -> None:
    first, last = records[0], records[-1]
    parquet.write(files, Span(first.topic, first.partition, first.offset, last.offset + 1, day), records)


def _published(one: Record) -> int:
    return next((int(value or 0) for name, value in one.headers if name == PUBLISHED_HEADER), one.timestamp_ms)
