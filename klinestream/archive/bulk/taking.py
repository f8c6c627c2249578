"""What comes of a bulk file's rows: tables that wait aside until all of them have been seen."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa

from klinestream.archive.bulk.amounts import prices
from klinestream.archive.bulk.grid import Grid
from klinestream.archive.bulk.merging import best_seconds, joined, show_time
from klinestream.archive.bulk.names import AGG_TRADES, KLINES, TRADES, BulkName
from klinestream.archive.bulk.rows import Rows, array, by_day, ints
from klinestream.archive.bulk.store import About, Kept, Source, Store, Told
from klinestream.archive.bulk.tables import candles_of, klines_from, klines_of, trade_columns, trades_of
from klinestream.archive.files import date_of
from klinestream.market import topics
from klinestream.market.errors import ArchiveError
from klinestream.market.events import KLINE_INTERVAL, SECOND_MS
from klinestream.market.intervals import DAY_MS
from klinestream.market.trade_seconds import Before, SecondColumns, TradeColumns, filled, id_gaps, traded_seconds

SECONDS_FOLDER = topics.KLINES.name
CANDLES_FOLDER = topics.CANDLE_HISTORY.name
TRADE_FOLDERS = {TRADES: "trades", AGG_TRADES: "agg_trades"}
KEYS = {SECONDS_FOLDER: "open_time_ms", CANDLES_FOLDER: "open_time_ms", "trades": "id", "agg_trades": "id"}
"""Folder → what its tables are sorted by, each value once."""


class Taking(Protocol):
    """One file, as its rows come."""

    aside: list[str]
    """Places of tables that wait."""
    mismatches: list[str]
    """Between klines and trades of the same seconds."""

    def take(self, found: Iterator[Rows]) -> None:
        """All rows. Raises ArchiveError, RecordError."""

    def check(self, *, allow_holes: bool) -> None:
        """Whether all is there that the name promises. Raises ArchiveError."""

    def told(self) -> Told:
        """What was found, once no table waits any more. Raises ArchiveError."""


def taking_of(store: Store, name: BulkName, source: Source) -> Taking:
    """For a file of this name."""
    if name.kind != KLINES:
        return _Trades(store, name, source)
    return (_Seconds if name.interval == KLINE_INTERVAL else _Candles)(store, name, source)


def seconds_place(symbol: str, day_ms: int) -> str:
    """Where 1 s klines of a day are kept."""
    return f"{SECONDS_FOLDER}/date={date_of(day_ms)}/{symbol}.parquet"


class _Klines:
    """What all kinds share: klines on a grid."""

    def __init__(self, store: Store, name: BulkName, source: Source) -> None:
        self._store = store
        self._name = name
        self._source = source
        self._grid = Grid(name.from_ms, name.length_ms if name.kind == KLINES else SECOND_MS)
        self._rows = self._quiet = self._unknown = 0
        self._places: list[str] = []
        self.aside: list[str] = []
        self.mismatches: list[str] = []

    def check(self, *, allow_holes: bool) -> None:
        """See Taking."""
        self._grid.end(self._name.to_ms)
        if self._grid.missing and not allow_holes:
            interval = self._name.interval or KLINE_INTERVAL
            spans = [f"{show_time(first)} to {show_time(end - 1)}" for first, end in self._grid.holes[:3]]
            why = "" if self._name.kind == KLINES else ", since trade ids are missing there"
            raise ArchiveError(
                f"lacks {self._grid.missing:,} {interval} klines ({', '.join(spans)}){why}: get it again; --allow-holes takes what is there"
            )

    def told(self) -> Told:
        """See Taking."""
        counts = self._rows, self._quiet, self._grid.missing, self._unknown, self._grid.holes, len(self.mismatches)
        places = {place: self._store.hash_of(place) for place in self._places}
        return Told(self._source.file, self._source.sha256, *counts, places)

    def _count(self, klines: pa.Table) -> None:
        self._grid.take(ints(klines, "open_time_ms"))
        self._quiet += int(np.count_nonzero(ints(klines, "trades") == 0))

    def _put(self, place: str, table: pa.Table, made_from: str) -> None:
        """With the rows that are there."""
        there = self._store.read(place)
        self._keep(place, there, joined(place, there, self._of(table, made_from), KEYS[place.partition("/")[0]]))

    def _put_seconds(self, day_ms: int, klines: pa.Table, made_from: str) -> None:
        place = seconds_place(self._name.symbol, day_ms)
        there = self._store.read(place)
        best, contradicted = best_seconds(place, there, self._of(klines, made_from))
        self.mismatches += contradicted
        self._keep(place, there, best)

    def _keep(self, place: str, there: Kept | None, now: Kept) -> None:
        self._places.append(place)
        if now != there:
            self.aside.append(place)
            self._store.put_aside(place, now)

    def _of(self, table: pa.Table, made_from: str) -> Kept:
        return Kept(table, About(made_from, (self._source,)))


class _Candles(_Klines):
    """The exchange's candles, all of a month in one file."""

    def take(self, found: Iterator[Rows]) -> None:
        """See Taking."""
        candles = candles_of(self._name, list(found))
        self._rows = len(candles)
        self._count(candles)
        month = date_of(self._name.from_ms)[: len("2024-01")]
        self._put(f"{CANDLES_FOLDER}/interval={self._name.interval}/{self._name.symbol}-{month}.parquet", candles, KLINES)


