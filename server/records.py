"""Records of windows, over klines or over trades, as entries of the history. Pure; strict, since what passes goes to browsers as it is."""

from collections.abc import Callable
from dataclasses import Field, dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from klinestream.market.errors import RecordError
from klinestream.market.events import Kind, TradeWindow, Window, wire_fields
from klinestream.market.topics import PUBLISHED_HEADER
from klinestream.runtime.kafka import Record
from server.history import Entry

VALUE_MOST_BYTES = 4096
"""A window takes about 250 bytes, one over trades 400: anything of this size is not one."""
AHEAD_MOST_MS = 60_000
"""A window from further in the future would push all others out of the history; the feed itself allows 60 s."""

# What orjson makes of each kind. It refuses numbers that are not finite, and takes true for no integer.
_TYPES: dict[Kind, set[type]] = {
    Kind.TEXT: {str},
    Kind.TIME_MS: {int},
    Kind.COUNT: {int},
    Kind.NUMBER: {int, float},
    Kind.FLAG: {bool},
}


@dataclass(frozen=True, slots=True)
class _Form:
    """What a window of a kind has to look like."""

    fields: dict[str, Field[Any]]
    values: Callable[[dict[str, Any]], tuple[Any, ...]]
    counts: tuple[str, ...]


def _form(event: type[Any]) -> _Form:
    fields = wire_fields(event)
    counts = tuple(name for name, field in fields.items() if field.metadata["kind"] in (Kind.TIME_MS, Kind.COUNT))
    return _Form(fields, itemgetter(*fields), counts)


_FORMS = {event.__name__: _form(event) for event in (Window, TradeWindow)}


def entry_from(record: Record, now_ms: int, event: type[Any] = Window) -> Entry:
    """A record as an entry; raises RecordError with a short, stable reason. `event` is a window of either kind."""
    value = record.value
    if value is None or len(value) > VALUE_MOST_BYTES:
        raise RecordError(f"expected a value of at most {VALUE_MOST_BYTES} bytes")
    try:
        window = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    if not isinstance(window, dict):
        raise RecordError("not a JSON object")
    fault = _fault(window, event.__name__)
    if fault is not None:
        raise RecordError(f"{fault}: missing, or not as events.{event.__name__} says")
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


def _fault(window: dict[str, Any], event: str) -> str | None:
    """The first field that isn't as the event says."""
    form = _FORMS[event]
    try:
        misfit = _misfit(event, tuple(map(type, form.values(window))))
    except KeyError as missing:
        return str(missing.args[0])
    if misfit is not None:
        return misfit
    for name in form.counts:
        if window[name] < 0:
            return name
    return None if window["symbol"] else "symbol"


@lru_cache(maxsize=256)
def _misfit(event: str, types: tuple[type, ...]) -> str | None:
    """The first field whose value isn't of a type that its kind allows.

    Nearly all windows have the same types, so they are looked up as a whole, many times as fast as field by field.
    """
    for (name, field), found in zip(_FORMS[event].fields.items(), types, strict=True):
        nothing = field.metadata["nullable"] and found is type(None)
        if found not in _TYPES[field.metadata["kind"]] and not nothing:
            return name
    return None


def _published_ms(record: Record) -> int | None:
    for name, value in record.headers:
        if name == PUBLISHED_HEADER and value.isdigit():
            return int(value)
    return None
