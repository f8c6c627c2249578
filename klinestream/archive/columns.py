"""Records of a topic as a table, and back to the same bytes.

    value ─► JSON ─► a column a field ─► … ─► JSON ─► value, byte for byte
               └─ a value that its columns would not give back is kept as it came, in `raw_value`

A kline's source and proof are null where it comes from before there were such fields: together, or it is kept as it came. A
file from before them has no such columns, and is read as one whose columns are null.

What a table holds is checked when it is made: each value is written again from its columns, and compared. So a table loses
nothing, whatever stands in the topic: garbage, tombstones, fields of a later version.
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from klinestream.market.decimals import show
from klinestream.market.events import KLINE_INTERVAL, Kind, Kline, wire_fields
from klinestream.market.topics import PUBLISHED_HEADER, SCHEMA_HEADER, Topic
from klinestream.runtime.kafka import Record

Values = Sequence[Any]

OFFSET: Final = "kafka_offset"
TIMESTAMP: Final = "kafka_timestamp_ms"
KEY: Final = "kafka_key"
PUBLISHED: Final = "published_ms"
SCHEMA: Final = "schema_version"
HEADERS: Final = "kafka_headers"
RAW: Final = "raw_value"
TOMBSTONE: Final = "tombstone"
PRICE: Final = pa.decimal128(19, 8)
VOLUME: Final = pa.decimal128(38, 8)

_HEADER = pa.struct([("name", pa.string()), ("value", pa.binary())])
_RECORD = (
    pa.field(OFFSET, pa.int64(), nullable=False),
    pa.field(TIMESTAMP, pa.int64(), nullable=False),
    pa.field(PUBLISHED, pa.int64()),
    pa.field(SCHEMA, pa.int64()),
    pa.field(KEY, pa.binary()),
    pa.field(HEADERS, pa.list_(_HEADER)),  # all others
    pa.field(RAW, pa.binary()),
    pa.field(TOMBSTONE, pa.bool_(), nullable=False),  # no value at all
)
LATER: Final = ("source", "proof")
"""Fields that a kline of an older version lacks, on the wire and in a table; they come last."""
_UNFIT = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError, TypeError, KeyError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class Column:
    """How the values of one field become an array, and an array values again; None is null in both."""

    wire: str
    name: str
    type: pa.DataType
    read: Callable[[Values], pa.Array]
    write: Callable[[pa.Array], Values]


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of an event. `constants` stand in the JSON and in no column: wire name → value."""

    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    constants: dict[str, Any]
    later: tuple[str, ...] = ()
    """The last of the keys, which older objects lack, all of them."""

    def fits(self, found: dict[str, Any]) -> bool:
        """Whether an object has the fields of this version, or of an older one, and in their order."""
        keys = tuple(found)
        if keys == self.keys:
            return None not in [found[key] for key in self.later]
        return bool(self.later) and keys == self.keys[: -len(self.later)]

    def arrays(self, objects: Values) -> list[pa.Array]:
        """JSON objects that `fits` lets pass as arrays, all null where there is None. Raises one of `_UNFIT` where any doesn't fit."""
        return [column.read([None if each is None else each.get(column.wire) for each in objects]) for column in self.columns]

    def objects(self, arrays: Sequence[pa.Array]) -> list[dict[str, Any]]:
        """The same JSON objects; nonsense where all is null."""
        values: dict[str, Any] = {column.wire: column.write(array) for column, array in zip(self.columns, arrays, strict=True)}
        values |= {name: repeat(value) for name, value in self.constants.items()}
        found = [dict(zip(self.keys, row, strict=True)) for row in zip(*(values[key] for key in self.keys), strict=False)]
        return [self._as_it_was(each) for each in found] if self.later else found

    def _as_it_was(self, found: dict[str, Any]) -> dict[str, Any]:
        """Without the fields that an older object lacks."""
        if found[self.later[-1]] is None:
            for key in self.later:
                del found[key]
        return found


def layout(event: type[Any]) -> Layout:
    """How an event stands in a table. Columns are called as the event's fields: SQL would take `t` and `T` for one."""
    fields = wire_fields(event)
    columns = tuple(_column(wire, field.name, field.metadata["kind"], field.type) for wire, field in fields.items())
    if event is not Kline:
        return Layout(columns, tuple(fields), {})
    first, *others = fields
    return Layout(columns, (first, "i", *others), {"i": KLINE_INTERVAL}, LATER)


@cache
def schema_of(topic: Topic) -> pa.Schema:
    """The columns of a topic's table: the record's own, then the event's fields in order."""
    return pa.schema([*_RECORD, *(pa.field(column.name, column.type) for column in layout(topic.event).columns)])


