"""One file of the archive: a table of records, sorted by key and time, and in its metadata what it has to hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from klinestream.archive.columns import KEY, OFFSET, TIMESTAMP, as_of_now, records_of, schema_of, table_of
from klinestream.archive.digest import digest, shown
from klinestream.archive.files import Files, Span
from klinestream.market.errors import ArchiveError
from klinestream.market.topics import BY_NAME, Topic
from klinestream.runtime.kafka import Record

# Sorted by symbol, a group holds few of them, and whoever asks for one reads few groups.
_ROWS_A_GROUP = 64 * 1024
_ROWS_AT_ONCE = 10_000  # as Python objects they take ten times as much memory
_ORDER = [(KEY, "ascending"), (TIMESTAMP, "ascending"), (OFFSET, "ascending")]
_ROWS, _DIGEST = b"klinestream.rows", b"klinestream.digest"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file says of itself. `rows` may be fewer than its offsets: markers of transactions, and compacted records, have none."""

    span: Span
    rows: int
    digest: str
    first_timestamp_ms: int
    last_timestamp_ms: int
    bytes: int
    blake2b: str
    """Of the whole file, 128 bits."""

    def told(self) -> dict[str, Any]:
        """For a manifest."""
        return {
            "file": self.span.path.rpartition("/")[2],
            "first_offset": self.span.first,
            "end_offset": self.span.end,
            "rows": self.rows,
            "digest": self.digest,
            "first_timestamp_ms": self.first_timestamp_ms,
            "last_timestamp_ms": self.last_timestamp_ms,
            "bytes": self.bytes,
            "blake2b": self.blake2b,
        }


def write(files: Files, span: Span, records: Sequence[Record]) -> Content:
    """Write records of a partition, in order of offset, as the file of this span. Raises ArchiveError."""
    return _put(files, span, table_of(BY_NAME[span.topic], records), digest(records))


def join(files: Files, spans: Sequence[Span], together: Span) -> Content:
    """Write the records of some files, which follow each other, as one; those are left as they are. Raises ArchiveError."""
    parts = [read(files, span) for span in spans]
    found = [content(files, span) for span in spans]
    whole = sum(int(each.digest, 16) for each in found) % 2**128
    written = _put(files, together, pa.concat_tables(parts), whole)
    if written.rows != sum(each.rows for each in found):
        raise ArchiveError(
            f"{together.path}: expected as many rows as its parts have: check the disk, and run `klinestream archive verify`"
        )
    return written


def read(files: Files, span: Span, columns: Sequence[str] | None = None) -> pa.Table:
    """A file's table, or some of its columns; of an older file what its columns are now. Raises ArchiveError."""
    try:
        with files.open(span.path) as file:
            found = pq.ParquetFile(file, page_checksum_verification=True).read(None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"{span.path} can't be read ({error}): `klinestream archive verify` tells what is wrong") from None
    found = found.replace_schema_metadata(None)
    return as_of_now(_topic(span).event, found) if columns is None else found


def records(files: Files, span: Span) -> Iterator[Record]:
    """A file's records in order of offset, some at a time. Raises ArchiveError."""
    topic = _topic(span)
    table = read(files, span)
    if not table.schema.equals(schema_of(topic)):
        raise ArchiveError(f"{span.path}: its columns are of another version of klinestream: read it with that one")
    order = pc.sort_indices(table.column(OFFSET))
    for begin in range(0, len(table), _ROWS_AT_ONCE):
        yield from records_of(topic, span.partition, table.take(order[begin : begin + _ROWS_AT_ONCE]))


def content(files: Files, span: Span) -> Content:
    """What a file says of itself. Raises ArchiveError."""
    try:
        with files.open(span.path) as file:
            body = file.read()
        metadata = pq.ParquetFile(pa.BufferReader(body)).metadata
        told = metadata.metadata or {}
        times = [_times(metadata.row_group(number)) for number in range(metadata.num_row_groups)]
        return Content(
            span,
            int(told[_ROWS]),
            told[_DIGEST].decode(),
            min((first for first, _ in times), default=0),
            max((last for _, last in times), default=0),
            len(body),
            _hash(body),
        )
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ArchiveError(f"{span.path} can't be read ({error}): `klinestream archive verify` tells what is wrong") from None


def _put(files: Files, span: Span, table: pa.Table, whole: int) -> Content:
    told = {_ROWS: str(len(table)), _DIGEST: shown(whole)}
    table = table.sort_by(_ORDER).replace_schema_metadata(told)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROWS_A_GROUP, store_schema=True, write_page_checksum=True)
    body = sink.getvalue().to_pybytes()
    files.put(span.path, body)
    times = table.column(TIMESTAMP)
    first, last = (min(times.to_pylist()), max(times.to_pylist())) if len(table) else (0, 0)
    return Content(span, len(table), shown(whole), first, last, len(body), _hash(body))


def _hash(body: bytes) -> str:
    return blake2b(body, digest_size=16).hexdigest()


def _times(group: Any) -> tuple[int, int]:
    names = [group.column(number).path_in_schema for number in range(group.num_columns)]
    found = group.column(names.index(TIMESTAMP)).statistics
    return found.min, found.max


def _topic(span: Span) -> Topic:
    try:
        return BY_NAME[span.topic]
    except KeyError:
        raise ArchiveError(f"{span.path}: expected a topic of klinestream's, got {span.topic}") from None
