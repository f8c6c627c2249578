"""Closes of archived candles, symbols × moments: straight from the columns of the files, one group of rows after the other.

    file ─► some rows ─► of the interval and span, complete, no tombstone ─► symbol, moment ─► kept if its revision is higher

A candle of history stands in the day's folder in which it was fetched, so any later day may hold one; each file's own times tell which do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from klinestream.archive.columns import RAW, TIMESTAMP, TOMBSTONE
from klinestream.archive.files import Files, Span, current, date_of
from klinestream.market.correlations import SYMBOLS_MOST, Floats
from klinestream.market.decimals import UNIT
from klinestream.market.errors import ArchiveError, ConfigError
from klinestream.market.intervals import INTERVALS
from klinestream.market.topics import CANDLES
from klinestream.replay.features.group import CANDLES_TABLE
from klinestream.replay.features.reading import dataset, manifest

_OWN = [TOMBSTONE, RAW]
_FIELDS = ["symbol", "interval", "open_time_ms", "close", "complete", "revision"]


@dataclass
class Candles:
    """The archived candles of an interval, of some symbols or, if none are named, of all."""

    files: Files
    interval: str
    symbols: frozenset[str] = frozenset()
    _listed: list[Span] = field(default_factory=list)
    _times: dict[Span, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the files once: those that come later are of no moment asked for."""
        self._listed = current(self.files.spans(CANDLES.name))

    def spans(self, from_ms: int, to_ms: int) -> list[Span]:
        """The files that may hold candles that open from `from_ms` to before `to_ms`. Raises ConfigError where there are none at all."""
        found = [span for span in self._listed if span.date >= date_of(max(0, from_ms))]
        if not found:
            raise ConfigError(
                f"expected files of {CANDLES.name} from {date_of(max(0, from_ms))} on in {self.files.root}, found none: "
                "check --at and archive.url"
            )
        length_ms = INTERVALS[self.interval]
        return [span for span in found if self._first(span) < to_ms and self._last(span) >= from_ms + length_ms - 1]

    def tables(self, spans: Sequence[Span]) -> Iterator[pa.Table]:
        """What the files hold of the interval and the symbols, some rows at a time. Raises ArchiveError."""
        for span in spans:
            try:
                with self.files.open(span.path) as file:
                    parquet = pq.ParquetFile(file, page_checksum_verification=True)
                    for batch in parquet.iter_batches(columns=[*_OWN, *_FIELDS]):
                        yield self._chosen(pa.Table.from_batches([batch]))
            except (OSError, pa.ArrowException) as error:
                raise _unreadable(span, error) from None

    def _chosen(self, table: pa.Table) -> pa.Table:
        # A record that isn't a candle has nulls in its columns.
        which = pc.and_(pc.equal(table.column("interval"), self.interval), table.column("complete"))
        which = pc.and_(which, pc.and_(pc.invert(table.column(TOMBSTONE)), pc.is_null(table.column(RAW))))
        if self.symbols:
            which = pc.and_(which, pc.is_in(table.column("symbol"), pa.array(sorted(self.symbols))))
        return table.filter(which).select(_FIELDS)

    def _first(self, span: Span) -> int:
        return self._bounds(span)[0]

    def _last(self, span: Span) -> int:
        return self._bounds(span)[1]

    def _bounds(self, span: Span) -> tuple[int, int]:
        """The first and last timestamp of a file's records: a candle's is its close time."""
        if span not in self._times:
            try:
                with self.files.open(span.path) as file:
                    self._times[span] = _timestamps(pq.ParquetFile(file).metadata)
            except (OSError, pa.ArrowException, ValueError) as error:
                raise _unreadable(span, error) from None
        return self._times[span]


def _unreadable(span: Span, error: Exception) -> ArchiveError:
    return ArchiveError(f"{span.path} can't be read ({error}): `klinestream archive verify` tells what is wrong")


def _timestamps(metadata: pq.FileMetaData) -> tuple[int, int]:
    place = metadata.schema.names.index(TIMESTAMP)
    found = [metadata.row_group(number).column(place).statistics for number in range(metadata.num_row_groups)]
    return min((each.min for each in found), default=0), max((each.max for each in found), default=-1)


@dataclass(frozen=True, slots=True)
class _Part:
    """A file of features; `path` tells its content too."""

    file: Path
    path: str


