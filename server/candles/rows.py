"""Records of candles, indicators and signals as packed rows, many at once. Pure.

    values ─► one JSON parse ─► columns ─► checks ─► rows
                  │ any fault                        ▲
                  └─► halves, again … ─► one value ─► a row, or why not

A row is a record of a numpy structured array: some 120 bytes for a candle, where a dict would take 2,000.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from klinestream.market import decimals
from klinestream.market.codec import is_symbol
from klinestream.market.events import CandleOrigin, Side, SignalState
from klinestream.market.intervals import INTERVALS

Rows = npt.NDArray[np.void]
Series = tuple[str, str]
"""Symbol and interval."""

UNKNOWN_ID = -2
VALUE_MOST_BYTES = 8192
"""Indicators take about 700 bytes, at the most periods that can be configured some thousands."""
AHEAD_MOST_MS = 60_000
"""A candle that closes further in the future would push all others out of a store that keeps the newest."""
NAMES_MOST = 64
"""Names of indicators: a bit each tells which are unready."""
REASON_MOST_BYTES = 160

PRICES = ("o", "h", "l", "c")
VOLUMES = ("v", "q", "V", "Q")
ORIGINS = tuple(CandleOrigin)
CANDLE = np.dtype(
    [
        ("t", "<i8"),
        *((name, "<i8") for name in PRICES),
        # Whole units, and the remainder of 1e-8: a day of a cheap coin passes what one int64 of 1e-8 holds.
        *chain.from_iterable(((name, "<i8"), (f"{name}_rest", "<i4")) for name in VOLUMES),
        *((name, "<i8") for name in ("n", "f", "L", "revision")),
        ("klines", "<i4"),
        ("complete", "?"),
        ("origin", "u1"),
    ]
)
SIGNAL = np.dtype(
    [
        *((name, "<i8") for name in ("t", "since", "revision")),
        ("rule", "S32"),
        ("side", "S4"),
        ("state", "S9"),
        *((name, "<f8") for name in ("price", "value", "limit")),
        ("reason", f"S{REASON_MOST_BYTES}"),
    ]
)
# Between two values: neither a string, an object nor an array that one opens can be closed by the next.
_SEPARATOR = b",\n0,\n"
_ORIGIN_CODES = {origin.value: code for code, origin in enumerate(ORIGINS)}
_CANDLE_FIELDS = itemgetter("s", "i", "t", "T", *PRICES, *VOLUMES, "n", "f", "L", "klines", "revision", "complete", "origin")
_INDICATOR_FIELDS = itemgetter("s", "i", "t", "T", "since", "revision", "c", "values", "unready")
_SIGNAL_FIELDS = itemgetter("s", "i", "t", "T", "since", "revision", "price", "value", "limit", "rule", "side", "state", "reason", "id")
_FAULTS = (ValueError, TypeError, KeyError, OverflowError)


@dataclass(slots=True)
class Decoded:
    """Rows, the series of each, and how many values were none."""

    series: list[Series]
    rows: Rows
    rejected: int = 0


def indicator_dtype(width: int) -> np.dtype[np.void]:
    """The row of `width` indicators; nan is none."""
    times = ((name, "<i8") for name in ("t", "since", "revision"))
    return np.dtype([*times, ("c", "<f8"), ("unready", "<u8"), ("values", "<f8", (width,))])


@dataclass(slots=True)
class IndicatorNames:
    """Names of indicators in the order in which they were first seen: the places of their values in a row. Only grows."""

    names: list[str] = field(default_factory=list)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The row that holds all of them."""
        return indicator_dtype(len(self.names))

    def learn(self, names: Iterable[str]) -> None:
        """Add names. Raises ValueError if there are too many."""
        new = [name for name in names if name not in self.names]
        _require(len(self.names) + len(new) <= NAMES_MOST and all(new))
        self.names.extend(new)


def decode_candles(values: Sequence[bytes | None], now_ms: int) -> Decoded:
    """Values of `crypto_candles`."""
    return _by_halves(values, lambda records: _candles(records, now_ms), CANDLE)


def decode_signals(values: Sequence[bytes | None], now_ms: int) -> Decoded:
    """Values of `crypto_signals`."""
    return _by_halves(values, lambda records: _signals(records, now_ms), SIGNAL)


def decode_indicators(values: Sequence[bytes | None], now_ms: int, names: IndicatorNames) -> Decoded:
    """Values of `crypto_indicators`; `names` learns what they hold."""
    return _by_halves(values, lambda records: _indicators(records, now_ms, names), indicator_dtype(0), widen=lambda: names.dtype)


def widened(rows: Rows, dtype: np.dtype[np.void]) -> Rows:
    """Rows of indicators with room for further values, which they don't have."""
    if rows.dtype == dtype:
        return rows
    wide = np.empty(len(rows), dtype)
    for name in ("t", "since", "revision", "c", "unready"):
        wide[name] = rows[name]
    wide["values"] = np.nan
    wide["values"][:, : rows["values"].shape[1]] = rows["values"]
    return wide


