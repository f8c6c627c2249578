"""Cells of text as klines or trades, exactly; what isn't one is told apart, each row with the first reason.

A time's unit is judged row by row, by how large it is: 1700000000 are seconds, 1700000000000 ms, then µs, then ns. ISO text without a
zone is UTC. A number has up to 15 digits before the point and 8 after it; further zeroes don't matter, 1e-05 is read as what it says.
"""

import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from klinestream.archive.bulk.amounts import amounts
from klinestream.archive.columns import VOLUME
from klinestream.files.names import KLINES, ZEROES
from klinestream.files.reading import Cells
from klinestream.market.codec import TIME_MOST_MS, is_symbol
from klinestream.market.decimals import PRICE_MOST, Ints

Bools = npt.NDArray[np.bool_]

_UNITS = ("s", "ms", "µs", "ns", "text")
_NS = 3
_FACTORS = np.array([1_000_000, 1_000, 1])
_UNIT_ENDS = (10**11, 10**14, 10**17)  # as seconds the year 5138, and so on
_PLAIN = r"^\d{1,15}(\.\d{1,8})?$"
_LONG = r"^\d{1,15}\.\d{8}0+$"
_INTEGER = r"^\d{1,18}$"
_TIME = r"^[1-8]?\d{1,18}$"
_EXPONENT = re.compile(r"\d+(\.\d+)?[eE][+-]?\d{1,3}")
# 20240102 of a column of dates: as seconds it would be a day of August 1970, from when nobody has trades.
_DATES_S = (19_000_000, 21_000_000)
_FRACTION = re.compile(r"\d{1,19}\.\d{1,19}")
_TIME_DIGITS_MOST = 18
_NO_TIME = (-1, 0)
_TRUE, _FALSE = ("true", "1", "t"), ("false", "0", "f")
_SELLS, _BUYS = ("sell", "s", "ask"), ("buy", "b", "bid")
_STEP = Decimal("0.00000001")
PRICES = ("open", "high", "low", "close")
VOLUMES = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows are to be."""

    kind: str
    length_ms: int = 1000
    """Of klines."""
    symbol: str = ""
    """Of all rows, where the files have no such column."""
    venue: str = ""
    """Before each symbol, with a colon between."""
    now_ms: int = TIME_MOST_MS
    """Nothing may be later."""


@dataclass(slots=True)
class Clean:
    """Rows that are klines or trades, with where they stood; and those that aren't: number, reason, text."""

    table: pa.Table
    rejected: list[tuple[int, str, str]]
    units: Counter[str] = field(default_factory=Counter)
    """How many times came in which unit."""


