"""The whole market as columns, a place for each symbol: its price, its last 24 hours, its RSI. Pure.

    24 h ago                                              the newest closed minute
       |                                                              |
    |··5m··|··5m··|··5m··| … |··5m··|··5m··|··5m··|··5m··|1m|1m|1m|1m|
    ^ the candle that the change is reckoned from begins the day; where it ends, and each finer interval goes on

So low, high and volume are of the same span as the change: 24 hours, and up to the length of its first candle more.
"""

import re
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market.decimals import UNIT
from klinestream.market.intervals import DAY_MS, INTERVALS, MINUTE_MS, opened
from server.candles.rows import Rows, widened
from server.candles.store import CandleStore
from server.exchange.rows import quotes_of
from server.rest.symbols import candle_at, change_percent, known_names, newest_price

Columns = dict[str, list[Any]]

DECIMALS = 4
"""Of per cents, RSI and volumes: for a table, and for as few digits as it shows."""
MINUTES_LATE_MOST = 2
"""The minute in progress, and one for the newest to come in."""
LINE_INTERVAL = "30m"
LINE_STEPS = 48
LINE_MOST = 100
USUAL_RSI = "rsi_14"
_RSI = re.compile(r"rsi_(\d+)")
# From the longest: a candle of a day can't tell what was 24 hours ago.
_LEVELS = tuple(name for name, length_ms in reversed(INTERVALS.items()) if length_ms < DAY_MS)


@dataclass(frozen=True, slots=True)
class Day:
    """What a symbol did in the last 24 hours. `whole`: no candle of them is missing or incomplete."""

    before: float
    low: float
    high: float
    volume: float
    quote_volume: float
    end_ms: int
    whole: bool


@dataclass(frozen=True, slots=True)
class _Held:
    """A day, and what it was made of: as long as that is the same, so is the day."""

    day: Day | None
    from_ms: int
    until_ms: int
    sources: tuple[tuple[str, weakref.ref[Rows]], ...]
    """Weak, or the candles of a minute that nobody has looked at since would stay in memory."""


class Days:
    """Each symbol's day, made anew only when its candles have changed, once a minute, or the day begins with another candle."""

    def __init__(self, store: CandleStore) -> None:
        """Start with none."""
        self._store = store
        self._held: dict[str, _Held] = {}

    def of_all(self, symbols: Sequence[str], times_ms: Sequence[int | None]) -> list[Day | None]:
        """The day of each symbol up to a time; None where nothing is known of 24 hours before. Others are forgotten."""
        self._held = {
            symbol: self._of(symbol, time_ms - DAY_MS) for symbol, time_ms in zip(symbols, times_ms, strict=True) if time_ms is not None
        }
        return [None if symbol not in self._held else self._held[symbol].day for symbol in symbols]

    def _of(self, symbol: str, begin_ms: int) -> _Held:
        held = self._held.get(symbol)
        if held is not None and held.from_ms <= begin_ms < held.until_ms and self._unchanged(symbol, held):
            return held
        first = candle_at(symbol, begin_ms, self._store)
        if first is None:
            # Looked for again each time: what is read next may hold it.
            return _Held(None, begin_ms, begin_ms, ())
        series = {first.interval: first.rows} | {name: self._store.candles.rows(symbol, name) for name in _finer(first.interval)}
        sources = tuple((name, weakref.ref(rows)) for name, rows in series.items())
        opened_ms = int(first.rows["t"][first.place])
        return _Held(day_from(series, first.place), opened_ms, opened_ms + INTERVALS[first.interval], sources)

    def _unchanged(self, symbol: str, held: _Held) -> bool:
        rows = self._store.candles.rows
        return all(source() is rows(symbol, name) for name, source in held.sources)


def day_from(series: Mapping[str, Rows], place: int) -> Day:
    """The day that begins at this place of the first interval's candles; the others are finer and finer ones."""
    parts: list[Rows] = []
    whole = True
    end_ms: int | None = None
    for interval, rows in series.items():
        part = rows[place if end_ms is None else rows["t"].searchsorted(end_ms) :]
        if len(part):
            whole = whole and end_ms in (None, part["t"][0]) and _unbroken(part, interval)
            end_ms = int(part["t"][-1]) + INTERVALS[interval]
            parts.append(part)
    return Day(
        before=float(parts[0]["o"][0]) / UNIT,
        low=min(int(part["l"].min()) for part in parts) / UNIT,
        high=max(int(part["h"].max()) for part in parts) / UNIT,
        volume=_total(parts, "v"),
        quote_volume=_total(parts, "q"),
        end_ms=end_ms or 0,
        whole=whole,
    )


def _finer(interval: str) -> Sequence[str]:
    return _LEVELS[_LEVELS.index(interval) + 1 :]


def _unbroken(rows: Rows, interval: str) -> bool:
    times = rows["t"]
    return int(times[-1] - times[0]) == (len(rows) - 1) * INTERVALS[interval] and bool(rows["complete"].all())


def _total(parts: Sequence[Rows], name: str) -> float:
    whole = sum(int(part[name].sum()) for part in parts)
    rest = sum(int(part[f"{name}_rest"].sum(dtype=np.int64)) for part in parts)
    return round((whole * UNIT + rest) / UNIT, DECIMALS)


