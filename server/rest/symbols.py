"""What is known of each symbol now: its newest price, its change over a day, its age. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from klinestream.market.decimals import UNIT
from klinestream.market.intervals import DAY_MS, INTERVALS
from server.candles.rows import Rows
from server.candles.store import CandleStore

_FINEST = "1m"


def overview(windows: Mapping[str, bytes], store: CandleStore, now_ms: int) -> list[dict[str, Any]]:
    """Of every symbol that has windows, or else candles, in order of name; what is not known is null."""
    return [_of(name, windows.get(name), store, now_ms) for name in known_names(windows, store)]


def known_names(windows: Mapping[str, bytes], store: CandleStore) -> list[str]:
    """Every symbol that has windows, or else candles, in order of name."""
    return sorted({*windows, *store.candles.symbols()})


def newest_price(symbol: str, window: bytes | None, store: CandleStore) -> tuple[float | None, int | None]:
    """The close of the newest window, else of the newest minute, and when that was, in ms; None where there is neither."""
    return _from_window(window) if window is not None else _from_candles(symbol, store)


def change_percent(price: float | None, before: float | None) -> float | None:
    """How far a price has moved from an earlier one; None if either isn't known."""
    return None if price is None or before is None else 100 * (price - before) / before


class Found(NamedTuple):
    """A candle: its interval, and its place in a series, which may be another one by the time that it is asked for again."""

    interval: str
    rows: Rows
    place: int


def candle_at(symbol: str, time_ms: int, store: CandleStore) -> Found | None:
    """The shortest candle held that holds this time, days left out; None if there is none."""
    for interval, length_ms in INTERVALS.items():
        if length_ms == DAY_MS:
            break
        rows = store.candles.rows(symbol, interval)
        place = int(rows["t"].searchsorted(time_ms, side="right")) - 1
        if place >= 0 and time_ms < rows["t"][place] + length_ms:
            return Found(interval, rows, place)
    return None


def price_at(symbol: str, time_ms: int, store: CandleStore) -> float | None:
    """The open of the shortest candle held that holds this time; None if there is none."""
    found = candle_at(symbol, time_ms, store)
    return None if found is None else float(found.rows["o"][found.place]) / UNIT


def _of(symbol: str, window: bytes | None, store: CandleStore, now_ms: int) -> dict[str, Any]:
    price, time_ms = newest_price(symbol, window, store)
    return {
        "symbol": symbol,
        "price": price,
        "time": time_ms,
        "age_s": None if time_ms is None else (now_ms - time_ms) / 1000,
        "change_24h_percent": change_percent(price, None if time_ms is None else price_at(symbol, time_ms - DAY_MS, store)),
        "intervals": [interval for interval in INTERVALS if len(store.candles.rows(symbol, interval))],
    }


def _from_window(value: bytes) -> tuple[float | None, int | None]:
    window = orjson.loads(value)
    return float(window["close"]), int(window["window_end"])


def _from_candles(symbol: str, store: CandleStore) -> tuple[float | None, int | None]:
    rows = store.candles.rows(symbol, _FINEST)
    if not len(rows):
        return None, None
    return float(rows["c"][-1]) / UNIT, int(rows["t"][-1]) + INTERVALS[_FINEST]
