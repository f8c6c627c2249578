"""Archived klines, read without a line of JSON: row groups of the wanted symbols alone, one file at a time.

    crypto_kline_data/date=…/kafka_partition=…/*.parquet ─► row groups of the wanted symbols ─► columns ─► checks ─► ArchivedKlines
    imported/crypto_kline_data/date=…/SYMBOL.parquet ─────► the same, published at their close

Files come in order of their offsets, and each symbol's own rows in the order of the topic. What the jobs would not take is left out
and counted, for the same reasons: no value, or one that is no kline, or not of its record's time. What stands on a partition that isn't
its symbol's is no kline of that symbol, and isn't read.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive.columns import OFFSET, PUBLISHED, RAW, TIMESTAMP, TOMBSTONE
from klinestream.archive.files import Files, Span, current, date_of
from klinestream.market.codec import is_symbol
from klinestream.market.errors import ArchiveError
from klinestream.market.intervals import DAY_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES, Topic
from klinestream.replay.kline_columns import (
    CLOSED,
    IDS,
    NO_OFFSET,
    OPENED,
    ORIGIN,
    PRICES,
    PROOF,
    SOURCE,
    SYMBOL,
    TRADES,
    VOLUMES,
    ArchivedKlines,
    coded,
    converted,
    counting,
    joined,
)

IMPORTED = "imported"
"""Folder, below the archive's root, of klines that did not come through the feed."""
EVER_MS = 36_500 * DAY_MS
"""However late: repairs may come weeks after their time."""
_ANY = "*"
_MARKET = (SYMBOL, OPENED, CLOSED, *PRICES, *VOLUMES, TRADES, ORIGIN)
_OWN = (OFFSET, TIMESTAMP, PUBLISHED)
_PROVING = (*IDS, SOURCE, PROOF)  # the last two not in older files


