"""Records of `crypto_order_book` as the server holds them. Pure; strict, since what passes goes to browsers as it is.

{"s": …, "E": …, "u": …, "bids": [[…]], "asks": [[…]], "spread": …, "mid": …, …}
 └─ the newest of a symbol, whole, as it came       └─ without the levels: its features, of which minutes are held
"""

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import orjson

from klinestream.market.errors import RecordError
from klinestream.market.events import Kind, OrderBook, wire_fields
from klinestream.runtime.kafka import Record
from server.history import Entry
from server.protocol import SYMBOL_MOST_CHARS
from server.records import AHEAD_MOST_MS

VALUE_MOST_BYTES = 16_384
"""A book of 20 levels takes about 1,600 bytes."""
LEVELS = ("bids", "asks")
LEVELS_MOST = 100
"""Of a side: the topic has 20."""
BANDS_MOST = 20

_FIELDS = wire_fields(OrderBook)
FEATURES = tuple(name for name in _FIELDS if name not in LEVELS)
"""All that a record tells besides its levels, by wire name, in order."""


class Book(NamedTuple):
    """One record: what is held of it for minutes, and the whole of it."""

    features: Entry
    update_id: int
    value: bytes

    @property
    def symbol(self) -> str:
        """Of which symbol."""
        return self.features.symbol

    @property
    def time_ms(self) -> int:
        """Event time of the newest update it holds."""
        return self.features.end_ms

    @property
    def place(self) -> tuple[int, int]:
        """The greatest of a symbol is its newest book."""
        return self.features.end_ms, self.update_id


def book_from(record: Record, now_ms: int) -> Book:
    """A record as a book; raises RecordError with a short, stable reason."""
    value = record.value
    if value is None or len(value) > VALUE_MOST_BYTES:
        raise RecordError(f"expected a value of at most {VALUE_MOST_BYTES} bytes")
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    if not isinstance(found, dict):
        raise RecordError("not a JSON object")
    for name, fits in _CHECKS.items():
        if name not in found or not fits(found[name]):
            raise RecordError(f"{name}: missing, or not as events.OrderBook says")
    if found["E"] > now_ms + AHEAD_MOST_MS:
        raise RecordError("E: lies in the future")
    # A copy: what orjson gives keeps the room it was written in, ten times as much.
    features = bytes(memoryview(orjson.dumps({name: found[name] for name in FEATURES})))
    return Book(Entry(found["s"], found["E"], found["since"], 0, record.partition, record.offset, features), found["u"], value)


def _is_symbol(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= SYMBOL_MOST_CHARS


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or value is None


def _is_side(value: Any) -> bool:
    """Whether it is rows of a price and a quantity, as text."""
    if type(value) is not list or len(value) > LEVELS_MOST:
        return False
    rows = set(map(type, value)) <= {list} and set(map(len, value)) <= {2}
    return rows and set(map(type, chain.from_iterable(value))) <= {str}


def _is_depth(value: Any) -> bool:
    """Whether it is pairs of numbers by a whole number of basis points."""
    if type(value) is not dict or len(value) > BANDS_MOST or not all(band.isascii() and band.isdigit() for band in value):
        return False
    rows = set(map(type, value.values())) <= {list} and set(map(len, value.values())) <= {2}
    return rows and set(map(type, chain.from_iterable(value.values()))) <= {int, float}


_OF_KIND: dict[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: lambda value: type(value) is str,
    Kind.TIME_MS: _is_count,
    Kind.COUNT: _is_count,
    Kind.NUMBER: _is_number,
}
_OWN: dict[str, Callable[[Any], bool]] = {"s": _is_symbol, "bids": _is_side, "asks": _is_side, "depth": _is_depth}
_CHECKS = {name: _OWN.get(name) or _OF_KIND[field.metadata["kind"]] for name, field in _FIELDS.items()}