@dataclass(frozen=True, slots=True)
class FeatureCandles:
    """The candles of an interval in a folder that `klinestream replay features` wrote: what a model is trained on."""

    folder: Path
    interval: str
    symbols: frozenset[str] = frozenset()

    def spans(self, from_ms: int, to_ms: int) -> list[_Part]:
        """The files that hold candles that open from `from_ms` to before `to_ms`. Raises ConfigError where there are none at all."""
        parts = {str(self.folder / each["file"]): f"{each['file']} {each['blake2b']}" for each in manifest(self.folder)["files"]}
        opened = ds.field("open_time_ms")
        within = dataset(self.folder, CANDLES_TABLE).get_fragments((opened >= from_ms) & (opened < to_ms))
        return [_Part(Path(each.path), parts[each.path]) for each in within]

    def tables(self, spans: Sequence[_Part]) -> Iterator[pa.Table]:
        """What the files hold of the interval and the symbols, a file at a time. Raises ArchiveError."""
        for part in spans:
            try:
                table = pq.read_table(part.file, columns=_FIELDS, partitioning=None)
            except (OSError, pa.ArrowException) as error:
                raise ArchiveError(f"{part.file} can't be read ({error}): make the features anew") from None
            table = table.set_column(0, "symbol", table.column("symbol").cast(pa.string()))
            which = pc.and_(pc.equal(table.column("interval").cast(pa.string()), self.interval), table.column("complete"))
            if self.symbols:
                which = pc.and_(which, pc.is_in(table.column("symbol"), pa.array(sorted(self.symbols))))
            yield table.filter(which)


class Closes:
    """Closes of symbols at the moments of a span, the highest revision of each; nan where there is none."""

    def __init__(self, from_ms: int, to_ms: int, length_ms: int) -> None:
        """Of candles that open from `from_ms` to before `to_ms`."""
        self._from_ms = from_ms
        self._length_ms = length_ms
        self._moments = (to_ms - from_ms) // length_ms
        self._places: dict[str, int] = {}
        self._closes: Floats = np.full((0, self._moments), np.nan)
        self._revisions: npt.NDArray[np.int64] = np.full((0, self._moments), -1)

    @property
    def symbols(self) -> list[str]:
        """In the order of the rows of `window`."""
        return list(self._places)

    def window(self, end_ms: int, candles: int) -> Floats:
        """The closes of the candles up to `end_ms`, symbols × candles."""
        end = (end_ms - self._from_ms) // self._length_ms
        return self._closes[: len(self._places), end - candles : end]

    def add(self, table: pa.Table) -> None:
        """Take candles, each at its place. Raises ConfigError where the symbols are too many."""
        times = table.column("open_time_ms").to_numpy() - self._from_ms
        at = times // self._length_ms
        inside = (at >= 0) & (at < self._moments) & (times % self._length_ms == 0)
        table, at = table.filter(pa.array(inside)), at[inside]
        if not len(table):
            return
        rows = self._rows(table.column("symbol"))
        revisions = table.column("revision").to_numpy()
        # In order of revision, so that of one place the highest is written last.
        order = np.argsort(revisions, kind="stable")
        rows, at, revisions = rows[order], at[order], revisions[order]
        closes = _closes(table.column("close"))[order]
        higher = revisions > self._revisions[rows, at]
        self._revisions[rows[higher], at[higher]] = revisions[higher]
        self._closes[rows[higher], at[higher]] = closes[higher]

    def _rows(self, symbols: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        coded = symbols.combine_chunks().dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        names = coded.dictionary.to_pylist()
        for name in names:
            self._places.setdefault(name, len(self._places))
        if len(self._places) > SYMBOLS_MOST:
            raise ConfigError(f"expected at most {SYMBOLS_MOST:,} symbols in the archive, got more: name some with --symbols")
        self._grow()
        places = np.array([self._places[name] for name in names])
        found: npt.NDArray[np.int64] = places[coded.indices.to_numpy()]
        return found

    def _grow(self) -> None:
        more = len(self._places) - len(self._closes)
        if more > 0:
            # Twice as many, so that symbols that come one by one don't copy all each time.
            more = max(more, len(self._closes))
            self._closes = np.concatenate([self._closes, np.full((more, self._moments), np.nan)])
            self._revisions = np.concatenate([self._revisions, np.full((more, self._moments), -1)])


def _closes(column: pa.ChunkedArray) -> Floats:
    """Prices as numbers; decimals as integers of 1e-8 first: Arrow's own way to float64 rounds otherwise than a division does."""
    prices = pa.concat_arrays([*column.chunks, pa.array([], column.type)])
    if pa.types.is_floating(prices.type):
        found: Floats = prices.to_numpy(zero_copy_only=False)
        return found
    # A decimal is 16 bytes, and a price fits into the lower eight.
    halves = np.frombuffer(prices.buffers()[1], np.int64).reshape(-1, 2)
    return halves[prices.offset : prices.offset + len(prices), 0] / UNIT


def closes_of(candles: Candles | FeatureCandles, spans: Sequence[Any], from_ms: int, to_ms: int) -> Closes:
    """The closes that files hold of a span of open times. Raises ArchiveError, ConfigError."""
    found = Closes(from_ms, to_ms, INTERVALS[candles.interval])
    for table in candles.tables(spans):
        found.add(table)
    return found
