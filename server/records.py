"""Records of `crypto_data_aggregated` as entries of the history. Pure; strict, since what passes goes to browsers as it is."""

from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from klinestream.market.errors import RecordError
from klinestream.market.events import Kind, Window, wire_fields
from klinestream.market.topics import PUBLISHED_HEADER
from klinestream.runtime.kafka import Record
from server.history import Entry

VALUE_MOST_BYTES = 4096
"""A window takes about 250 bytes: anything of this size is not one."""
AHEAD_MOST_MS = 60_000
"""A window from further in the future would push all others out of the history; the feed itself allows 60 s."""

_FIELDS = wire_fields(Window)
_VALUES = itemgetter(*_FIELDS)
_COUNTS = tuple(name for name, f in _FIELDS.items() if f.metadata["kind"] in (Kind.TIME_MS, Kind.COUNT))
# What orjson makes of each kind. It refuses numbers that are not finite, and takes true for no integer.
_TYPES: dict[Kind, set[type]] = {
    Kind.TEXT: {str},
    Kind.TIME_MS: {int},
    Kind.COUNT: {int},
    Kind.NUMBER: {int, float},
    Kind.FLAG: {bool},
}


def entry_from(record: Record, now_ms: int) -> Entry:
    """A record as an entry; raises RecordError with a short, stable reason."""
    value = record.value
    if value is None or len(value) > VALUE_MOST_BYTES:
        raise RecordError(f"expected a value of at most {VALUE_MOST_BYTES} bytes")
    try:
        window = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    if not isinstance(window, dict):
        raise RecordError("not a JSON object")
    fault = _fault(window)
    if fault is not None:
        raise RecordError(f"{fault}: missing, or not as events.Window says")
    if window["window_end"] > now_ms + AHEAD_MOST_MS:
        raise RecordError("window_end: lies in the future")
    return Entry(
        window["symbol"],
        window["window_end"],
        window["since"],
        window["revision"],
        record.partition,
        record.offset,
        value,
        _published_ms(record),
    )


def _fault(window: dict[str, Any]) -> str | None:
    """The first field that isn't as the event says."""
    try:
        misfit = _misfit(tuple(map(type, _VALUES(window))))
    except KeyError as missing:
        return str(missing.args[0])
    if misfit is not None:
        return misfit
    for name in _COUNTS:
        if window[name] < 0:
            return name
    return None if window["symbol"] else "symbol"


@lru_cache(maxsize=256)
def _misfit(types: tuple[type, ...]) -> str | None:
    """The first field whose value isn't of a type that its kind allows.

    Nearly all windows have the same types, so they are looked up as a whole, many times as fast as field by field.
    """
    for (name, field), found in zip(_FIELDS.items(), types, strict=True):
        nothing = field.metadata["nullable"] and found is type(None)
        if found not in _TYPES[field.metadata["kind"]] and not nothing:
            return name
    return None


def _published_ms(record: Record) -> int | None:
    for name, value in record.headers:
        if name == PUBLISHED_HEADER and value.isdigit():
            return int(value)
    return None