@dataclass(slots=True)
class Left:
    """How many records were left out, by why."""

    without_value: int = 0
    """Tombstones."""
    raw: int = 0
    """Values that are no kline of this version."""
    unsound: int = 0
    """Klines that contradict themselves, or their record's time."""

    def add(self, other: "Left") -> None:
        """Count another's along."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(slots=True)
class KlineArchive:
    """The klines of an archive. `left` counts what was left out of all that was read. Every method raises ArchiveError."""

    files: Files
    topic: Topic = KLINES
    """Or the one of the repairs."""
    with_ids: bool = True
    """Whether trade ids, source and proof are wanted: columns that only the feed's own proof needs."""
    late_ms: int = DAY_MS
    """So long after their time klines are looked for: a file's day is that of publishing."""
    left: Left = field(default_factory=Left)
    _imported_dates: list[str] | None = None

    def files_of(self, symbols: Collection[str], from_ms: int, to_ms: int) -> list["KlineFile"]:
        """The files that hold klines of these symbols with open times from `from_ms` to before `to_ms`, in order of partition and offset.

        They are looked for in the days of the span and up to `late_ms` after, since a file's day is that of publishing.
        """
        last = date_of(to_ms + self.late_ms)
        spans = current(span for date in self._dates(date_of(from_ms), last) for span in self.files.spans(self.topic.name, date))
        partitions = self._partitions()
        by_partition: dict[int, set[str]] = {}
        for symbol in symbols:
            by_partition.setdefault(partition_of(symbol, partitions), set()).add(symbol)
        found = (KlineFile.opened(self.files, span, by_partition[span.partition]) for span in spans if span.partition in by_partition)
        return [each for each in found if each is not None and each.first_ms < to_ms and each.last_ms >= from_ms]

    def symbols(self, from_ms: int, to_ms: int) -> list[str]:
        """All symbols that have klines in a span, imported ones too, sorted. Reads their names alone."""
        found: set[str] = set()
        last = date_of(to_ms + DAY_MS)
        for date in self._dates(date_of(from_ms), last):
            for span in current(self.files.spans(self.topic.name, date)):
                with _reading(self.files, span.path) as file:
                    found.update(filter(is_symbol, file.read(columns=[SYMBOL]).column(0).unique().drop_null().to_pylist()))
        for place in self._imported(_ANY, from_ms, to_ms):
            found.add(place.rpartition("/")[2].removesuffix(".parquet"))
        return sorted(found)

    def read(self, symbols: Collection[str], from_ms: int, to_ms: int) -> Iterator[ArchivedKlines]:
        """The feed's klines of some symbols with open times from `from_ms` to before `to_ms`, file by file."""
        for file in self.files_of(symbols, from_ms, to_ms):
            found = self.read_file(file)
            yield found.take((found.open_times >= from_ms) & (found.open_times < to_ms))

    def read_file(self, file: "KlineFile") -> ArchivedKlines:
        """All klines of the wanted symbols in a file."""
        columns = [*_MARKET, *_OWN, *(_PROVING if self.with_ids else ()), *((RAW, TOMBSTONE) if file.has_others else ())]
        with _reading(self.files, file.span.path) as opened:
            table = opened.read_row_groups(list(file.groups), columns=columns, use_threads=False)
        table = self._without_others(table) if file.has_others else table
        found = self._klines(table, file.symbols, file.span.path)
        order = np.lexsort((found.offsets, found.codes))
        return found if np.array_equal(order, np.arange(len(order))) else found.take(order)

    def imported(self, symbols: Collection[str], from_ms: int, to_ms: int) -> ArchivedKlines:
        """The imported klines of some symbols with open times from `from_ms` to before `to_ms`, each symbol's own in order of time."""
        parts = []
        for symbol in sorted(symbols):
            for place in self._imported(symbol, from_ms, to_ms):
                with _reading(self.files, place) as opened:
                    columns = [*_MARKET, *(_PROVING if self.with_ids else ())]
                    table = opened.read(columns=columns, use_threads=False)
                found = self._klines(_as_records(table), {symbol}, place)
                parts.append(found.take((found.open_times >= from_ms) & (found.open_times < to_ms)))
        whole = joined(parts, tuple(sorted(symbols)))
        whole = whole.take(np.lexsort((whole.open_times, whole.codes)))
        return whole.take(counting(whole))

    def _dates(self, first: str, last: str) -> list[str]:
        return [date for date in self.files.dates(self.topic.name) if first <= date <= last]

    def _partitions(self) -> int:
        """How many the topic has; it never changes, but an archive may be of a broker with more."""
        folders = self.files.system.glob(self.files.path(f"{self.topic.name}/date=*/kafka_partition=*"))
        return max([self.topic.partitions, *(int(str(folder).rpartition("=")[2]) + 1 for folder in folders)])

    def _imported(self, symbol: str, from_ms: int, to_ms: int) -> list[str]:
        topic = f"{IMPORTED}/{KLINES.name}"
        first, last = date_of(from_ms), date_of(max(to_ms - 1, from_ms))
        if self._imported_dates is None:
            self._imported_dates = self.files.dates(topic)
        dates = [date for date in self._imported_dates if first <= date <= last]
        if symbol == _ANY:
            found = [self.files.system.glob(self.files.path(f"{topic}/date={date}/*.parquet")) for date in dates]
            return sorted(str(path)[len(self.files.root) + 1 :] for paths in found for path in paths)
        places = [f"{topic}/date={date}/{symbol}.parquet" for date in dates]
        return [place for place in places if self.files.system.exists(self.files.path(place))]

    def _without_others(self, table: pa.Table) -> pa.Table:
        """Leave out what has no value, or one that isn't a kline."""
        tombstone = table.column(TOMBSTONE).to_numpy()
        raw = ~table.column(RAW).is_null().to_numpy() & ~tombstone
        self.left.without_value += int(np.count_nonzero(tombstone))
        self.left.raw += int(np.count_nonzero(raw))
        return table.filter(pa.array(~tombstone & ~raw))

    def _klines(self, table: pa.Table, symbols: Collection[str], place: str) -> ArchivedKlines:
        try:
            names, codes = coded(table.column(SYMBOL))
            wanted = np.array([name in symbols for name in names], np.bool_)
            if not wanted.all():
                table = table.filter(pa.array(wanted[codes]))
                names, codes = coded(table.column(SYMBOL))
            klines, fit = converted(table, names, codes, self.with_ids)
        except (pa.ArrowException, KeyError, ValueError, AttributeError, IndexError) as error:
            raise ArchiveError(
                f"{place}: expected the columns of a kline, found something else ({error}): `klinestream archive verify` tells"
            ) from None
        self.left.unsound += int(np.count_nonzero(~fit))
        return klines if fit.all() else klines.take(fit)


