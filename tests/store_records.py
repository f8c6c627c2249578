"""Records of any topic that becomes a table, made from the fields alone: repeated, revised and broken, as delivery and faults make them."""

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from klinestream.market.codec import decode_event
from klinestream.market.decimals import UNIT, show
from klinestream.market.errors import RecordError
from klinestream.market.events import Kind
from klinestream.market.tables import Better, Column, Table

Row = dict[str, Any]
_TEXTS = ("binance", "ids", "币安人生USDT", "rsi_14", 'a "b" \\ c', "1m")
_TIMES, _STEP_MS = 40, 60_000


def record(table: Table, chosen: random.Random, now_ms: int) -> bytes:
    """A record. Of one identity and rank there is one value only, whenever it is made."""
    wire: dict[str, Any] = {}
    fixed = {*table.identity, table.time, *(name for name, _ in table.rank)}
    for column in table.columns:
        if column.name in fixed:
            wire[column.wire] = _fixed(column, chosen, now_ms)
    rest = random.Random(repr((table.name, sorted(wire.items()))))
    return orjson.dumps({column.wire: wire.get(column.wire, _value(column, rest, now_ms)) for column in table.columns})


def _fixed(column: Column, chosen: random.Random, now_ms: int) -> Any:
    """Of few values, so that identities come again."""
    if column.kind is Kind.TIME_MS:
        return now_ms - chosen.randrange(_TIMES) * _STEP_MS
    if column.kind in (Kind.TEXT, Kind.NOTE):
        return chosen.choice(_TEXTS[:3])
    return chosen.randrange(4)


def _value(column: Column, rest: random.Random, now_ms: int) -> Any:
    if column.nullable and rest.random() < 0.3:
        return None
    return _VALUES[column.kind](rest, now_ms)


def _number(rest: random.Random) -> float:
    return rest.choice((rest.random(), -rest.random(), rest.random() * 10.0 ** rest.randint(-300, 300), 0.0, 5))


_VALUES: dict[Kind, Callable[[random.Random, int], Any]] = {
    Kind.TEXT: lambda rest, _: rest.choice(_TEXTS),
    Kind.NOTE: lambda rest, _: rest.choice(("", *_TEXTS)),
    Kind.TIME_MS: lambda rest, now_ms: now_ms - rest.randrange(10**9),
    Kind.PRICE: lambda rest, _: show(rest.randrange(2**63)),
    Kind.VOLUME: lambda rest, _: show(rest.randrange(10**23)),
    Kind.COUNT: lambda rest, _: rest.randrange(2**63),
    Kind.TRADE_ID: lambda rest, _: rest.choice((-1, rest.randrange(2**63))),
    Kind.NUMBER: lambda rest, _: _number(rest),
    Kind.FLAG: lambda rest, _: rest.random() < 0.5,
    Kind.NAMES: lambda rest, _: rest.sample(_TEXTS, rest.randrange(4)),
    Kind.NUMBERS: lambda rest, _: {name: rest.choice((None, _number(rest))) for name in rest.sample(_TEXTS, 3)},
}
_BROKEN: tuple[Any, ...] = (
    *(None, "", "5", "x", -1, -2, 1.5, 2**63, True, [], [1], ["x"], {}, {"x": "1"}, {"x": None}),
    *("1.123456789", "1e3", ".5", "-1.00000000", "1234567890123456.00000000", "007", "12"),
)
_NO_OBJECTS = (b"\x00\xff no JSON", b"[]", b"[1]", b'"text"', b"5", b"{", b"{}", b"null", b'{"s":"\xff"}', b"{} {}", b'{"a":NaN}')


def broken(line: bytes, chosen: random.Random) -> bytes:
    """A line in which something was changed; now and then it is a record even so."""
    if chosen.random() < 0.2:
        return chosen.choice((*_NO_OBJECTS, line[:-1], line[1:], line + b"x", b" " + line + b"\n"))
    fields = orjson.loads(line)
    name = chosen.choice(list(fields))
    if chosen.random() < 0.2:
        del fields[name]
    else:
        # orjson writes no integer past 64 bits.
        fields[name] = chosen.choice(_BROKEN)
    return orjson.dumps(fields)


def event_of(table: Table, line: bytes) -> Any:
    """What the codec makes of a line; None where it is no record."""
    try:
        return decode_event(table.topic.event, line)
    except RecordError:
        return None


def fold(table: Table, lines: Iterable[bytes]) -> dict[tuple[Any, ...], list[Row]]:
    """Identity → the row that counts, by few plain lines, apart from every database.

    Several where lines that were broken say otherwise of one identity and rank: then any of them may stay.
    """
    found: dict[tuple[Any, ...], list[Row]] = {}
    for line in lines:
        event = event_of(table, line)
        if event is None:
            continue
        fields = [getattr(event, name) for name in type(event).__dataclass_fields__]
        row = {column.name: plain(column, value) for column, value in zip(table.columns, fields, strict=True)}
        held = found.setdefault(tuple(row[name] for name in table.identity), [])
        if not held or _better(table, row, held[0]):
            held[:] = [row]
        elif not _better(table, held[0], row):
            held.append(row)
    return found


def _better(table: Table, row: Row, other: Row) -> bool:
    for name, better in table.rank:
        if row[name] != other[name]:
            return bool(row[name] > other[name]) is (better is Better.GREATER)
    return False


def plain(column: Column, value: Any) -> Any:
    """A value of an event as a database holds it."""
    if value is None:
        return None
    if column.kind is Kind.TIME_MS:
        return datetime.fromtimestamp(value // 1000, UTC).replace(microsecond=value % 1000 * 1000)
    if column.kind in (Kind.PRICE, Kind.VOLUME):
        return Decimal(value) / UNIT
    return list(value) if column.kind is Kind.NAMES else value
