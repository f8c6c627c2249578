"""Events to and from JSON, one by one. Whole batches of klines: `batch`.

Decoding is strict: a missing field, a null, a wrong type or a value that contradicts another is a RecordError with a
short, stable reason. Unknown further fields are passed over, so that a later schema can add some.
"""

import base64
import re
from collections.abc import Callable, Iterable
from dataclasses import Field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from klinestream.market import decimals
from klinestream.market.errors import RecordError
from klinestream.market.events import (
    BINANCE,
    GAP_TEXT_MOST,
    KLINE_INTERVAL,
    NO_SOURCE,
    SECOND_MS,
    WORKFLOW,
    FeedGap,
    GapSource,
    GapState,
    IdGap,
    IdGapState,
    Kind,
    Kline,
    Order,
    Origin,
    Proof,
    SymbolChoice,
    Trade,
    WorkflowCommand,
    binance_proof,
    gap_id,
    id_gap_id,
    wire_fields,
)

Event = TypeVar("Event")
Word = TypeVar("Word", bound=StrEnum)

_KLINE = wire_fields(Kline)
_CHOICE = wire_fields(SymbolChoice)
_GAP = wire_fields(FeedGap)
_ID_GAP = wire_fields(IdGap)
_TRADE = wire_fields(Trade)
_FIELDS: dict[type[Any], tuple[tuple[str, Field[Any]], ...]] = {}
"""Event → its fields by wire name: as many as there are kinds of events, each found once."""
AGGREGATED_MOST = 1_000_000  # trades in one record: the exchange's have some thousands, and sums over them are to be exact
TRADE_ORIGINS = (Origin.LIVE, Origin.REST, Origin.POSTED, Origin.FILE)
_GAP_STATES = frozenset(GapState)
_GAP_SOURCES = frozenset(GapSource)
_ORIGINS = frozenset(Origin)
_PROOFS = frozenset(Proof)
_ROW = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")  # REST's columns; one that says nothing follows them
# The exchange's own rule for symbols, which lets letters of any script in; the colon parts a venue from a name.
_SYMBOL = re.compile(r"[\w\-.:]{1,50}")
_SYMBOL_OR_PATTERN = re.compile(r"[\w\-.:*?]{1,50}")
_SOURCE = re.compile(r"[a-z0-9._-]{1,50}")
_COMMAND_TEXT_MOST, _PARAMETERS_MOST = 100, 100
_COMMAND_ID = re.compile(rf"[^\s=\[\]]{{1,{_COMMAND_TEXT_MOST}}}")
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
    record = with_proof(record)
    values: dict[str, Any] = {}
    for name, field in _KLINE.items():
        if name not in record:
            raise RecordError(f"{name}: missing")
        try:
            values[field.name] = _READERS[field.metadata["kind"]](record[name])
        except RecordError as error:
            raise RecordError(f"{name}: {error}") from None
    return checked(Kline(**values))


def with_proof(record: dict[str, Any]) -> dict[str, Any]:
    """A kline's JSON object with its source and its proof, which older ones don't tell."""
    if "source" in record or "proof" in record:
        return record
    return record | {"source": BINANCE, "proof": binance_proof(record.get("last_trade_id"), record.get("origin", ""))}


def kline_of_row(symbol: str, row: Any) -> Kline:
    """A row of REST's klines as a kline of one second, without trade ids, which REST doesn't tell; raises RecordError."""
    if not isinstance(row, list) or len(row) <= len(_ROW):
        raise RecordError(f"not a row of {len(_ROW) + 1} columns or more")
    record: dict[str, Any] = dict(zip(_ROW, row, strict=False))
    return kline_from(record | {"s": symbol, "f": None, "L": None, "last_trade_id": None, "origin": Origin.REST})


