"""The exchange's own candles, from records of `crypto_candle_history` to tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market import candles, decimals
from klinestream.market.codec import decode_event, is_symbol
from klinestream.market.decimals import Ints
from klinestream.market.errors import RecordError
from klinestream.market.events import Candle, CandleHistory, HistoryReason
from klinestream.market.intervals import INTERVALS

_WIDTH = 11
_OPENED, _CLOSED, _TRADES = 0, 6, 8
# Where the columns of REST's rows that hold decimals belong in a table.
_PRICES = ((1, candles.OPEN), (2, candles.HIGH), (3, candles.LOW), (4, candles.CLOSE))
_VOLUMES = ((5, candles.BASE), (7, candles.QUOTE), (9, candles.TAKER_BASE), (10, candles.TAKER_QUOTE))
_REASONS = frozenset(HistoryReason)


@dataclass(frozen=True, slots=True)
class HistoryTable:
    """Closed candles of one symbol and interval, one after the other without a hole: a table (HEIGHT, candles)."""

    symbol: str
    interval: str
    reason: HistoryReason
    table: Ints
    revision: int
    """That its candles are published with."""


def decode_history(line: bytes, offset: int) -> HistoryTable:
    """The value of the record at an offset of `crypto_candle_history`; raises RecordError."""
    record = decode_event(CandleHistory, line)
    if not is_symbol(record.symbol):
        raise RecordError("s: expected up to 50 letters, digits or _ - . :")
    if record.interval not in INTERVALS:
        raise RecordError(f"i: expected {', '.join(INTERVALS)}")
    if record.reason not in _REASONS:
        raise RecordError(f"reason: expected {', '.join(HistoryReason)}")
    table = table_of(record.rows, INTERVALS[record.interval])
    return HistoryTable(record.symbol, record.interval, HistoryReason(record.reason), table, offset + 1)


def table_of(rows: Any, length_ms: int) -> Ints:
    """REST's rows as a table, strictly checked; raises RecordError. Further columns than the eleven are passed over."""
    if not rows or not all(isinstance(row, list | tuple) and len(row) >= _WIDTH for row in rows):
        raise RecordError(f"rows: expected one or more, each of {_WIDTH} columns")
    table = np.zeros((candles.HEIGHT, len(rows)), np.int64)
    columns = list(zip(*(row[:_WIDTH] for row in rows), strict=True))
    table[candles.BEGAN], closed, table[candles.TRADES] = (_integers(columns[i]) for i in (_OPENED, _CLOSED, _TRADES))
    for column, place in _PRICES:
        prices = [decimals.parse(text) for text in columns[column]]
        if max(prices) > decimals.PRICE_MOST:
            raise RecordError("o, h, l, c: expected prices below 9.2e10")
        table[place] = prices
    for column, place in _VOLUMES:
        table[place], table[place + 1] = np.array([divmod(decimals.parse(text), decimals.UNIT) for text in columns[column]], np.int64).T
    quiet = table[candles.TRADES] == 0
    table[candles.FIRST_ID] = table[candles.LAST_ID] = np.where(quiet, candles.NO_ID, candles.UNKNOWN_ID)
    _check(table, closed, length_ms)
    return table


def table_of_candles(whole: Sequence[Candle]) -> Ints:
    """Whole candles of `crypto_candles` as a table; trade ids, which no indicator looks at, stand as unknown."""
    table = np.zeros((candles.HEIGHT, len(whole)), np.int64)
    for place, one in enumerate(whole):
        table[candles.BEGAN, place], table[candles.TRADES, place] = one.open_time_ms, one.trades
        table[candles.OPEN : candles.CLOSE + 1, place] = one.open, one.high, one.low, one.close
        volumes = (one.base_volume, one.quote_volume, one.taker_base_volume, one.taker_quote_volume)
        for (unit, rest), each in zip(candles.VOLUMES, volumes, strict=True):
            table[unit, place], table[rest, place] = divmod(each, decimals.UNIT)
    table[candles.FIRST_ID] = table[candles.LAST_ID] = np.where(table[candles.TRADES] == 0, candles.NO_ID, candles.UNKNOWN_ID)
    return table


def _integers(column: tuple[Any, ...]) -> Ints:
    if not all(type(value) is int and 0 <= value < 2**63 for value in column):
        raise RecordError("t, T, n: expected integers from 0")
    return np.array(column, np.int64)


def _check(table: Ints, closed: Ints, length_ms: int) -> None:
    opened = table[candles.BEGAN]
    if np.any(opened % length_ms) or np.any(np.diff(opened) != length_ms):
        raise RecordError("t: expected candles of the interval, one after the other")
    if np.any(closed != opened + length_ms - 1):
        raise RecordError("T: expected t + the interval - 1")
    o, h, low, c = table[candles.OPEN : candles.CLOSE + 1]
    if np.any(low <= 0) or np.any(low > np.minimum(o, c)) or np.any(h < np.maximum(o, c)):
        raise RecordError("o, h, l, c: expected prices above 0, open and close between low and high")