def as_of_now(event: type[Any], table: pa.Table) -> pa.Table:
    """A table of events, some of whose columns an older version lacked: with these, null."""
    shape = layout(event)
    for column in shape.columns:
        place = table.schema.get_field_index(column.name)
        if place < 0 and column.wire in shape.later:
            table = table.append_column(column.name, pa.nulls(len(table), column.type))
        elif place >= 0 and pa.types.is_struct(column.type) and not table.schema.field(place).type.equals(column.type):
            table = table.set_column(place, column.name, _nested_as_of_now(table.column(place), column.type))
    return table


def _nested_as_of_now(column: pa.ChunkedArray, now: pa.StructType) -> pa.ChunkedArray:
    """A column of klines; those of yet another version are left as they are."""
    names = [field.name for field in column.type] if pa.types.is_struct(column.type) else []
    if [*names, *LATER] != [field.name for field in now]:
        return column
    whole = _one(column)
    arrays = [*whole.flatten(), *(pa.nulls(len(whole), now.field(name).type) for name in LATER)]
    return pa.chunked_array([pa.StructArray.from_arrays(arrays, fields=list(now), mask=whole.is_null())])


def table_of(topic: Topic, records: Sequence[Record]) -> pa.Table:
    """Records of one partition as a table, in their order."""
    values = [record.value for record in records]
    arrays, kept = _event_arrays(layout(topic.event), values)
    raw = [None if is_kept else value for is_kept, value in zip(kept, values, strict=True)]
    headers = [_Headers.of(record) for record in records]
    own = {
        OFFSET: [record.offset for record in records],
        TIMESTAMP: [record.timestamp_ms for record in records],
        PUBLISHED: [each.published_ms for each in headers],
        SCHEMA: [each.schema for each in headers],
        KEY: [record.key for record in records],
        HEADERS: [each.others for each in headers],
        RAW: raw,
        TOMBSTONE: [value is None for value in values],
    }
    return pa.Table.from_arrays([*(pa.array(own[field.name], field.type) for field in _RECORD), *arrays], schema=schema_of(topic))


def records_of(topic: Topic, partition: int, table: pa.Table) -> list[Record]:
    """The records of a table, in its order: key, value, time and headers as they were (headers in order of name)."""
    combined = table.combine_chunks()
    own = {field.name: combined.column(field.name).to_pylist() for field in _RECORD}
    shape = layout(topic.event)
    arrays = [_one(combined.column(column.name)) for column in shape.columns]
    objects = shape.objects(arrays)
    found = []
    for row, offset in enumerate(own[OFFSET]):
        raw = own[RAW][row]
        value = None if own[TOMBSTONE][row] else orjson.dumps(objects[row]) if raw is None else raw
        headers = _Headers(own[PUBLISHED][row], own[SCHEMA][row], own[HEADERS][row])
        found.append(Record(topic.name, own[KEY][row], value, own[TIMESTAMP][row], headers.all(), partition, offset))
    return found


def _event_arrays(shape: Layout, values: Sequence[bytes | None]) -> tuple[list[pa.Array], list[bool]]:
    """The event's columns, and which values they give back."""
    try:
        objects: list[Any] = [_parsed(shape, value) for value in values]
        arrays = shape.arrays(objects)
        written = [orjson.dumps(each) for each in shape.objects(arrays)]
    except _UNFIT:
        if len(values) == 1:
            return shape.arrays([None]), [False]
        middle = len(values) // 2
        (before, kept), (after, kept_after) = _event_arrays(shape, values[:middle]), _event_arrays(shape, values[middle:])
        return [pa.concat_arrays(pair) for pair in zip(before, after, strict=True)], kept + kept_after
    kept = [again == value for again, value in zip(written, values, strict=True)]
    if not all(kept):
        arrays = shape.arrays([each if is_kept else None for each, is_kept in zip(objects, kept, strict=True)])
    return arrays, kept


def _parsed(shape: Layout, value: bytes | None) -> Any:
    found = orjson.loads(value or b"")
    if not shape.fits(found):
        raise ValueError("not the fields of this version")
    return found