class _Seconds(_Klines):
    """The exchange's 1 s klines, a file a day."""

    def take(self, found: Iterator[Rows]) -> None:
        """See Taking."""
        for day_ms, held in by_day(found, self._name):
            if held:
                klines = klines_of(self._name, held)
                self._rows += len(klines)
                self._count(klines)
                self._put_seconds(day_ms, klines, KLINES)


class _Trades(_Klines):
    """Trades, a file a day, and the 1 s klines that they make."""

    def __init__(self, store: Store, name: BulkName, source: Source) -> None:
        super().__init__(store, name, source)
        self._before: Before | None = None
        self._newest_id: int | None = None

    def take(self, found: Iterator[Rows]) -> None:
        """See Taking."""
        for day_ms, held in by_day(found, self._name):
            trades = trades_of(self._name, held)
            columns = trade_columns(trades)
            if day_ms == self._name.from_ms:
                self._look_back(day_ms, columns)
            if len(trades):
                self._rows += len(trades)
                folder = TRADE_FOLDERS[self._name.kind]
                self._put(f"{folder}/date={date_of(day_ms)}/{self._name.symbol}.parquet", trades, self._name.kind)
            seconds = self._seconds(day_ms, columns)
            if len(seconds):
                klines = klines_from(self._name.symbol, seconds)
                self._count(klines)
                self._put_seconds(day_ms, klines, TRADES)

    def _look_back(self, day_ms: int, columns: TradeColumns) -> None:
        """What the archive knows of the second before the day."""
        there = self._store.read(seconds_place(self._name.symbol, day_ms - DAY_MS))
        if there is None or not len(columns) or ints(there.table, "open_time_ms")[-1] != day_ms - SECOND_MS:
            return
        self._newest_id = there.table.column("last_trade_id")[-1].as_py()
        self._before = Before(int(prices(array(there.table, "close"))[-1]), int(columns.first_ids[0]) - 1)

    def _seconds(self, day_ms: int, columns: TradeColumns) -> SecondColumns:
        """A day's, without those around trades that are missing."""
        seconds = filled(traded_seconds(columns), day_ms, day_ms + DAY_MS, self._before)
        if not len(seconds):
            return seconds
        if self._before is None:  # nobody can say what was before the first trade: no fault of the file
            self._unknown = (int(seconds.open_times[0]) - self._name.from_ms) // SECOND_MS
            self._grid.next_ms = int(seconds.open_times[0])
        self._before = Before(int(seconds.closes[-1]), int(seconds.last_ids[-1]))
        for from_ms, to_ms in id_gaps(columns, day_ms, self._newest_id):
            seconds = seconds.of((seconds.open_times < from_ms) | (seconds.open_times >= to_ms))
        self._newest_id = self._before.last_id
        return seconds
