"""An archive of the seeded market's klines, put straight into files: as `klinestream archive` writes and compacts them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive.columns import schema_of
from klinestream.archive.files import Files, Span, date_of
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS, Origin
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES
from klinestream.standin.market import Seconds
from klinestream.standin.seeded.market import SeededMarket

FILE_S = 900  # of 350 symbols some 16 MiB, which is what compaction makes
_LATE_MS = 150  # from a kline's close to its publishing
_ROWS_A_GROUP = 64 * 1024
_DECIMALS = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")


def write(folder: Path, seed: int, symbols: int, start_ms: int, seconds: int) -> int:
    """Archive so many seconds of the market's first symbols; returns how many klines."""
    market = SeededMarket(seed, symbols)
    files = Files(str(folder))
    names = list(market.symbols)
    by_partition = {
        partition: sorted((name for name in names if partition_of(name, KLINES.partitions) == partition), key=str.encode)
        for partition in range(KLINES.partitions)
    }
    ends = dict.fromkeys(by_partition, 0)
    for first in range(0, seconds, FILE_S):
        count = min(FILE_S, seconds - first)
        found = market.seconds(start_ms + first * SECOND_MS, count)
        for partition, mine in by_partition.items():
            places = np.array([names.index(name) for name in mine], np.int64)
            ends[partition] += _put(files, found, (partition, ends[partition]), mine, places)
    return sum(ends.values())


def _put(files: Files, found: Seconds, place: tuple[int, int], names: list[str], places: Ints) -> int:
    """A file at `place`, which is partition and first offset; returns its rows."""
    partition, first_offset = place
    opens = found.open_time_ms
    there = found.known[:, places]
    # In the topic second by second, in the file symbol by symbol.
    offsets = first_offset + (np.cumsum(there.reshape(-1)) - 1).reshape(there.shape)
    rows = np.flatnonzero(there.T.reshape(-1))

    def column(values: npt.NDArray[np.int64]) -> Ints:
        return np.ascontiguousarray(np.broadcast_to(values, there.shape).T).reshape(-1)[rows]

    opened = column(opens[:, None])
    symbol = pa.DictionaryArray.from_arrays(pa.array(column(np.arange(len(names))).astype(np.int32)), pa.array(names)).cast(pa.string())
    trades, first, last = (column(getattr(found, name)[:, places]) for name in ("trades", "first_trade_id", "last_trade_id"))
    newest = np.maximum.accumulate(np.where(last < 0, 0, last))
    columns = {
        "kafka_offset": column(offsets),
        "kafka_timestamp_ms": opened + SECOND_MS - 1,
        "published_ms": opened + SECOND_MS - 1 + _LATE_MS,
        "schema_version": np.ones(len(rows), np.int64),
        "kafka_key": symbol.cast(pa.binary()),
        "tombstone": np.zeros(len(rows), np.bool_),
        "symbol": symbol,
        "open_time_ms": opened,
        "close_time_ms": opened + SECOND_MS - 1,
        **{name: column(getattr(found, name)[:, places]) for name in _DECIMALS},
        "trades": trades,
        "first_trade_id": first,
        "last_trade_id_within": last,
        "last_trade_id": newest,
        "origin": pa.array([Origin.LIVE.value]).take(pa.array(np.zeros(len(rows), np.int64))),
    }
    schema = schema_of(KLINES)
    arrays = [_array(columns.get(field.name), field.type, len(rows)) for field in schema]
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays(arrays, schema=schema)
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS_A_GROUP, store_schema=True, write_page_checksum=True)
    day = date_of(int(opens[0]))
    files.put(Span(KLINES.name, partition, first_offset, first_offset + len(rows), day).path, sink.getvalue().to_pybytes())
    return len(rows)


def _array(values: Ints | pa.Array | None, kind: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    if isinstance(values, pa.Array):
        return values
    if pa.types.is_decimal(kind):
        halves = np.stack([values, values >> 63], axis=1)  # little-endian: the sign fills the upper half
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(np.ascontiguousarray(halves))])
    return pa.array(values, kind)