@dataclass(frozen=True, slots=True)
class _Headers:
    """A record's headers: the two that all of ours have, and what else there is."""

    published_ms: int | None
    schema: int | None
    others: list[dict[str, Any]] | None

    @classmethod
    def of(cls, record: Record) -> "_Headers":
        ours: dict[str, int] = {}
        others = []
        for name, value in record.headers:
            if name in (PUBLISHED_HEADER, SCHEMA_HEADER) and name not in ours and _is_number(value):
                ours[name] = int(value)
            else:
                others.append({"name": name, "value": value})
        return cls(ours.get(PUBLISHED_HEADER), ours.get(SCHEMA_HEADER), others or None)

    def all(self) -> tuple[tuple[str, bytes], ...]:
        """In order of name."""
        found = [(each["name"], each["value"]) for each in self.others or ()]
        ours = (PUBLISHED_HEADER, self.published_ms), (SCHEMA_HEADER, self.schema)
        found += [(name, b"%d" % value) for name, value in ours if value is not None]
        return tuple(sorted(found, key=lambda header: (header[0], header[1] or b"")))


def _is_number(value: bytes | None) -> bool:
    return value is not None and value.isdigit() and len(value) < 19 and b"%d" % int(value) == value


def _column(wire: str, name: str, kind: Kind, of: Any) -> Column:
    if of is Kline:
        return _nested(wire, name, layout(Kline))
    arrow, read, write = _KINDS[kind]
    return Column(wire, name, arrow, lambda values: read(values, arrow), write)


def _nested(wire: str, name: str, inner: Layout) -> Column:
    fields = [pa.field(column.name, column.type) for column in inner.columns]

    def read(values: Values) -> pa.Array:
        if any(value is not None and not inner.fits(value) for value in values):
            raise ValueError("not the fields of this version")
        missing = pa.array([value is None for value in values], pa.bool_())
        return pa.StructArray.from_arrays(inner.arrays(values), fields=fields, mask=missing)

    def write(array: pa.Array) -> Values:
        return inner.objects([array.field(number) for number in range(len(fields))])

    return Column(wire, name, pa.struct(fields), read, write)


def _plain(values: Values, arrow: pa.DataType) -> pa.Array:
    return pa.array(values, arrow)


def _decimals(values: Values, arrow: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).cast(arrow)


def _shown(array: pa.Array) -> Values:
    if not len(array):
        return []  # it may have no buffer
    halves = np.frombuffer(array.buffers()[1], np.int64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    low, high = halves.T.tolist()
    if array.null_count == 0 and not any(high) and min(low, default=0) >= 0:
        return [show(value) for value in low]
    wide = [above * 2**64 + below % 2**64 for below, above in zip(low, high, strict=True)]
    return [show(value) if there else None for value, there in zip(wide, array.is_valid().to_pylist(), strict=True)]


def _json(values: Values, arrow: pa.DataType) -> pa.Array:
    return pa.array([None if value is None else orjson.dumps(value).decode() for value in values], arrow)


def _parsed_json(array: pa.Array) -> Values:
    return [None if text is None else orjson.loads(text) for text in array.to_pylist()]


def _pairs(values: Values, arrow: pa.DataType) -> pa.Array:
    return pa.array([None if value is None else list(value.items()) for value in values], arrow)


def _objects(array: pa.Array) -> Values:
    return [None if pairs is None else dict(pairs) for pairs in array.to_pylist()]


def _bytes(values: Values, arrow: pa.DataType) -> pa.Array:
    return pa.array([None if value is None else base64.b64decode(value, validate=True) for value in values], arrow)


def _base64(array: pa.Array) -> Values:
    return [None if raw is None else base64.b64encode(raw).decode() for raw in array.to_pylist()]


def _listed(array: pa.Array) -> Values:
    found: Values = array.to_pylist()
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([*column.chunks, pa.array([], column.type)])


Read = Callable[[Values, pa.DataType], pa.Array]
_KINDS: dict[Kind, tuple[pa.DataType, Read, Callable[[pa.Array], Values]]] = {
    Kind.TEXT: (pa.string(), _plain, _listed),
    Kind.NOTE: (pa.string(), _plain, _listed),
    Kind.TIME_MS: (pa.int64(), _plain, _listed),
    Kind.PRICE: (PRICE, _decimals, _shown),
    Kind.VOLUME: (VOLUME, _decimals, _shown),
    Kind.COUNT: (pa.int64(), _plain, _listed),
    Kind.TRADE_ID: (pa.int64(), _plain, _listed),
    Kind.NUMBER: (pa.float64(), _plain, _listed),
    Kind.FLAG: (pa.bool_(), _plain, _listed),
    Kind.NAMES: (pa.list_(pa.string()), _plain, _listed),
    Kind.NUMBERS: (pa.map_(pa.string(), pa.float64()), _pairs, _objects),
    Kind.ROWS: (pa.string(), _json, _parsed_json),
    Kind.ROWS_BY_NAME: (pa.string(), _json, _parsed_json),
    Kind.BASE64: (pa.binary(), _bytes, _base64),
}
