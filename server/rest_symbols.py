"""What is known of each symbol now: its newest price, its change over a day, its age. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from klinestream.market.decimals import UNIT
from klinestream.market.intervals import DAY_MS, INTERVALS
from server.candle_store import CandleStore

_FINEST = "1m"


def overview(windows: Mapping[str, bytes], store: CandleStore, now_ms: int) -> list[dict[str, Any]]:
    """Of every symbol that has windows, or else candles, in order of name; what is not known is null."""
    names = sorted({*windows, *store.candles.symbols()})
    return [_of(name, windows.get(name), store, now_ms) for name in names]


def _of(symbol: str, window: bytes | None, store: CandleStore, now_ms: int) -> dict[str, Any]:
    price, time_ms = _from_window(window) if window is not None else _from_candles(symbol, store)
    before = None if time_ms is None else price_at(symbol, time_ms - DAY_MS, store)
    change = None if price is None or before is None else 100 * (price - before) / before
    return {
        "symbol": symbol,
        "price": price,
        "time": time_ms,
        "age_s": None if time_ms is None else (now_ms - time_ms) / 1000,
        "change_24h_percent": change,
        "intervals": [interval for interval in INTERVALS if len(store.candles.rows(symbol, interval))],
    }


def price_at(symbol: str, time_ms: int, store: CandleStore) -> float | None:
    """The open of the shortest candle held that holds this time; None if there is none."""
    for interval, length_ms in INTERVALS.items():
        if length_ms == DAY_MS:
            break
        rows = store.candles.rows(symbol, interval)
        place = int(rows["t"].searchsorted(time_ms, side="right")) - 1
        if place >= 0 and time_ms < rows["t"][place] + length_ms:
            return float(rows["o"][place]) / UNIT
    return None


def _from_window(value: bytes) -> tuple[float | None, int | None]:
    window = orjson.loads(value)
    return float(window["close"]), int(window["window_end"])


def _from_candles(symbol: str, store: CandleStore) -> tuple[float | None, int | None]:
    rows = store.candles.rows(symbol, _FINEST)
    if not len(rows):
        return None, None
    return float(rows["c"][-1]) / UNIT, int(rows["t"][-1]) + INTERVALS[_FINEST]