@dataclass(frozen=True, slots=True)
class KlineFile:
    """A file that holds klines of wanted symbols, and where in it."""

    span: Span
    symbols: frozenset[str]
    groups: tuple[int, ...]
    first_ms: int
    """The least record's time among these groups."""
    last_ms: int
    rows: int
    has_others: bool
    """Whether there may be records that are no klines."""

    @classmethod
    def opened(cls, files: Files, span: Span, symbols: Collection[str]) -> "KlineFile | None":
        """What a file's own statistics say; None where it holds none of them. Raises ArchiveError."""
        with _reading(files, span.path) as file:
            metadata = file.metadata
            groups = [_Group.of(metadata.row_group(number)) for number in range(metadata.num_row_groups)]
        held = [number for number, group in enumerate(groups) if group.may_hold(symbols)]
        if not held:
            return None
        mine = [groups[number] for number in held]
        times = min(group.first_ms for group in mine), max(group.last_ms for group in mine)
        return cls(
            span, frozenset(symbols), tuple(held), *times, sum(group.rows for group in mine), any(group.has_others for group in mine)
        )


@dataclass(frozen=True, slots=True)
class _Group:
    """What a row group's statistics say."""

    rows: int
    first: str
    last: str
    first_ms: int
    last_ms: int
    has_others: bool

    @classmethod
    def of(cls, group: Any) -> "_Group":
        found = {group.column(number).path_in_schema: group.column(number).statistics for number in range(group.num_columns)}
        names, times, raw, tombstones = found[SYMBOL], found[TIMESTAMP], found[RAW], found[TOMBSTONE]
        first, last = (names.min, names.max) if names is not None and names.has_min_max else ("", "\U0010ffff")
        plain = raw is not None and raw.null_count == group.num_rows and tombstones is not None and tombstones.max is False
        return cls(group.num_rows, first, last, times.min, times.max, not plain)

    def may_hold(self, symbols: Collection[str]) -> bool:
        """Whether any of these symbols may stand in it."""
        return any(self.first <= symbol <= self.last for symbol in symbols)


class _reading:  # noqa: N801  # a context manager, used as a function
    """A Parquet file, open; what can't be read is an ArchiveError."""

    def __init__(self, files: Files, place: str) -> None:
        self._files, self._place = files, place

    def __enter__(self) -> Any:
        try:
            self._file = self._files.open(self._place)
            return pq.ParquetFile(self._file, read_dictionary=[SYMBOL, ORIGIN])
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.close()
        if isinstance(error, OSError | pa.ArrowException):
            raise self._unreadable(error) from None

    def _unreadable(self, error: BaseException) -> ArchiveError:
        return ArchiveError(f"{self._place} can't be read ({error}): `klinestream archive verify` tells what is wrong")


def _as_records(table: pa.Table) -> pa.Table:
    """Imported klines with what a record has: published at their close, the record's time."""
    closes = table.column(CLOSED)
    offsets = pa.array(np.full(len(table), NO_OFFSET), pa.int64())
    return table.append_column(TIMESTAMP, closes).append_column(PUBLISHED, closes).append_column(OFFSET, offsets)