def _by_halves(
    values: Sequence[bytes | None],
    decode: Callable[[list[dict[str, Any]]], tuple[list[Series], Rows]],
    dtype: np.dtype[np.void],
    widen: Callable[[], np.dtype[np.void]] | None = None,
) -> Decoded:
    found: list[tuple[list[Series], Rows]] = []
    rejected = 0

    def take(part: Sequence[bytes | None]) -> None:
        nonlocal rejected
        try:
            found.append(decode(_parsed(part)))
        except _FAULTS:
            if len(part) == 1:
                rejected += 1
                return
            take(part[: len(part) // 2])
            take(part[len(part) // 2 :])

    if values:
        take(values)
    series = list(chain.from_iterable(part for part, _ in found))
    if widen is None:
        return Decoded(series, _joined([rows for _, rows in found], dtype), rejected)
    return Decoded(series, _joined([widened(rows, widen()) for _, rows in found], widen()), rejected)


def _joined(parts: list[Rows], dtype: np.dtype[np.void]) -> Rows:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])


def _parsed(values: Sequence[bytes | None]) -> list[dict[str, Any]]:
    present = [value for value in values if value is not None and len(value) <= VALUE_MOST_BYTES]
    parsed = orjson.loads(b"[" + _SEPARATOR.join(present) + b"]")
    _require(len(present) == len(values) and len(parsed) == 2 * len(values) - 1 and not any(parsed[1::2]))
    return list(parsed[::2])


def _candles(records: list[dict[str, Any]], now_ms: int) -> tuple[list[Series], Rows]:
    columns = list(zip(*map(_CANDLE_FIELDS, records), strict=True))
    series, opened = _checked(columns[:4], now_ms)
    whole, rest = decimals.columns(list(chain.from_iterable(columns[4:12])), 8)
    _require(np.all(whole[:4] < decimals.PRICE_MOST // decimals.UNIT))
    rows = np.empty(len(records), CANDLE)
    rows["t"] = opened
    for place, name in enumerate(PRICES):
        rows[name] = whole[place] * decimals.UNIT + rest[place]
    for place, name in enumerate(VOLUMES, start=4):
        rows[name], rows[f"{name}_rest"] = whole[place], rest[place]
    counts, first, last, klines, revisions, complete, origins = columns[12:]
    for name, ids in (("f", first), ("L", last)):
        rows[name] = _integers([UNKNOWN_ID if i is None else i for i in ids], least=UNKNOWN_ID)
    for name, numbers in (("n", counts), ("klines", klines), ("revision", revisions)):
        rows[name] = _integers(numbers)
    _require(set(map(type, complete)) == {bool})
    rows["complete"] = complete
    rows["origin"] = [_ORIGIN_CODES[origin] for origin in origins]
    low, high = rows["l"], rows["h"]
    _require(np.all((low > 0) & (low <= rows["o"]) & (low <= rows["c"]) & (high >= rows["o"]) & (high >= rows["c"])))
    return series, rows


def _indicators(records: list[dict[str, Any]], now_ms: int, names: IndicatorNames) -> tuple[list[Series], Rows]:
    *times, since, revisions, closes, values, unready = zip(*map(_INDICATOR_FIELDS, records), strict=True)
    series, opened = _checked(times, now_ms)
    _require(set(map(type, values)) == {dict} and set(map(type, unready)) == {list})
    # Learnt for good only once nothing is wrong with the values.
    known = IndicatorNames([*names.names])
    for each in {tuple(found) for found in values}:
        known.learn(each)
    places = {name: place for place, name in enumerate(known.names)}
    rows = np.empty(len(records), known.dtype)
    rows["t"], rows["since"], rows["revision"], rows["c"] = opened, _integers(since), _integers(revisions), _numbers(closes)
    rows["unready"] = [sum(1 << places[name] for name in each) for each in unready]
    matrix = [[found.get(name) for name in known.names] for found in values]
    flat = _numbers([np.nan if number is None else number for number in chain.from_iterable(matrix)])
    rows["values"] = flat.reshape(len(records), len(known.names))
    names.names = known.names
    return series, rows


def _signals(records: list[dict[str, Any]], now_ms: int) -> tuple[list[Series], Rows]:
    *times, since, revisions, prices, values, limits, rules, sides, states, reasons, ids = zip(*map(_SIGNAL_FIELDS, records), strict=True)
    series, opened = _checked(times, now_ms)
    _require(set(sides) <= set(Side) and set(states) <= set(SignalState))
    wanted = [f"{s}:{i}:{rule}:{side}:{t}" for (s, i), rule, side, t in zip(series, rules, sides, times[2], strict=True)]
    _require(wanted == list(ids) and all(0 < len(rule) <= 32 for rule in rules))
    rows = np.empty(len(records), SIGNAL)
    rows["t"], rows["since"], rows["revision"] = opened, _integers(since), _integers(revisions)
    rows["price"], rows["value"], rows["limit"] = _numbers(prices), _numbers(values), _numbers(limits)
    rows["rule"], rows["side"], rows["state"] = rules, sides, states
    rows["reason"] = [reason.encode()[:REASON_MOST_BYTES] for reason in reasons]
    return series, rows


def _checked(columns: Sequence[Sequence[Any]], now_ms: int) -> tuple[list[Series], decimals.Ints]:
    """Series and open times of records whose symbol, interval, open and close time agree."""
    symbols, intervals, opens, closes = columns
    _require(set(map(type, symbols)) == {str} and all(map(is_symbol, set(symbols))))
    lengths = np.array([INTERVALS[interval] for interval in intervals])
    opened, closed = _integers(opens), _integers(closes)
    _require(np.all((opened % lengths == 0) & (closed == opened + lengths - 1) & (closed <= now_ms + AHEAD_MOST_MS)))
    return list(zip(symbols, intervals, strict=True)), opened


def _require(holds: Any) -> None:
    if not holds:
        raise ValueError("a value is not as its event says")


def _integers(column: Sequence[Any], least: int = 0) -> decimals.Ints:
    # The types first: numpy would take 1.5 and True for integers.
    _require(set(map(type, column)) == {int})
    numbers = np.array(column, np.int64)
    _require(np.all(numbers >= least))
    return numbers


def _numbers(column: Sequence[Any]) -> decimals.Floats:
    _require(set(map(type, column)) <= {int, float})
    return np.array(column, np.float64)
