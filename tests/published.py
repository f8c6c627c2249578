"""An archive of what the jobs would have published of some klines: the engine's own lines, as files."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from klinestream.archive import parquet
from klinestream.archive.files import Files, Span
from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable
from klinestream.market.candle_lines import built_lines, history_lines, indicator_lines
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.events import Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import BY_NAME, CANDLES, INDICATORS, KLINE_REPAIRS, KLINES, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.replay.repairs.windows import recomputations, republished, symbols_of
from klinestream.runtime.kafka import Record
from tests.klines import START_MS

DATE = "2023-11-14"  # of START_MS
Values = dict[str, list[tuple[str, int, bytes]]]
"""Topic → key, time and value of each record, in order."""


def published(
    klines: Sequence[Kline],
    *,
    restart: int | None = None,
    history: Iterable[HistoryTable] = (),
    late: Sequence[Kline] = (),
    settings: CandleSettings | None = None,
) -> Values:
    """What the topics hold after these klines. At place `restart` the windows' job starts anew, without its state."""
    found: Values = defaultdict(list)
    for kline in klines:
        found[KLINES.name].append((kline.symbol, kline.close_time_ms, encode_kline(kline)))
    for part in (klines[:restart], klines[restart:]) if restart is not None else (klines,):
        for rows in WindowEngine(WindowSettings()).step(from_klines(part)).windows:
            found[WINDOWS.name] += [(window.symbol, window.end_ms - 1, encode_event(window)) for window in rows.events()]
    _candles(klines, history, settings or CandleSettings(), found)
    _repairs(klines, late, found)
    return found


def _candles(klines: Sequence[Kline], history: Iterable[HistoryTable], settings: CandleSettings, found: Values) -> None:
    engine = CandleEngine(settings)
    for step in (engine.step(from_klines(klines)), engine.take(history)):
        for line in (*built_lines(step, engine.symbols), *history_lines(step)):
            found[CANDLES.name].append(_record(line))
        for rows in step.studies:
            found[INDICATORS.name] += map(_record, indicator_lines(rows))


def _repairs(klines: Sequence[Kline], late: Sequence[Kline], found: Values) -> None:
    """What the repair publishes, once it has seen all of them."""
    settings = WindowSettings()
    feed, offsets = symbols_of(from_klines(klines)), defaultdict[int, int](int)
    given: dict[str, list[tuple[int, Kline]]] = defaultdict(list)
    for kline in late:
        partition = partition_of(kline.symbol, KLINE_REPAIRS.partitions)
        given[kline.symbol].append((offsets[partition], kline))
        offsets[partition] += 1
        found[KLINE_REPAIRS.name].append((kline.symbol, kline.close_time_ms, encode_kline(kline)))
    for symbol, mine in given.items():
        at = np.array([offset for offset, _ in mine], np.int64)
        parts = recomputations(feed[symbol], from_klines([kline for _, kline in mine]), at, settings)
        for one in republished(parts, settings):
            found[WINDOWS.name].append((symbol, one.window.end_ms - 1, encode_event(one.window)))


def _record(line: str) -> tuple[str, int, bytes]:
    key, time_ms, value = line.split("\t")
    return key, int(time_ms), value.encode()


def archived(folder: Path, values: Values, split: int = 10_000) -> Files:
    """As files of up to `split` records."""
    files = Files(str(folder))
    for topic, records in values.items():
        by_partition: dict[int, list[Record]] = defaultdict(list)
        for key, time_ms, value in records:
            partition = partition_of(key, BY_NAME[topic].partitions)
            mine = by_partition[partition]
            headers = (("published_ms", b"%d" % (START_MS + len(mine))), ("schema_version", b"1"))
            mine.append(Record(topic, key.encode(), value, time_ms, headers, partition, len(mine)))
        for partition, mine in by_partition.items():
            for begin in range(0, len(mine), split):
                part = mine[begin : begin + split]
                parquet.write(files, Span(topic, partition, begin, begin + len(part), DATE), part)
    return files
