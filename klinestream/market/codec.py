"""Events to and from JSON, one by one. Whole batches of klines: `batch`.

Decoding is strict: a missing field, a null, a wrong type or a value that contradicts another is a RecordError with a
short, stable reason. Unknown further fields are passed over, so that a later schema can add some.
"""

import base64
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from klinestream.market import decimals
from klinestream.market.errors import RecordError
from klinestream.market.events import KLINE_INTERVAL, SECOND_MS, Kind, Kline, Origin, wire_fields

_KLINE = wire_fields(Kline)
_ORIGINS = frozenset(Origin)
# The exchange's own rule for symbols, which lets letters of any script in; the colon parts a venue from a name.
_SYMBOL = re.compile(r"[\w\-.:]{1,50}")
TIME_MOST_MS = 4_102_444_800_000  # 2100-01-01: past it a time is a fault, not a time


def encode_kline(kline: Kline) -> bytes:
    """A kline as the value of a record of `crypto_kline_data`."""
    return orjson.dumps(kline_object(kline))


def kline_object(kline: Kline) -> dict[str, Any]:
    """A kline as a JSON object, the exchange's names and decimal strings."""
    record: dict[str, Any] = {}
    for name, field in _KLINE.items():
        value = getattr(kline, field.name)
        record[name] = decimals.show(value) if field.metadata["kind"] in (Kind.PRICE, Kind.VOLUME) else value
        if name == "s":
            record["i"] = KLINE_INTERVAL
    return record


def decode_kline(line: bytes) -> Kline:
    """The value of a record of `crypto_kline_data` as a kline; raises RecordError."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    return kline_from(record)


def kline_from(record: Any) -> Kline:
    """A JSON object with the exchange's names as a kline; raises RecordError."""
    if not isinstance(record, dict):
        raise RecordError("not a JSON object")
    if record.get("i", KLINE_INTERVAL) != KLINE_INTERVAL:
        raise RecordError(f"i: expected {KLINE_INTERVAL}")
    values: dict[str, Any] = {}
    for name, field in _KLINE.items():
        if name not in record:
            raise RecordError(f"{name}: missing")
        try:
            values[field.name] = _READERS[field.metadata["kind"]](record[name])
        except RecordError as error:
            raise RecordError(f"{name}: {error}") from None
    return checked(Kline(**values))


def checked(kline: Kline) -> Kline:
    """The same kline, if its fields agree with each other; raises RecordError."""
    if not is_symbol(kline.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if kline.origin not in _ORIGINS:
        raise RecordError("origin: expected live, derived or rest")
    if kline.open_time_ms % SECOND_MS:
        raise RecordError("t: not a whole second")
    if kline.close_time_ms != kline.open_time_ms + SECOND_MS - 1:
        raise RecordError("T: not t + 999")
    if not kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high:
        raise RecordError("l, h: open or close lies outside them")
    if not 0 < kline.low <= kline.high <= decimals.PRICE_MOST:
        raise RecordError("l, h: expected prices above 0 and below 9.2e10")
    return kline


@lru_cache(maxsize=65_536)
def is_symbol(name: str) -> bool:
    """Whether a name can be a symbol.

    >>> is_symbol("BTCUSDT"), is_symbol("two words")
    (True, False)
    """
    return _SYMBOL.fullmatch(name) is not None


def encode_event(event: Any) -> bytes:
    """Any other event as the value of its record."""
    record: dict[str, Any] = {}
    for name, field in wire_fields(type(event)).items():
        value = getattr(event, field.name)
        if field.metadata["kind"] is Kind.BASE64:
            value = base64.b64encode(value).decode()
        elif isinstance(value, Kline):
            value = kline_object(value)
        record[name] = value
    return orjson.dumps(record)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise RecordError("expected text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise RecordError("expected an integer from 0")
    return value


def _time(value: Any) -> int:
    if type(value) is not int or not 0 <= value < TIME_MOST_MS:
        raise RecordError("expected ms since 1970")
    return value


def _trade_id(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not -1 <= value < 2**63:
        raise RecordError("expected a trade id, -1 or null")
    return value


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _text,
    Kind.TIME_MS: _time,
    Kind.PRICE: decimals.parse,
    Kind.VOLUME: decimals.parse,
    Kind.COUNT: _count,
    Kind.TRADE_ID: _trade_id,
}
