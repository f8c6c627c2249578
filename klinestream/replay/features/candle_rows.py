"""Rows of the table `candles`: a closed candle each, with its indicators, in the order in which they became known.

    minutes of klines ─► CandleEngine ─► closed candles ─┬─► rows, each identity once
    history ───────────────────▲   └───► indicators ─────┘

As of live, the exchange's own candles count from the moment they were published. As of final they count from their own close, as
though they had been known then, so that they stand before what was built after them; `known_ms` says when they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from klinestream.archive import parquet
from klinestream.archive.files import Files, current, date_of
from klinestream.market.candle_engine import CandleEngine, CandleSettings, CandleStep
from klinestream.market.candle_history import HistoryTable, decode_history
from klinestream.market.candles import BASE, BEGAN, CLOSE, COUNT, HIGH, LOW, OPEN, QUOTE, TAKER_BASE, TRADES, CandleRows, price, volume
from klinestream.market.decimals import Floats, Ints, ratio
from klinestream.market.errors import RecordError
from klinestream.market.events import HistoryReason
from klinestream.market.intervals import DAY_MS, INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLE_HISTORY, PUBLISHED_HEADER
from klinestream.replay.klines import EVER_MS

Array = npt.NDArray[Any]

_NUMBERS = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume")


def schema(names: Sequence[str]) -> pa.Schema:
    """The table's columns, with indicators of these names."""
    return pa.schema(
        [
            pa.field("symbol", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("interval", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("open_time_ms", pa.int64(), nullable=False),
            pa.field("close_time_ms", pa.int64(), nullable=False),
            pa.field("known_ms", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in _NUMBERS),
            pa.field("trades", pa.int64(), nullable=False),
            pa.field("klines", pa.int64(), nullable=False),
            pa.field("complete", pa.bool_(), nullable=False),
            pa.field("since", pa.int64()),
            pa.field("revision", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64()) for name in names),
            *(pa.field(f"{name}_ready", pa.bool_(), nullable=False) for name in names),
        ]
    )


@dataclass(frozen=True, slots=True)
class Told:
    """A record of the exchange's own candles: what it says, when it was published, and when it counts."""

    history: HistoryTable
    published_ms: int
    counts_ms: int


def history_of(files: Files, symbols: Sequence[str], from_ms: int, to_ms: int, *, live: bool) -> list[Told]:
    """The exchange's own candles that were published in a span, from the day before it on, in the order in which they count.

    As of final those that were published later, too, but none of after the span: they would wait for ever.
    """
    partitions = {partition_of(symbol, CANDLE_HISTORY.partitions) for symbol in symbols}
    wanted = {symbol.encode() for symbol in symbols}
    first, last = date_of(max(0, from_ms - DAY_MS)), date_of(to_ms + (DAY_MS if live else EVER_MS))
    dates = [date for date in files.dates(CANDLE_HISTORY.name) if first <= date <= last]
    spans = current(span for date in dates for span in files.spans(CANDLE_HISTORY.name, date))
    found: list[Told] = []
    for span in spans:
        if span.partition not in partitions:
            continue
        for record in parquet.records(files, span):
            if record.key in wanted:
                published = next((int(value or 0) for name, value in record.headers if name == PUBLISHED_HEADER), record.timestamp_ms)
                found += _told(record.value or b"", record.offset, published, live=live)
    counting = [told for told in found if live or told.history.table[BEGAN, -1] < to_ms]
    return sorted(counting, key=lambda told: (told.counts_ms, told.history.revision))


def _told(value: bytes, offset: int, published_ms: int, *, live: bool) -> list[Told]:
    try:
        whole = decode_history(value, offset)
    except RecordError:
        return []  # the job passes it over, too
    if live:
        return [Told(whole, published_ms, published_ms)]
    # Candles of a hole, each by itself: those around them were built.
    count = whole.table.shape[1]
    cuts = [slice(0, count)] if whole.reason is HistoryReason.START else [slice(row, row + 1) for row in range(count)]
    parts = [HistoryTable(whole.symbol, whole.interval, whole.reason, whole.table[:, cut], whole.revision) for cut in cuts]
    return [Told(part, published_ms, int(part.table[BEGAN, -1]) + INTERVALS[whole.interval]) for part in parts]


@dataclass(slots=True)
class Corrections:
    """What the exchange says of candles that were built otherwise: the newest word on each."""

    words: dict[tuple[str, int, int], tuple[Ints, int, int]] = field(default_factory=dict)
    """(interval, symbol's place, open time) → candle, revision, when it was published."""

    def add(self, place: int, told: Told) -> None:
        """Take a record, in order of revision."""
        for candle in told.history.table.T:
            self.words[told.history.interval, place, int(candle[BEGAN])] = candle, told.history.revision, told.published_ms

    def __call__(self, rows: CandleRows) -> CandleRows:
        """Built candles as the exchange says they were."""
        said = self.of(rows)
        if not said:
            return rows
        table = rows.table.copy()
        for row, (candle, _, _) in said.items():
            table[OPEN : TRADES + 1, row] = candle[OPEN : TRADES + 1]
        return CandleRows(rows.interval, rows.columns, table)

    def of(self, rows: CandleRows) -> dict[int, tuple[Ints, int, int]]:
        """Row → what is said of it."""
        if not self.words:
            return {}
        keys = zip(rows.columns.tolist(), rows.open_times.tolist(), rows.complete.tolist(), strict=True)
        found = {row: self.words.get((rows.interval, place, opened)) for row, (place, opened, whole) in enumerate(keys) if whole}
        return {row: word for row, word in found.items() if word is not None}


@dataclass(slots=True)
class CandleRowsState:
    """What goes on from slice to slice."""

    engine: CandleEngine
    given: dict[str, Array]
    """Interval → (symbols, candles of the span): which have a row already."""
    known_ms: dict[str, Ints] = field(default_factory=dict)
    """Interval → of each symbol when all candles of its run were known."""


class CandleTables:
    """The candles of some symbols, over a span of open times."""

    def __init__(self, symbols: Sequence[str], settings: CandleSettings, from_ms: int, to_ms: int) -> None:
        self._symbols = tuple(symbols)
        self._from_ms, self._to_ms = from_ms, to_ms
        self.corrections = Corrections()
        engine = CandleEngine(settings, aggregates=False)
        engine.corrected = self.corrections
        engine.follow(symbols)
        self._places = {symbol: place for place, symbol in enumerate(symbols)}
        self._names = engine.value_names
        lengths = {name: INTERVALS[name] for name in engine.chains}
        given = {name: np.zeros((len(symbols), (to_ms - from_ms) // length + 2), np.bool_) for name, length in lengths.items()}
        self.state = CandleRowsState(engine, given, {name: np.zeros(len(symbols), np.int64) for name in lengths})
        self._parts: list[dict[str, Array]] = []

    def passed(self, columns: Ints, opened: Ints, known: Ints) -> None:
        """The next klines of these columns opened then, and were known then: what ended before."""
        self._take(self.state.engine.passed(columns, opened), self._of_all(columns, known))

    def minute(self, columns: Ints, table: Ints, newest: Ints, known: Ints) -> None:
        """All klines of a minute of some symbols; `known`: when the last of them were."""
        self._take(self.state.engine.minute(columns, table, newest), self._of_all(columns, known))

    def _of_all(self, columns: Ints, known: Ints) -> Ints:
        found = np.zeros(len(self._symbols), np.int64)
        found[columns] = known
        return found

    def history(self, told: Told) -> None:
        """The exchange's own candles, once they count."""
        if told.history.interval in self.state.engine.chains:
            step = self.state.engine.take([told.history])
            self._take(step, np.full(len(self._symbols), told.published_ms))
            if told.history.reason is not HistoryReason.CORRECTION:
                self._own(step, told)

    def table(self) -> pa.Table:
        """The rows since the last time, by symbol, interval and time."""
        columns = {name: np.concatenate([part[name] for part in self._parts], axis=0) for name in self._parts[0]} if self._parts else {}
        self._parts = []
        shape = schema(self._names)
        if not columns:
            return shape.empty_table()
        order = np.lexsort((columns["open_time_ms"], columns["interval"], columns["symbol"]))
        taken = {name: column[order] for name, column in columns.items()}
        intervals = pa.array(list(INTERVALS))
        found: dict[str, pa.Array] = {name: pa.array(taken[name]) for name in taken if name not in ("values", "ready")}
        found["symbol"] = pa.DictionaryArray.from_arrays(pa.array(taken["symbol"].astype(np.int32)), pa.array(self._symbols))
        found["interval"] = pa.DictionaryArray.from_arrays(pa.array(taken["interval"].astype(np.int32)), intervals)
        found["since"] = pa.array(taken["since"], mask=taken["since"] < 0)
        for place, name in enumerate(self._names):
            found[name] = pa.array(np.ascontiguousarray(taken["values"][:, place]), from_pandas=True)  # nan is null
            found[f"{name}_ready"] = pa.array(np.ascontiguousarray(taken["ready"][:, place]))
        return pa.Table.from_arrays([found[each.name] for each in shape], schema=shape)

    def _take(self, step: CandleStep, known: Ints) -> None:
        """What a step closed, and what else it studied."""
        studies = _Studies(step, self._places)
        for rows in step.closed:
            revisions, when = np.zeros(len(rows.columns), np.int64), known.copy()
            for row, (_, revision, published_ms) in self.corrections.of(rows).items():
                revisions[row] = revision
                when[rows.columns[row]] = max(int(when[rows.columns[row]]), published_ms)
            self._add(_Candles(rows.interval, rows.columns, rows.open_times, rows.table, rows.complete, revisions), studies, when)

    def _own(self, step: CandleStep, told: Told) -> None:
        table = told.history.table
        columns = np.full(table.shape[1], self._places[told.history.symbol])
        studies = _Studies(step, self._places)
        known = np.full(len(self._symbols), told.published_ms)
        whole = np.ones(len(columns), np.bool_)
        revisions = np.full(len(columns), told.history.revision)
        self._add(_Candles(told.history.interval, columns, table[BEGAN], table, whole, revisions), studies, known)

    def _add(self, found: "_Candles", studies: "_Studies", known: Ints) -> None:
        """Rows of those that lie in the span and have none yet."""
        length, given = INTERVALS[found.interval], self.state.given[found.interval]
        place = (found.open_times - self._from_ms) // length + 1
        wanted = (found.open_times >= self._from_ms) & (found.open_times < self._to_ms)
        wanted[wanted] &= ~given[found.columns[wanted], place[wanted]]
        rows = np.flatnonzero(wanted)
        values, ready, since = studies.of(found, len(self._names))
        # In a run a value is known no sooner than those before it.
        latest = self.state.known_ms[found.interval]
        within = since >= 0
        told = known[found.columns]
        told = np.where(within, np.maximum(told, np.where(since == found.open_times, 0, latest[found.columns])), told)
        np.maximum.at(latest, found.columns[within], told[within])
        if not len(rows):
            return
        given[found.columns[rows], place[rows]] = True
        self._parts.append(found.columns_of(rows, told) | {"values": values[rows], "ready": ready[rows], "since": since[rows]})


@dataclass(frozen=True, slots=True)
class _Candles:
    """Closed candles of one interval."""

    interval: str
    columns: Ints
    open_times: Ints
    table: Ints
    complete: Array
    revisions: Ints

    def columns_of(self, rows: Ints, known: Ints) -> dict[str, Array]:
        """Some of them as columns of the table, indicators apart."""
        table, count = self.table[:, rows], len(rows)
        prices = {name: price(table, row) for name, row in zip(_NUMBERS, (OPEN, HIGH, LOW, CLOSE), strict=False)}
        volumes = {name: ratio(*volume(table, row)) for name, row in zip(_NUMBERS[4:], (BASE, QUOTE, TAKER_BASE), strict=True)}
        return {
            "symbol": self.columns[rows],
            "interval": np.full(count, list(INTERVALS).index(self.interval)),
            "open_time_ms": self.open_times[rows],
            "close_time_ms": self.open_times[rows] + INTERVALS[self.interval] - 1,
            "known_ms": known[rows],
            **prices,
            **volumes,
            "trades": table[TRADES],
            "klines": table[COUNT],
            "complete": self.complete[rows],
            "revision": self.revisions[rows],
        }


class _Studies:
    """What a step gave beside candles, by interval, symbol and time."""

    def __init__(self, step: CandleStep, places: dict[str, int]) -> None:
        self._step, self._places = step, places

    def of(self, candles: _Candles, names: int) -> tuple[Floats, Array, Ints]:
        """Values and readiness, (candles, names), and where their runs began, -1 for none."""
        count = len(candles.columns)
        values, ready, since = np.full((count, names), np.nan), np.zeros((count, names), np.bool_), np.full(count, -1, np.int64)
        order = np.lexsort((candles.open_times, candles.columns))
        keys = candles.columns[order] * (1 << 44) + candles.open_times[order]
        for rows in self._step.studies:
            mine = np.array([interval == candles.interval for interval in rows.intervals])
            if not mine.any():
                continue
            columns = np.array([self._places[symbol] for symbol in rows.symbols], np.int64)
            wanted = columns * (1 << 44) + rows.open_times
            at = np.minimum(np.searchsorted(keys, wanted), count - 1)
            hit = np.flatnonzero(mine & (keys[at] == wanted))
            into = order[at[hit]]
            values[into], ready[into], since[into] = rows.values[:, hit].T, rows.ready[:, hit].T, rows.since[hit]
        return values, ready, since