def clean(cells: Cells, terms: Terms, file: int) -> Clean:
    """Judge all rows of a batch; `file` says which file it is of."""
    lines = [(number, "expected as many cells as there are columns", text) for number, text in cells.broken]
    if not cells.columns:
        return Clean(pa.table({}), lines)
    judged = _Judged(cells, len(cells.numbers))
    times, units = judged.times(cells.columns["time"])
    columns: dict[str, Any] = {"symbol": judged.symbols(cells.columns.get("symbol"), terms), "time_us": pa.array(times)}
    dates = (units == _UNITS.index("s")) & (times >= _DATES_S[0] * 1_000_000) & (times < _DATES_S[1] * 1_000_000)
    judged.fail(dates, "expected a time, not a date without dashes")
    judged.fail((times < 0) | (times >= TIME_MOST_MS * 1000), "the time lies outside of 1970 to 2100")
    judged.fail(times // 1000 > terms.now_ms, "the time lies in the future")
    columns |= _klines(judged, times, terms.length_ms) if terms.kind == KLINES else _trades(judged)
    columns |= {"file": pa.array(np.full(len(times), file)), "row": pa.array(cells.numbers)}
    good = judged.reasons == ""
    rejected = [(int(cells.numbers[row]), str(judged.reasons[row]), cells.raw(row)) for row in np.flatnonzero(~good).tolist()]
    counted = Counter({_UNITS[code]: count for code, count in enumerate(np.bincount(units[good], minlength=5).tolist()) if count})
    return Clean(pa.table(columns).filter(pa.array(good)), sorted(lines + rejected), counted)


def _klines(judged: "_Judged", times: Ints, length_ms: int) -> dict[str, pa.Array]:
    found = {name: judged.decimals(name) for name in (*PRICES, *VOLUMES)}
    trades = judged.integers("trades", 0 if "trades" not in judged.cells.columns else None)
    opened, high, low, close = (judged.prices(found[name], name) for name in PRICES)
    judged.fail(low > high, "low lies above high")
    judged.fail((np.minimum(opened, close) < low) | (np.maximum(opened, close) > high), "open or close lies outside of low and high")
    for taker, whole in (("taker_base_volume", "base_volume"), ("taker_quote_volume", "quote_volume")):
        if whole in judged.cells.columns:
            judged.fail(~pc.less_equal(found[taker], found[whole]).to_numpy(zero_copy_only=False), f"{taker} lies above {whole}")
    judged.fail(times % (length_ms * 1000) != 0, "the open time is no whole interval")
    if "close_time" in judged.cells.columns:
        closes, _ = judged.times(judged.cells.columns["close_time"])
        judged.fail(_apart(closes, times, length_ms), "the close time is not the end of the interval")
    first, last = _span(judged)
    return found | {"trades": trades, "first_id": first, "last_id": last}


def _span(judged: "_Judged") -> tuple[pa.Array, pa.Array]:
    """First and last id; one without the other says nothing."""
    if not {"first_id", "last_id"} <= judged.cells.columns.keys():
        none = pa.nulls(len(judged.reasons), pa.int64())
        return none, none
    first, last = judged.ids("first_id"), judged.ids("last_id")
    judged.fail(pc.xor(first.is_null(), last.is_null()).to_numpy(zero_copy_only=False), "first id and last id: expected both or neither")
    return first, last


def _apart(closes: Ints, times: Ints, length_ms: int) -> Bools:
    """Whether a close time is neither the interval's last ms, or µs of it, nor its end."""
    after: Ints = closes - times
    return (after < (length_ms - 1) * 1000) | (after > length_ms * 1000)


def _trades(judged: "_Judged") -> dict[str, pa.Array]:
    price, quantity = judged.decimals("price"), judged.decimals("quantity")
    judged.prices(price, "price")
    given = judged.cells.columns
    has_span = "first_id" in given and "last_id" in given
    one = judged.ids("id")
    first, last = _span(judged) if has_span else (one, one)
    judged.fail(pc.fill_null(pc.less(last, first), fill_value=False).to_numpy(zero_copy_only=False), "first id lies above last id")
    maker = judged.flags("maker", _TRUE, _FALSE) if "maker" in given else judged.flags("side", _SELLS, _BUYS)
    aggregate = one if has_span else pa.nulls(len(price), pa.int64())
    return {"price": price, "quantity": quantity, "aggregate_id": aggregate, "first_id": first, "last_id": last, "maker": maker}


class _Judged:
    """The rows of a batch, and why each is rejected: the first reason, or none."""

    def __init__(self, cells: Cells, rows: int) -> None:
        self.cells = cells
        self.reasons = np.full(rows, "", object)

    def fail(self, rows: Bools, reason: str) -> None:
        self.reasons[rows & (self.reasons == "")] = reason

    def symbols(self, column: pa.Array | None, terms: Terms) -> pa.Array:
        if column is None:
            column = pa.repeat(pa.scalar(terms.symbol), len(self.reasons))
        encoded = pc.utf8_trim_whitespace(pc.fill_null(column, "")).dictionary_encode()
        names = [f"{terms.venue}:{name.upper()}" if terms.venue else name.upper() for name in encoded.dictionary.to_pylist()]
        good = [":" not in name.upper() and is_symbol(whole) for name, whole in zip(encoded.dictionary.to_pylist(), names, strict=True)]
        codes = encoded.indices.to_numpy()
        self.fail(~np.array(good, np.bool_)[codes], "expected a symbol of letters, digits or _ - .")
        return pa.array(names, pa.string()).take(encoded.indices)

    def times(self, column: pa.Array) -> tuple[Ints, Ints]:
        """In µs, and each one's unit."""
        text = pc.utf8_trim_whitespace(pc.fill_null(column, ""))
        digits = pc.match_substring_regex(text, _TIME)
        told = pc.if_else(digits, text, "0").cast(pa.int64()).to_numpy()
        units = np.searchsorted(_UNIT_ENDS, told, "right")
        times = np.where(units == _NS, told // 1000, told * _FACTORS[np.minimum(units, 2)])
        for row in np.flatnonzero(~digits.to_numpy(zero_copy_only=False)).tolist():
            times[row], units[row] = found = _time_of(text[row].as_py())
            if found == _NO_TIME and not self.reasons[row]:
                self.reasons[row] = "expected a time: a number, or text such as 2024-01-02T03:04:05Z"
        return times, units

    def decimals(self, name: str) -> pa.Array:
        if name not in self.cells.columns and name in ZEROES:
            return pa.repeat(pa.scalar(Decimal(0), VOLUME), len(self.reasons))
        text = pc.utf8_trim_whitespace(pc.fill_null(self.cells.columns[name], ""))
        plain = pc.match_substring_regex(text, _PLAIN).to_numpy(zero_copy_only=False)
        if plain.all():
            return text.cast(VOLUME)
        long = pc.match_substring_regex(text, _LONG).to_numpy(zero_copy_only=False)
        if long.any():
            text = pc.if_else(pa.array(long), pc.replace_substring_regex(text, r"^(\d+\.\d{8})0+$", r"\1"), text)
        texts = text.to_pylist()
        for row in np.flatnonzero(~plain & ~long).tolist():
            texts[row], reason = _number_of(texts[row], name)
            if reason and not self.reasons[row]:
                self.reasons[row] = reason
        return pa.array(texts, pa.string()).cast(VOLUME)

    def prices(self, column: pa.Array, name: str) -> Ints:
        """As integers; what is no price is rejected."""
        whole, rest = amounts(column)
        wrong = (whole > PRICE_MOST // 10**8 - 1) | ((whole == 0) & (rest == 0))
        self.fail(wrong, f"{name}: expected a price above 0 and below 9.2e10")
        return np.where(wrong, 1, np.where(wrong, 0, whole) * 10**8 + rest)

    def integers(self, name: str, instead: int | None = None) -> pa.Array:
        if instead is not None:
            return pa.array(np.full(len(self.reasons), instead))
        text = pc.utf8_trim_whitespace(pc.fill_null(self.cells.columns[name], ""))
        text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
        good = pc.match_substring_regex(text, _INTEGER)
        self.fail(~good.to_numpy(zero_copy_only=False), f"{name}: expected an integer from 0")
        return pc.if_else(good, text, "0").cast(pa.int64())

    def ids(self, name: str) -> pa.Array:
        """Ids of trades; null where there is none, -1 included."""
        if name not in self.cells.columns:
            return pa.nulls(len(self.reasons), pa.int64())
        text = pc.replace_substring_regex(pc.utf8_trim_whitespace(pc.fill_null(self.cells.columns[name], "")), r"^(\d+)\.0+$", r"\1")
        good = pc.match_substring_regex(text, _INTEGER)
        none = pc.is_in(text, pa.array(["", "-1", "null", "None", "nan", "NaN"]))
        self.fail(~pc.or_(good, none).to_numpy(zero_copy_only=False), f"{name}: expected an integer from 0")
        return pc.if_else(good, text, None).cast(pa.int64())

    def flags(self, name: str, true: tuple[str, ...], false: tuple[str, ...]) -> pa.Array:
        if name not in self.cells.columns:
            return pa.nulls(len(self.reasons), pa.bool_())
        text = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(self.cells.columns[name], "")))
        yes, no = pc.is_in(text, pa.array(true)), pc.is_in(text, pa.array(false))
        unknown = pc.equal(text, "")
        self.fail(~pc.or_(pc.or_(yes, no), unknown).to_numpy(zero_copy_only=False), f"{name}: expected {true[0]} or {false[0]}")
        return pc.if_else(pc.or_(yes, no), yes, None)


def _time_of(text: str) -> tuple[int, int]:
    """What isn't an integer as a time in µs, and its unit: a float's text, or ISO's."""
    if _FRACTION.fullmatch(text) or _EXPONENT.fullmatch(text):
        exact = Decimal(text)
        if exact.adjusted() > _TIME_DIGITS_MOST:
            return _NO_TIME
        unit = bisect_right(_UNIT_ENDS, exact)
        return int(exact * int(_FACTORS[unit])) if unit < _NS else int(exact) // 1000, unit
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return _NO_TIME
    told = told if told.tzinfo else told.replace(tzinfo=UTC)
    since = told - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds, _UNITS.index("text")


def _number_of(text: str, name: str) -> tuple[str, str]:
    """A number that isn't written plainly, written so, and an empty reason; or 1 and the reason."""
    if text.startswith("-"):
        return "1", f"{name}: below 0"
    if _EXPONENT.fullmatch(text.removeprefix("+")) or re.fullmatch(r"\+?(\d+\.?|\.\d+|\d+\.\d+)", text):
        exact = Decimal(text)
        if exact.adjusted() < 15:  # digits before the point
            if exact == exact.quantize(_STEP):
                return f"{exact.quantize(_STEP):f}", ""
            return "1", f"{name}: more than 8 decimals"
    return "1", f"{name}: expected a number of up to 15 digits before the point"
