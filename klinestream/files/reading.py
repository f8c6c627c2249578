"""A file, some rows at a time, all cells as text: CSV, also within gz, zst or zip, and Parquet.

Parquet's decimals and integers are written out exactly; its floats as the shortest text that reads as the same float. Rows are
counted from 1, without the header and empty lines.
"""

import csv as plain_csv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from klinestream.files.names import WITHOUT_HEADER, ZEROES, is_header, lacking, mapped
from klinestream.market.decimals import Ints
from klinestream.market.errors import ConfigError

_BLOCK_BYTES = 8 << 20
_ROWS_AT_ONCE = 100_000
_LINE_BYTES_MOST = 1 << 16
_BROKEN = (OSError, pa.ArrowException, zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How files are to be read."""

    kind: str
    columns: tuple[str, ...] = ()
    """Said outright; else by name, or by how many there are."""
    zeroes: bool = False


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of a file: a column of text a field, and of each row its number, from 1."""

    numbers: Ints
    columns: dict[str, pa.Array]
    raw: Callable[[int], str]
    """A row as it stood, its cells with commas between."""
    broken: list[tuple[int, str]] = field(default_factory=list)
    """Numbers and texts of lines that have more or fewer cells, maybe of rows to come."""
    done: float = 0.0
    """How much of the file was read, 0 to 1."""


def cells(path: Path, wanted: Wanted) -> Iterator[Cells]:
    """All rows of a file. Raises ConfigError where it can't be read or lacks a column."""
    try:
        yield from _parquet(path, wanted) if path.suffix == ".parquet" else _csv(path, wanted)
    except _BROKEN as error:
        raise ConfigError(
            f"{path} can't be read ({error}): expected .csv, also .gz, .zst or .zip with one CSV in it, or .parquet"
        ) from None


def _parquet(path: Path, wanted: Wanted) -> Iterator[Cells]:
    with pq.ParquetFile(path) as file:
        fields = _fields(path, list(file.schema_arrow.names), wanted, has_header=True)
        names = [name for name, each in zip(file.schema_arrow.names, fields, strict=True) if each != "-"]
        kept = [each for each in fields if each != "-"]
        first, rows = 1, max(1, file.metadata.num_rows)
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
            columns = {each: _text(batch.column(name)) for each, name in zip(kept, names, strict=True)}
            yield Cells(np.arange(first, first + len(batch)), columns, _raw(columns), done=first / rows)
            first += len(batch)


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    text = column.cast(pa.string())
    # Of a decimal with one digit it makes 0.E-8, which nothing reads as a number.
    return pc.replace_substring(text, ".E", "E") if pa.types.is_decimal(column.type) else text


def _csv(path: Path, wanted: Wanted) -> Iterator[Cells]:
    size = max(1, path.stat().st_size)
    with ExitStack() as stack:
        header = _cells_of(_first_line(path))
        has_header = is_header(header)
        fields = _fields(path, header, wanted, has_header=has_header)
        names = [f"{number}" for number in range(len(fields))]
        broken: list[tuple[int, str]] = []

        def passed_over(row: Any) -> str:
            broken.append((row.number - int(has_header), row.text))
            return "skip"

        file = stack.enter_context(path.open("rb"))
        found = csv.open_csv(
            _unpacked(path, file, stack),
            csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows=int(has_header)),
            csv.ParseOptions(invalid_row_handler=passed_over),
            csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=True),
        )
        first, ahead = 1, list[int]()
        for batch in found:
            lines = broken.copy()
            broken.clear()
            # The reader may have passed over lines of the next block already.
            ahead = [number for number in (*ahead, *(number for number, _ in lines)) if number >= first]
            numbers = _numbers(first, len(batch), ahead)
            every = [batch.column(name) for name in names]
            columns = {each: column for each, column in zip(fields, every, strict=True) if each != "-"}
            yield Cells(numbers, columns, _raw(dict(zip(names, every, strict=True))), lines, min(1.0, file.tell() / size))
            first = int(numbers[-1]) + 1 if len(numbers) else first
        if broken:
            yield Cells(np.zeros(0, np.int64), {}, str, broken, 1.0)


def _numbers(first: int, count: int, broken: list[int]) -> Ints:
    """Numbers of the next rows that are whole, from `first` on."""
    every = np.arange(first, first + count + len(broken))
    return every[~np.isin(every, broken)][:count]


def _cells_of(line: str) -> list[str]:
    return next(plain_csv.reader([line]), [])


def _first_line(path: Path) -> str:
    with ExitStack() as stack:
        stream = _unpacked(path, stack.enter_context(path.open("rb")), stack)
        first: bytes = stream.read(_LINE_BYTES_MOST).split(b"\n", 1)[0].rstrip(b"\r")
        return first.decode("utf-8-sig")


def _unpacked(path: Path, file: Any, stack: ExitStack) -> Any:
    match path.suffix:
        case ".gz":
            return pa.CompressedInputStream(file, "gzip")
        case ".zst":
            return pa.CompressedInputStream(file, "zstd")
        case ".zip":
            archive = stack.enter_context(zipfile.ZipFile(file))
            inside = [each for each in archive.infolist() if not each.is_dir()]
            if len(inside) != 1:
                raise ConfigError(f"{path}: expected one CSV in it and nothing else, got {len(inside)} files")
            return stack.enter_context(archive.open(inside[0]))
    return file


def _fields(path: Path, header: list[str], wanted: Wanted, *, has_header: bool) -> tuple[str, ...]:
    if wanted.columns:
        fields = wanted.columns
        if len(fields) != len(header):
            raise ConfigError(f"{path}: expected the {len(fields)} columns that --columns names, got {len(header)}")
    elif has_header:
        fields = mapped(header, wanted.kind)
    else:
        fields = WITHOUT_HEADER.get((wanted.kind, len(header)), ())
    missing = lacking(fields, wanted.kind, zeroes=wanted.zeroes)
    if missing:
        shown = ", ".join(header) if has_header else f"no header and {len(header)} columns"
        raise ConfigError(
            f"{path}: expected columns for {', '.join(missing)}, got {shown}: say with --columns which is which"
            + ("; --zero-missing lets klines lack quote volume, trades and takers' volumes" if set(missing) & set(ZEROES) else "")
        )
    return fields


def _raw(columns: dict[str, pa.Array]) -> Callable[[int], str]:
    return lambda row: ",".join("" if (cell := column[row].as_py()) is None else cell for column in columns.values())