def checked(kline: Kline) -> Kline:
    """The same kline, if its fields agree with each other; raises RecordError."""
    if not is_symbol(kline.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if kline.origin not in _ORIGINS:
        raise RecordError(f"origin: expected {', '.join(Origin)}")
    if not is_source(kline.source):
        raise RecordError("source: expected up to 50 lower case letters, digits or _ - .")
    if kline.proof not in _PROOFS:
        raise RecordError(f"proof: expected {', '.join(Proof)}")
    if kline.open_time_ms % SECOND_MS:
        raise RecordError("t: not a whole second")
    if kline.close_time_ms != kline.open_time_ms + SECOND_MS - 1:
        raise RecordError("T: not t + 999")
    if not kline.low <= min(kline.open, kline.close) <= max(kline.open, kline.close) <= kline.high:
        raise RecordError("l, h: open or close lies outside them")
    if not 0 < kline.low <= kline.high <= decimals.PRICE_MOST:
        raise RecordError("l, h: expected prices above 0 and below 9.2e10")
    return kline


@lru_cache(maxsize=1024)
def is_source(name: str) -> bool:
    """Whether a name can be that of a source.

    >>> is_source("binance"), is_source("Binance")
    (True, False)
    """
    return _SOURCE.fullmatch(name) is not None


@lru_cache(maxsize=65_536)
def is_symbol(name: str) -> bool:
    """Whether a name can be a symbol.

    >>> is_symbol("BTCUSDT"), is_symbol("two words")
    (True, False)
    """
    return _SYMBOL.fullmatch(name) is not None


def is_symbol_or_pattern(name: str) -> bool:
    """Whether a name can be a symbol, or a pattern of symbols with `*` and `?`, in upper case.

    >>> is_symbol_or_pattern("*USDT"), is_symbol_or_pattern("btcusdt")
    (True, False)
    """
    return _SYMBOL_OR_PATTERN.fullmatch(name) is not None and name == name.upper()


def decode_choice(line: bytes) -> SymbolChoice:
    """The value of a record of `crypto_control`; raises RecordError."""
    record = _object(line)
    values = {field.name: _read(record, name, field) for name, field in _CHOICE.items()}
    if not is_symbol_or_pattern(values["name"]):
        raise RecordError("name: expected a symbol or a pattern, upper case")
    return SymbolChoice(**values)


def decode_command(line: bytes) -> WorkflowCommand:
    """The value of a record of `crypto_control` that is meant for a workflow's runner; raises RecordError."""
    command = decode_event(WorkflowCommand, line)
    if not command.workflow.startswith(WORKFLOW) or len(command.workflow) > _COMMAND_TEXT_MOST:
        raise RecordError(f"workflow: expected {WORKFLOW}NAME")
    if not _COMMAND_ID.fullmatch(command.id):
        raise RecordError(
            f"id: expected up to {_COMMAND_TEXT_MOST} characters without spaces, = and brackets, which the answer can tell again"
        )
    if len(command.parameters) > _PARAMETERS_MOST:
        raise RecordError(f"parameters: expected up to {_PARAMETERS_MOST}")
    return replace(command, command=_one_of(Order, "command", command.command))


def decode_gap(line: bytes) -> FeedGap:
    """The value of a record of `crypto_feed_gaps`; raises RecordError. Of a very long reason the beginning."""
    record = _object(line)
    values = {field.name: _read(record, name, field) for name, field in _GAP.items()}
    if values["state"] not in _GAP_STATES:
        raise RecordError(f"state: expected {', '.join(GapState)}")
    return _checked_gap(FeedGap(**values | {"state": GapState(values["state"]), "reason": values["reason"][:GAP_TEXT_MOST]}))


def decode_id_gap(line: bytes) -> IdGap:
    """The value of a record of `crypto_id_gaps`; raises RecordError. Of a very long reason the beginning."""
    record = _object(line)
    values = {field.name: _read(record, name, field) for name, field in _ID_GAP.items()}
    values |= {"state": _one_of(IdGapState, "state", values["state"]), "reason": values["reason"][:GAP_TEXT_MOST]}
    gap = IdGap(**values)
    if not is_symbol(gap.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if gap.from_id >= gap.to_id:
        raise RecordError("from, to: expected ids, from before to")
    if gap.gap != id_gap_id(gap.feed, gap.symbol, gap.from_id, gap.to_id):
        raise RecordError("gap: not feed:symbol:from-to")
    return gap


def decode_trade(line: bytes) -> Trade:
    """The value of a record of `crypto_trades` as a trade; raises RecordError."""
    return trade_from(_object(line))


def trade_from(record: Any) -> Trade:
    """A JSON object with the names of the wire as a trade; raises RecordError."""
    if not isinstance(record, dict):
        raise RecordError("not a JSON object")
    values = {field.name: _read(record, name, field) for name, field in _TRADE.items()}
    values |= {"origin": _one_of(TRADE_ORIGINS, "origin", values["origin"]), "proof": _one_of(Proof, "proof", values["proof"])}
    trade = Trade(**values)
    if not is_symbol(trade.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if not 0 <= trade.last_id - trade.first_id < AGGREGATED_MOST:
        raise RecordError(f"f, l: expected ids, f not after l, of less than {AGGREGATED_MOST} trades")
    if trade.aggregate_id is None and trade.last_id != trade.first_id:
        raise RecordError("f, l: a single trade has one id")
    if not 0 < trade.price <= decimals.PRICE_MOST:
        raise RecordError("p: expected a price above 0 and below 9.2e10")
    return trade


def _object(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise RecordError("not JSON") from None
    if not isinstance(record, dict):
        raise RecordError("not a JSON object")
    return record


def _one_of(known: Iterable[Word], name: str, value: str) -> Word:
    found = next((word for word in known if word == value), None)
    if found is None:
        raise RecordError(f"{name}: expected {', '.join(known)}")
    return found


def decode_event(event: type[Event], line: bytes) -> Event:
    """The value of a record as an event, each field by its kind; raises RecordError. Enums come back as their values."""
    record = _object(line)
    if event not in _FIELDS:
        _FIELDS[event] = tuple(wire_fields(event).items())
    return event(**{field.name: _read(record, name, field) for name, field in _FIELDS[event]})


def _read(record: dict[str, Any], name: str, field: Field[Any]) -> Any:
    if name not in record:
        raise RecordError(f"{name}: missing")
    value = record[name]
    if value is None and field.metadata["nullable"]:
        return None
    try:
        return _READERS[field.metadata["kind"]](value)
    except RecordError as error:
        raise RecordError(f"{name}: {error}") from None


def _checked_gap(gap: FeedGap) -> FeedGap:
    if not is_symbol(gap.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if gap.from_ms % SECOND_MS or gap.to_ms % SECOND_MS or gap.from_ms >= gap.to_ms:
        raise RecordError("from, to: expected whole seconds, from before to")
    if gap.gap != gap_id(gap.symbol, gap.from_ms, gap.to_ms):
        raise RecordError("gap: not symbol:from-to")
    if gap.klines > gap.seconds:
        raise RecordError("klines: more than the gap has seconds")
    sources = gap.source.split("+")
    if gap.source != NO_SOURCE and (sources != sorted(set(sources)) or not _GAP_SOURCES.issuperset(sources)):
        raise RecordError(f"source: expected {', '.join(GapSource)}, each once, in this order and joined by +, or {NO_SOURCE}")
    if len(gap.producer) > GAP_TEXT_MOST:
        raise RecordError(f"producer: expected up to {GAP_TEXT_MOST} characters")
    return gap


def encode_event(event: Any) -> bytes:
    """Any other event as the value of its record."""
    record: dict[str, Any] = {}
    for name, field in wire_fields(type(event)).items():
        value = getattr(event, field.name)
        if field.metadata["kind"] is Kind.BASE64:
            value = base64.b64encode(value).decode()
        elif field.metadata["kind"] in (Kind.PRICE, Kind.VOLUME):
            value = decimals.show(value)
        elif isinstance(value, Kline):
            value = kline_object(value)
        record[name] = value
    return orjson.dumps(record)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise RecordError("expected text")
    return value


def _note(value: Any) -> str:
    if not isinstance(value, str):
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


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RecordError("expected true or false")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise RecordError("expected a number")
    return float(value)


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RecordError("expected a list of text")
    return tuple(value)


def _numbers(value: Any) -> dict[str, float | None]:
    if not isinstance(value, dict):
        raise RecordError("expected an object of numbers")
    return {name: None if number is None else _number(number) for name, number in value.items()}


def _rows(value: Any) -> Any:
    # What stands in the rows is for whoever reads them.
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise RecordError("expected a list of rows")
    return value


def _rows_by_name(value: Any) -> Any:
    if not isinstance(value, dict) or not all(isinstance(row, list) for row in value.values()):
        raise RecordError("expected an object of rows")
    return value


_READERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _text,
    Kind.NOTE: _note,
    Kind.TIME_MS: _time,
    Kind.PRICE: decimals.parse,
    Kind.VOLUME: decimals.parse,
    Kind.COUNT: _count,
    Kind.TRADE_ID: _trade_id,
    Kind.FLAG: _flag,
    Kind.NUMBER: _number,
    Kind.NAMES: _names,
    Kind.NUMBERS: _numbers,
    Kind.ROWS: _rows,
    Kind.ROWS_BY_NAME: _rows_by_name,
}
