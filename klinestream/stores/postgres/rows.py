"""Records as rows, folded to one row an identity. Pure.

    records of many topics ─► rows, an identity each once ─► one transaction
                          └─► bad lines, with their reason

Folding a batch and then merging it into a table by the same rule gives the same table however the records are split, ordered and
repeated: of two records of one identity the better one counts, by `Table.rank`; where none is better, the one that is held.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from klinestream.market import decimals
from klinestream.market.codec import decode_event, decode_gap, decode_id_gap
from klinestream.market.errors import RecordError
from klinestream.market.events import Kind, wire_fields
from klinestream.market.intervals import DAY_MS
from klinestream.market.tables import Better, Table
from klinestream.market.topics import FEED_GAPS, ID_GAPS
from klinestream.runtime.kafka import Record
from klinestream.stores.postgres.partitions import first_kept_ms

Row = tuple[Any, ...]
"""A row as it is copied: times in ms, prices and volumes in units of 1e-8, objects as JSON."""
Place = tuple[str, int]
"""Topic and partition."""

# A line from a far future would outlive every retention; what a source's clock is ahead is minutes.
_AHEAD_MOST_MS = 2 * DAY_MS
# What PostgreSQL's index takes has a bound; a name or an id of ours has dozens of characters.
_IDENTITY_MOST = 1000
_CHECKED: Mapping[str, Callable[[bytes], Any]] = {FEED_GAPS.name: decode_gap, ID_GAPS.name: decode_id_gap}
_JSON = (Kind.NUMBERS, Kind.ROWS)


class Shape:
    """A table's rows: how a record becomes one, which is its identity, and which of two counts."""

    def __init__(self, table: Table, keep_days: int) -> None:
        """`keep_days`: rows of days that are no longer kept are passed over; 0 for ever."""
        self.table, self.keep_days = table, keep_days
        names = [column.name for column in table.columns]
        self._decode = _CHECKED.get(table.topic.name) or _decoder(table.topic.event)
        self._fields: Callable[[Any], Row] = attrgetter(*(one.name for one in wire_fields(table.topic.event).values()))
        self._json = [place for place, column in enumerate(table.columns) if column.kind in _JSON]
        self._lists = [place for place, column in enumerate(table.columns) if column.kind is Kind.NAMES]
        self._prices = [place for place, column in enumerate(table.columns) if column.kind is Kind.PRICE]
        self._key_texts = [names.index(name) for name in table.identity if _is_text(table, name)]
        self.identity: Callable[[Row], Row] = itemgetter(*(names.index(name) for name in table.identity))
        self._rank = [(names.index(name), better is Better.GREATER) for name, better in table.rank]
        self.time: Callable[[Row], int] = itemgetter(names.index(table.time))

    def row(self, line: bytes | None) -> Row:
        """The value of a record as a row. Raises RecordError."""
        if line is None:
            raise RecordError("no value")
        row = self._fields(self._decode(line))
        if any(row[place] > decimals.PRICE_MOST for place in self._prices):
            raise RecordError("expected prices below 9.2e10")
        if sum(len(row[place].encode()) for place in self._key_texts) > _IDENTITY_MOST:
            raise RecordError(f"expected names and ids of up to {_IDENTITY_MOST} bytes together")
        if b"\\u0000" in line and b"\\u0000" in line.replace(b"\\\\", b""):  # past backslashes that are themselves meant
            raise RecordError("expected text without the character NUL, which PostgreSQL can't hold")
        if not self._json and not self._lists:
            return row
        return self._with_json(list(row))

    def first_kept_ms(self, now_ms: int) -> int:
        """The first moment that the table keeps."""
        return first_kept_ms(self.table.span, self.keep_days, now_ms)

    def due(self, line: bytes | None, kept_ms: int, now_ms: int) -> Row | None:
        """The row that the table has to hold for a record; None before what it keeps. Raises RecordError."""
        row = self.row(line)
        if self.time(row) > now_ms + _AHEAD_MOST_MS:
            raise RecordError(f"{self.table.time}: lies days ahead")
        return row if self.time(row) >= kept_ms else None

    def is_better(self, row: Row, than: Row) -> bool:
        """Whether a row takes the place of another one of its identity."""
        for place, greater in self._rank:
            if row[place] != than[place]:
                return bool((row[place] > than[place]) is greater)
        return False

    def fold(self, rows: Iterable[Row]) -> dict[Row, Row]:
        """Identity → the row that counts, of rows in the order of their topic."""
        found: dict[Row, Row] = {}
        for row in rows:
            held = found.setdefault(self.identity(row), row)
            if held is not row and self.is_better(row, held):
                found[self.identity(row)] = row
        return found

    def _with_json(self, row: list[Any]) -> Row:
        for place in self._json:
            row[place] = orjson.dumps(row[place]).decode()
        for place in self._lists:
            row[place] = None if row[place] is None else list(row[place])
        return tuple(row)


@dataclass(slots=True)
class Batch:
    """What one transaction writes: rows by table, and up to where each partition has then been read."""

    rows: dict[str, dict[Row, Row]] = field(default_factory=dict)
    positions: dict[Place, int] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Table → records that were read for it."""
    expired: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Table → records of days that are no longer kept."""
    bad: list[tuple[Record, str]] = field(default_factory=list)
    """Records that can't be used, and why."""


def batch_of(records: Iterable[Record], shapes: Mapping[str, Shape], now_ms: int) -> Batch:
    """Fold records; `shapes` by topic."""
    batch, by_table = Batch(), defaultdict[str, list[Row]](list)
    kept_ms = {topic: shape.first_kept_ms(now_ms) for topic, shape in shapes.items()}
    for record in records:
        shape = shapes[record.topic]
        batch.positions[record.topic, record.partition] = record.offset + 1
        batch.records[shape.table.name] += 1
        try:
            row = shape.due(record.value, kept_ms[record.topic], now_ms)
        except RecordError as error:
            batch.bad.append((record, str(error)))
            continue
        if row is None:
            batch.expired[shape.table.name] += 1
        else:
            by_table[record.topic].append(row)
    batch.rows = {shapes[topic].table.name: shapes[topic].fold(rows) for topic, rows in by_table.items()}
    return batch


def _decoder(event: type[Any]) -> Callable[[bytes], Any]:
    def decode(line: bytes) -> Any:
        return decode_event(event, line)

    return decode


def _is_text(table: Table, name: str) -> bool:
    return next(column.kind for column in table.columns if column.name == name) in (Kind.TEXT, Kind.NOTE)
