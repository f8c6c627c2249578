"""What was published, straight from the archive's columns: windows, built candles, indicators of some symbols and a stretch of time."""

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from klinestream.archive.columns import RAW, TOMBSTONE
from klinestream.archive.files import Files, current, date_of
from klinestream.market import candles
from klinestream.market.decimals import Ints
from klinestream.market.errors import ArchiveError
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import DAY_MS, INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLES, INDICATORS, WINDOWS, Topic
from klinestream.replay.kline_columns import amounts, numbers, units
from klinestream.replay.proof.results import NULL, Bits, Bools, Results, Symbols, floats, whole

LATE_MS = 2 * DAY_MS
"""So long after their time records are looked for: a repair may come late."""
WINDOW_FIELDS = ("#window_start", "close", "average_price", "low", "high", "volume", "#points", "rsi", "#rsi_ready")
CANDLE_FIELDS = (
    *("#open", "#high", "#low", "#close", "#base_volume", "#base_volume_rest", "#quote_volume", "#quote_volume_rest"),
    *("#taker_base_volume", "#taker_base_volume_rest", "#taker_quote_volume", "#taker_quote_volume_rest"),
    *("#trades", "#first_trade_id", "#last_trade_id", "#klines"),
)
_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
_NAMES = tuple(INTERVALS)


def read(  # noqa: PLR0917  # what is read, of what, and when
    files: Files, topic: Topic, symbols: Collection[str] | None, span: tuple[int, int], columns: Sequence[str], time: str
) -> pa.Table:
    """Records of some symbols, or of all, whose `time` lies in a span, end exclusive. Raises ArchiveError."""
    first, last = date_of(max(span[0], 0)), date_of(span[1] + LATE_MS)
    spans = current(one for date in files.dates(topic.name) if first <= date <= last for one in files.spans(topic.name, date))
    count = max([topic.partitions, *(each.partition + 1 for each in spans)])
    partitions = set(range(count)) if symbols is None else {partition_of(symbol, count) for symbol in symbols}
    found = []
    for each in (each for each in spans if each.partition in partitions):
        try:
            with files.open(each.path) as opened:
                table = _wanted(pq.ParquetFile(opened), symbols, span, [*columns, RAW, TOMBSTONE], time)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise ArchiveError(f"{each.path} can't be read ({error}): `klinestream archive verify` tells what is wrong") from None
        if table is not None:
            found.append(table)
    return pa.concat_tables(found) if found else pa.table({name: pa.array([], pa.string()) for name in columns})


def _wanted(file: pq.ParquetFile, symbols: Collection[str] | None, span: tuple[int, int], columns: list[str], time: str) -> pa.Table | None:
    groups = [number for number in range(file.metadata.num_row_groups) if _may_hold(file.metadata.row_group(number), symbols, span, time)]
    if not groups:
        return None
    table = file.read_row_groups(groups, columns=columns, use_threads=False)
    times = table.column(time).fill_null(-1).to_numpy()
    keep = (times >= span[0]) & (times < span[1]) & table.column(RAW).is_null().to_numpy() & ~table.column(TOMBSTONE).to_numpy()
    table = table.filter(pa.array(keep)).drop_columns([RAW, TOMBSTONE])
    if symbols is None:
        return table
    return table.filter(pc.is_in(table.column("symbol"), pa.array(sorted(symbols), pa.string())))


def _may_hold(group: pq.RowGroupMetaData, symbols: Collection[str] | None, span: tuple[int, int], time: str) -> bool:
    found = {group.column(number).path_in_schema: group.column(number).statistics for number in range(group.num_columns)}
    times, names = found[time], found["symbol"]
    if times is not None and times.has_min_max and not (times.min < span[1] and times.max >= span[0]):
        return False
    if symbols is None or names is None or not names.has_min_max:
        return True
    return any(names.min <= symbol <= names.max for symbol in symbols)


def _keys(table: pa.Table, symbols: Symbols, time: str, since: str | None) -> Ints:
    zeros = np.zeros(len(table), np.int64)
    interval = by_name(table.column("interval"), _NAMES.index) if "interval" in table.column_names else zeros
    held = by_name(table.column("symbol"), symbols.number)
    begun = numbers(table.column(since)) if since else zeros
    return np.stack([held, interval, numbers(table.column(time)), begun, numbers(table.column("revision"))])


def by_name(column: pa.ChunkedArray, number: Callable[[str], int]) -> Ints:
    """A column of names as numbers."""
    encoded = column.combine_chunks().dictionary_encode()
    places = np.array([number(name) for name in encoded.dictionary.to_pylist()], np.int64)
    found: Ints = places[encoded.indices.to_numpy()]
    return found


def _floats(column: pa.ChunkedArray) -> Bits:
    return floats(column.fill_null(float("nan")).to_numpy())


