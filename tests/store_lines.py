"""Records for stores: lines of every table's topic, with repeats and corrections; and what a table holds, as the topics' own values."""

import random
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from klinestream.market.events import Kind
from klinestream.market.tables import Better, Column, Table
from klinestream.market.topics import FEED_GAPS, ID_GAPS
from klinestream.runtime.kafka import Record

Fields = dict[str, Any]
_LEDGERS = (FEED_GAPS, ID_GAPS)
_SMALL = ("klines", "from_id")
_STATES = ("detected", "deferred", "unfillable", "refilled", "repaired")
_SYMBOLS = ("BTCUSDT", "ETHUSDT", "DOGEUSDT", "FINNHUB:AAPL")


def line(table: Table, chosen: random.Random, now_ms: int, minutes: int = 60) -> Fields:
    """A record's fields. Identities are few, so that many come again, corrected; to an identity and rank belong always the same fields."""
    decisive = {*table.identity, *(name for name, _ in table.rank)}
    if table.topic in _LEDGERS:
        decisive = decisive - {"gap"} | {"symbol", "from_time", "from_id"}
    fields = {column.wire: _value(column, chosen, now_ms, minutes) for column in table.columns if column.name in decisive}
    settled = random.Random(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
    fields |= {column.wire: _value(column, settled, now_ms, minutes) for column in table.columns if column.name not in decisive}
    return _agreeing(table, {column.wire: fields[column.wire] for column in table.columns})


def record(table: Table, fields: Fields) -> Record:
    """The record that holds them; all of one identity in one partition."""
    wire = next(column.wire for column in table.columns if column.name == table.identity[0])
    return Record(table.topic.name, str(fields[wire]).encode(), orjson.dumps(fields), 0)


def best(table: Table, lines: Iterable[Fields]) -> dict[tuple[Any, ...], Fields]:
    """What a table has to hold after these lines: identity → the fields that count."""
    wire = {column.name: column.wire for column in table.columns}
    found: dict[tuple[Any, ...], Fields] = {}
    for fields in lines:
        identity = tuple(fields[wire[name]] for name in table.identity)
        held = found.get(identity)
        if held is None or _rank(table, wire, fields) > _rank(table, wire, held):
            found[identity] = fields
    return found


def shown(table: Table, rows: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], Fields]:
    """The rows of a table, all its columns in order, as fields of the wire by identity."""
    found = {}
    for row in rows:
        values = {column.name: _wired(value) for column, value in zip(table.columns, row, strict=True)}
        identity = tuple(values[name] for name in table.identity)
        assert identity not in found
        found[identity] = {column.wire: values[column.name] for column in table.columns}
    return found


def _rank(table: Table, wire: dict[str, str], fields: Fields) -> tuple[Any, ...]:
    return tuple(fields[wire[name]] if better is Better.GREATER else -fields[wire[name]] for name, better in table.rank)


def _wired(value: Any) -> Any:
    if isinstance(value, datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, Decimal):
        return f"{value:.8f}"
    return value


def _value(column: Column, chosen: random.Random, now_ms: int, minutes: int) -> Any:  # noqa: PLR0911  # a line a kind
    if column.nullable and chosen.random() < 0.3:
        return None
    match column.kind:
        case Kind.TIME_MS:
            return now_ms - now_ms % 60_000 - 60_000 * chosen.randrange(minutes)
        case Kind.PRICE:
            return f"{chosen.randrange(1, 92_233_720_368)}.{chosen.randrange(10**8):08}"
        case Kind.VOLUME:
            return f"{chosen.randrange(10**15)}.{chosen.randrange(10**8):08}"
        case Kind.COUNT | Kind.TRADE_ID:
            return chosen.choice((0, 1, 2, 3) if column.name in _SMALL else (0, 1, 2, 2**63 - 1))
        case Kind.NUMBER:
            return chosen.choice((0.1, 1e-300, 70_000.123456789, -1.5, chosen.random()))
        case Kind.FLAG:
            return chosen.random() < 0.5
        case Kind.NAMES:
            return chosen.sample(["sma_20", "rsi_14", 'quo"ted', "back\\slash", "a,{b}", ""], chosen.randrange(4))
        case Kind.NUMBERS:
            return {"rsi_14": chosen.random() * 100, "sma_20": None, "ema_12": 1e-9}
    words = {"symbol": _SYMBOLS, "state": _STATES}
    if column.name in words:
        return chosen.choice(words[column.name])
    return chosen.choice(("a", "b", "Ä", "tab\there", "new\nline", "\\N", "\\.", "Zz", "🙂"))


def _agreeing(table: Table, fields: Fields) -> Fields:
    """The ledgers' records have to agree with themselves."""
    if table.topic is FEED_GAPS:
        fields |= {"to": fields["from"] + 60_000, "source": "live+rest"}
        fields["gap"] = f"{fields['s']}:{fields['from']}-{fields['to']}"
    if table.topic is ID_GAPS:
        fields |= {"to": fields["from"] + 7, "feed": "trades"}
        fields["gap"] = f"trades:{fields['s']}:{fields['from']}-{fields['to']}"
    return fields