class Listing:
    """The symbols that there are, with their quote assets: worked out when the symbols change."""

    def __init__(self) -> None:
        """Start with none."""
        self._symbols: list[str] = []
        self._quotes: list[str] = []

    def quotes(self, symbols: list[str]) -> list[str]:
        """The quote asset of each."""
        if symbols != self._symbols:
            self._symbols, self._quotes = symbols, quotes_of(symbols)
        return self._quotes


def market_columns(windows: Mapping[str, bytes], store: CandleStore, days: Days, listing: Listing) -> Columns:
    """What is known of every symbol whatever the interval, in order of name."""
    names = known_names(windows, store)
    newest = [newest_price(name, windows.get(name), store) for name in names]
    found = days.of_all(names, [time_ms for _, time_ms in newest])
    both = [(price, day) for (price, _), day in zip(newest, found, strict=True)]
    return {
        "symbol": names,
        "quote": listing.quotes(names),
        "price": [price for price, _ in newest],
        "time": [time_ms for _, time_ms in newest],
        "change_24h_percent": [_rounded(None if day is None else change_percent(price, day.before)) for price, day in both],
        # The price is newer than the newest closed minute.
        "low_24h": [None if day is None or price is None else min(day.low, price) for price, day in both],
        "high_24h": [None if day is None or price is None else max(day.high, price) for price, day in both],
        "volume_24h": [None if day is None else day.volume for day in found],
        "quote_volume_24h": [None if day is None else day.quote_volume for day in found],
        "whole_24h": [_reaches(day, time_ms) for day, (_, time_ms) in zip(found, newest, strict=True)],
    }


def _reaches(day: Day | None, time_ms: int | None) -> bool | None:
    """Whether a day lacks nothing, up to the minute before a time."""
    return None if day is None or time_ms is None else day.whole and time_ms - day.end_ms < MINUTES_LATE_MOST * MINUTE_MS


def usual_rsi(names: Sequence[str]) -> str | None:
    """Which RSI a table shows: that of 14 candles where it is there, else the longest; None if there is none.

    >>> usual_rsi(["sma_20", "rsi_3", "rsi_14", "rsi_21"]), usual_rsi(["rsi_3", "rsi_9"]), usual_rsi(["sma_20"])
    ('rsi_14', 'rsi_9', None)
    """
    if USUAL_RSI in names:
        return USUAL_RSI
    periods = [int(found[1]) for name in names if (found := _RSI.fullmatch(name))]
    return f"rsi_{max(periods)}" if periods else None


def rsi_columns(symbols: Sequence[str], interval: str, store: CandleStore) -> Columns:
    """The RSI of each symbol's newest closed candle, whether it has converged, and when the candle closed; None where there is none."""
    newest = {place: rows[-1:] for place, symbol in enumerate(symbols) if len(rows := store.indicators.rows(symbol, interval))}
    values: list[float | None] = [None] * len(symbols)
    ready: list[bool | None] = [None] * len(symbols)
    times: list[int | None] = [None] * len(symbols)
    # After the rows: there are no fewer names than they have values.
    names, dtype = store.names.names, store.names.dtype
    name = usual_rsi(names)
    if name is not None and newest:
        found = np.concatenate([widened(rows, dtype) for rows in newest.values()])
        numbers = found["values"][:, names.index(name)]
        converged = found["unready"] >> np.uint64(names.index(name)) & np.uint64(1) == 0
        closed = found["t"] + INTERVALS[interval]
        for place, number, is_ready, time_ms in zip(newest, numbers.tolist(), converged.tolist(), closed.tolist(), strict=True):
            if number == number:  # noqa: PLR0124  # only nan differs from itself
                values[place], ready[place], times[place] = round(number, DECIMALS), is_ready, time_ms
    return {"rsi": values, "rsi_ready": ready, "rsi_time": times}


def line_columns(symbols: Sequence[str], now_ms: int, store: CandleStore) -> tuple[int, Columns]:
    """The open time of the first half hour of a day of them, and each symbol's closes from there on, as parts of their range.

    0 is the least of a symbol's closes and 100 the greatest. None stands for a close that isn't there, and for a line without any.
    """
    step_ms = INTERVALS[LINE_INTERVAL]
    first_ms = opened(now_ms, step_ms) - LINE_STEPS * step_ms
    return first_ms, {"symbol": list(symbols), "line": [_line(store.candles.rows(symbol, LINE_INTERVAL), first_ms) for symbol in symbols]}


def _line(rows: Rows, first_ms: int) -> list[int | None] | None:
    step_ms = INTERVALS[LINE_INTERVAL]
    rows = rows[rows["t"].searchsorted(first_ms) : rows["t"].searchsorted(first_ms + LINE_STEPS * step_ms)]
    if not len(rows):
        return None
    closes = rows["c"]
    low, high = int(closes.min()), int(closes.max())
    # Float: a price times 100 passes what 64 bits hold.
    parts = np.rint((closes - low) * (LINE_MOST / (high - low))) if high > low else np.full(len(rows), LINE_MOST / 2)
    line: list[int | None] = [None] * LINE_STEPS
    for place, part in zip(((rows["t"] - first_ms) // step_ms).tolist(), parts.tolist(), strict=True):
        line[place] = int(part)
    return line


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, DECIMALS)