def windows(files: Files, symbols: Symbols, wanted: Collection[str], span: tuple[int, int]) -> Results:
    """The windows that the klines of a stretch completed, by the end of each."""
    names = (
        "symbol",
        "start_ms",
        "end_ms",
        "close",
        "average_price",
        "low",
        "high",
        "volume",
        "points",
        "rsi",
        "rsi_ready",
        "since_ms",
        "revision",
    )
    table = read(files, WINDOWS, wanted, (span[0] + SECOND_MS, span[1] + SECOND_MS), names, "end_ms")
    if not len(table):
        return Results.none(WINDOW_FIELDS)
    columns = [_floats(table.column(name)) for name in ("close", "average_price", "low", "high", "volume", "rsi")]
    flags = whole(table.column("rsi_ready").to_numpy())
    starts, points = whole(numbers(table.column("start_ms"))), whole(numbers(table.column("points")))
    return Results(WINDOW_FIELDS, _keys(table, symbols, "end_ms", "since_ms"), np.stack([starts, *columns[:5], points, columns[5], flags]))


CANDLE_COLUMNS = (
    *("symbol", "interval", "open_time_ms", "close_time_ms", *_PRICES, *_VOLUMES),
    *("trades", "first_trade_id", "last_trade_id", "klines", "complete", "origin", "revision"),
)


def candle_table(files: Files, wanted: Collection[str], span: tuple[int, int]) -> pa.Table:
    """Records of `crypto_candles` that open within a span, built ones and the exchange's own."""
    return read(files, CANDLES, wanted, span, CANDLE_COLUMNS, "open_time_ms")


def built(table: pa.Table, symbols: Symbols) -> Results:
    """The candles among them that were built from klines."""
    table = table.filter(pa.array([origin == "built" for origin in table.column("origin").to_pylist()], pa.bool_()))
    if not len(table):
        return Results.none(CANDLE_FIELDS)
    prices = [units(table.column(name)) for name in _PRICES]
    volumes = [part for name in _VOLUMES for part in amounts(table.column(name))]
    ids = [numbers(table.column(name).fill_null(candles.UNKNOWN_ID)) for name in ("first_trade_id", "last_trade_id")]
    rest = [numbers(table.column("trades")), *ids, numbers(table.column("klines"))]
    values = np.stack([whole(column) for column in (*prices, *volumes, *rest)])
    return Results(CANDLE_FIELDS, _keys(table, symbols, "open_time_ms", None), values)


def as_columns(table: pa.Table) -> Ints:
    """Candles as the engine's tables hold them (HEIGHT, candles), without trade ids, which no indicator looks at."""
    found = np.zeros((candles.HEIGHT, len(table)), np.int64)
    if not len(table):
        return found
    found[candles.BEGAN], found[candles.TRADES] = numbers(table.column("open_time_ms")), numbers(table.column("trades"))
    for place, name in enumerate(_PRICES):
        found[candles.OPEN + place] = units(table.column(name))
    for (unit, rest), name in zip(candles.VOLUMES, _VOLUMES, strict=True):
        found[unit], found[rest] = amounts(table.column(name))
    found[candles.FIRST_ID] = found[candles.LAST_ID] = np.where(found[candles.TRADES] == 0, candles.NO_ID, candles.UNKNOWN_ID)
    return found


def indicator_fields(names: Sequence[str]) -> tuple[str, ...]:
    """The close, every value, and whether each is ready."""
    return ("close", *names, *(f"#{name} ready" for name in names))


def indicators(
    files: Files, symbols: Symbols, wanted: Collection[str], span: tuple[int, int], names: tuple[str, ...]
) -> tuple[Results, int]:
    """The indicators of candles that close within a span; and how many records have other indicators than `names`."""
    columns = ("symbol", "interval", "open_time_ms", "close_time_ms", "close", "values", "unready", "since_ms", "revision")
    table = read(files, INDICATORS, wanted, span, columns, "close_time_ms")
    if not len(table):
        return Results.none(indicator_fields(names)), 0
    told = [tuple(key for key, _ in pairs) for pairs in table.column("values").to_pylist()]
    alike = np.array([each == names for each in told], np.bool_)
    table = table.filter(pa.array(alike))
    values, ready = _values(table, names)
    rows = np.concatenate([_floats(table.column("close"))[None], values, whole(ready)])
    return Results(indicator_fields(names), _keys(table, symbols, "open_time_ms", "since_ms"), rows), int(np.count_nonzero(~alike))


def _values(table: pa.Table, names: tuple[str, ...]) -> tuple[Bits, Bools]:
    """Values and readiness, (names, records)."""
    told = np.full((len(table), len(names)), NULL, np.uint64)
    ready = np.ones((len(table), len(names)), np.bool_)
    places = {name: place for place, name in enumerate(names)}
    rows = zip(table.column("values").to_pylist(), table.column("unready").to_pylist(), strict=True)
    for row, (pairs, unready) in enumerate(rows):
        told[row] = floats(np.array([np.nan if value is None else value for _, value in pairs], np.float64))
        for name in unready:
            ready[row, places[name]] = False
    return told.T.copy(), ready.T.copy()


def names(files: Files, topic: Topic, span: tuple[int, int], time: str) -> set[str]:
    """The symbols that have records in a span."""
    return set(read(files, topic, None, span, ("symbol", time), time).column("symbol").unique().to_pylist())
