"""Where imported tables are kept, and what each says of itself.

    imported/
    ├── crypto_kline_data/date=2024-01-02/BTCUSDT.parquet                 1 s klines of a day of event time
    ├── crypto_candle_history/interval=1m/BTCUSDT-2024-01.parquet         candles of a month
    ├── trades/date=2024-01-02/BTCUSDT.parquet                            agg_trades/… alike
    └── _sources/BTCUSDT-1s-2024-01-02.json                               a bulk file that was taken in, written last of all

A file has a digest of its rows, and the names and sha256 of the bulk files that they came from, in its metadata. What is told
of the last of these has the hash of the whole file; before that is written, after a kill, the digest has to do. The same bulk
files give the same tables, in whatever order they are imported, and however often that is killed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive.bulk.names import BulkName
from klinestream.archive.bulk.rows import array
from klinestream.archive.bulk.tables import with_proof
from klinestream.archive.files import Files
from klinestream.market.errors import ArchiveError

FOLDER = "imported"
VERSION = 1
_ROWS_A_GROUP = 64 * 1024
_ABOUT = b"klinestream.imported"
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A bulk file."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class About:
    """What a kept table came from."""

    made_from: str
    """klines, or trades; trades and aggTrades for those themselves."""
    sources: tuple[Source, ...]

    def and_of(self, other: "About") -> "About":
        """What both came from."""
        return About(self.made_from, tuple(sorted({*self.sources, *other.sources})))


@dataclass(frozen=True, slots=True)
class Kept:
    """A table of the archive's."""

    table: pa.Table
    about: About


@dataclass(frozen=True, slots=True)
class Told:
    """What was found in a bulk file when it was taken in."""

    file: str
    sha256: str
    rows: int
    quiet: int = 0
    """Seconds, or candles, without trades."""
    missing: int = 0
    """Seconds, or candles, that the span has and the file doesn't tell."""
    unknown: int = 0
    """Seconds before the first trade, whose price only the day before could tell."""
    holes: list[tuple[int, int]] = field(default_factory=list)
    """The first of them, from open time to open time."""
    mismatches: int = 0
    """Between klines and trades of the same day."""
    places: dict[str, str] = field(default_factory=dict)
    """What came of it, and the BLAKE2b of each of these files as it was then."""


class Store:
    """The imported part of an archive."""

    def __init__(self, url: str) -> None:
        """`url` is the archive's. Raises ArchiveError."""
        self.files = Files(f"{url.rstrip('/')}/{FOLDER}")

    def told(self, name: BulkName, sha256: str) -> Told | None:
        """What was told of this very file, if it was taken in and all that came of it is there."""
        try:
            found = orjson.loads(self.files.read(_place(name)) or b"")
            if found.pop("version") != VERSION or found["sha256"] != sha256:
                return None
            told = Told(**found)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            return None
        return told if all(self.exists(place) for place in told.places) else None

    def tell(self, name: BulkName, told: Told) -> None:
        """The file counts as taken in from now on. Raises ArchiveError."""
        self.files.put(_place(name), orjson.dumps({"version": VERSION, **asdict(told)}, option=orjson.OPT_INDENT_2))

    def all_told(self) -> list[dict[str, Any]]:
        """Of each bulk file that was taken in. Raises ArchiveError."""
        found = []
        for path in sorted(self.files.system.glob(self.files.path("_sources/*.json"))):
            place = str(path)[len(self.files.root) + 1 :]
            try:
                found.append(orjson.loads(self.files.read(place) or b""))
            except orjson.JSONDecodeError:
                raise ArchiveError(f"{FOLDER}/{place} can't be read: remove it, and import its file again") from None
        return found

    def exists(self, place: str) -> bool:
        """Whether there is a file."""
        return bool(self.files.system.exists(self.files.path(place)))

    def places(self) -> list[str]:
        """Of all tables, in order."""
        found = self.files.system.glob(self.files.path("*/*/*.parquet"))
        return sorted(str(path)[len(self.files.root) + 1 :] for path in found)

    def hash_of(self, place: str) -> str:
        """BLAKE2b of a file, 128 bits. Raises ArchiveError."""
        with self._reading(place) as file:
            return blake2b(file.read(), digest_size=_DIGEST_BYTES).hexdigest()

    def rows_of(self, place: str) -> int:
        """How many rows a table has. Raises ArchiveError."""
        with self._reading(place) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def read(self, place: str) -> Kept | None:
        """A table; None if there is none. Raises ArchiveError, also where it isn't as it was written."""
        if not self.exists(place):
            return None
        with self._reading(place) as file:
            table = pq.ParquetFile(file, page_checksum_verification=True).read()
        try:
            about = orjson.loads((table.schema.metadata or {})[_ABOUT])
            kept = Kept(table.replace_schema_metadata(None), About(about["made_from"], tuple(Source(**each) for each in about["sources"])))
            digest = about["digest"]
        except (KeyError, TypeError, orjson.JSONDecodeError):
            raise ArchiveError(f"{FOLDER}/{place}: it doesn't say what it holds: remove it, and import its files again") from None
        if _digest(kept) != digest:
            raise ArchiveError(f"{FOLDER}/{place}: isn't as it was written (its digest differs): remove it, and import its files again")
        return Kept(with_proof(kept.table, kept.about.made_from), kept.about)

    def put_aside(self, place: str, kept: Kept) -> None:
        """Write a table, which is not there before it is settled. Raises ArchiveError."""
        about = {"version": VERSION, "digest": _digest(kept), **asdict(kept.about)}
        sink = pa.BufferOutputStream()
        table = kept.table.replace_schema_metadata({_ABOUT: orjson.dumps(about)})
        pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS_A_GROUP, write_page_checksum=True)
        self.files.put_aside(place, sink.getvalue().to_pybytes())

    def settle(self, places: Sequence[str]) -> None:
        """Let tables that were put aside take their places. Raises ArchiveError."""
        for place in places:
            self.files.settle(place)

    def drop_aside(self, places: Sequence[str]) -> None:
        """Let go of tables that were put aside."""
        for place in places:
            self.files.drop_aside(place)

    @contextmanager
    def _reading(self, place: str) -> Iterator[Any]:
        try:
            with self.files.open(place) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise ArchiveError(f"{FOLDER}/{place} can't be read ({error}): remove it, and import its files again") from None


def _place(name: BulkName) -> str:
    return f"_sources/{name.stem}.json"


def _digest(kept: Kept) -> str:
    """BLAKE2b over what it came from, and each column's name, type and values."""
    found = blake2b(orjson.dumps(asdict(kept.about)), digest_size=_DIGEST_BYTES)
    for field_ in kept.table.schema:
        found.update(f"{field_.name} {field_.type}\n".encode())
        column = array(kept.table, field_.name)
        if pa.types.is_string(field_.type):
            encoded = column.dictionary_encode()
            found.update("\n".join(encoded.dictionary.to_pylist()).encode())
            column = encoded.indices
        found.update(column.is_valid().to_numpy(zero_copy_only=False).tobytes() if column.null_count else b"whole")
        if column.null_count == len(column):
            continue
        if pa.types.is_decimal(column.type):
            width = column.type.bit_width // 8
            found.update(column.buffers()[1][column.offset * width : (column.offset + len(column)) * width])
        else:
            filled = column.fill_null(0) if column.null_count else column
            found.update(filled.to_numpy(zero_copy_only=False).tobytes())
    return found.hexdigest()
