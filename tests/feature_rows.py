"""Feature rows for tests: closed candles with every indicator, as `klinestream replay features` gives them."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl

from klinestream.market.decimals import UNIT, ratio
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.protocol import Candles
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.standin.intervals import INTERVALS as ASKED
from klinestream.standin.seeded.market import SeededMarket

START_MS = 1_790_000_040_000
SYMBOLS = 8


def rows_of(
    opened: Sequence[int], prices: dict[str, Sequence[Sequence[float]]], interval: str = "1m", since: int | None = None
) -> pl.DataFrame:
    """Rows of symbols whose candles all open at the same times, a run each: symbol → rows of open, high, low, close and volume."""
    names = sorted(prices)
    table = np.array([prices[name] for name in names], float)  # (symbols, moments, 5)
    units = np.zeros((2, len(names)), np.int64)
    one = IndicatorSet(IndicatorSettings())
    state, columns = one.init(len(names)), np.arange(len(names))
    parts = []
    for moment, time_ms in enumerate(opened):
        o, high, low, close, volume = (np.ascontiguousarray(table[:, moment, place]) for place in range(5))
        base = units.copy()
        base[0], base[1] = volume.astype(np.int64), ((volume % 1) * UNIT).astype(np.int64)
        quote = units.copy()
        quote[0] = (volume * close).astype(np.int64)
        times = np.full(len(names), time_ms)
        values, ready = one.update(state, columns, Candles(times, o, high, low, close, base, quote))
        head = {
            "symbol": names,
            "interval": [interval] * len(names),
            "open_time_ms": times,
            "close_time_ms": times + INTERVALS[interval] - 1,
        }
        head |= {"known_ms": times + INTERVALS[interval] - 1, "open": o, "high": high, "low": low, "close": close}
        head |= {"base_volume": ratio(*base), "quote_volume": ratio(*quote), "taker_base_volume": ratio(*base) / 2}
        head |= {"trades": np.ones(len(names), np.int64), "klines": np.full(len(names), 60), "complete": [True] * len(names)}
        head |= {"since": np.full(len(names), opened[0] if since is None else since), "revision": np.zeros(len(names), np.int64)}
        for place, name in enumerate(one.names):
            head |= {name: values[place], f"{name}_ready": ready[place]}
        parts.append(pl.DataFrame(head))
    return pl.concat(parts).with_columns(pl.col(one.names).fill_nan(None)).sort("symbol", "open_time_ms")


def walk(seed: int, minutes: int, symbols: int = 3, start_ms: int = START_MS) -> pl.DataFrame:
    """Rows of random walks: nothing in them tells of what follows."""
    made = np.random.default_rng(seed)
    prices = {}
    for number in range(symbols):
        close = 100 * np.exp(np.cumsum(made.normal(0, 1e-3, minutes)))
        first = np.append(100.0, close[:-1])
        volume = made.gamma(2.0, 5.0, minutes)
        prices[f"COIN{number}USDT"] = np.column_stack([first, np.maximum(first, close), np.minimum(first, close), close, volume]).tolist()
    return rows_of([start_ms + minute * MINUTE_MS for minute in range(minutes)], prices)


@cache
def seeded(minutes: int, seed: int = 1, symbols: int = SYMBOLS) -> pl.DataFrame:
    """Rows of the stand-in's seeded market, 1m."""
    market, minute = SeededMarket(seed, symbols), ASKED["1m"]
    end_ms = START_MS + minutes * MINUTE_MS
    prices = {}
    for name in market.symbols:
        found = [
            candle
            for from_ms in range(START_MS, end_ms, 500 * MINUTE_MS)
            for candle in market.candles(name, minute, from_ms, min(end_ms, from_ms + 500 * MINUTE_MS), end_ms)
        ]
        prices[name] = [[c.open / UNIT, c.high / UNIT, c.low / UNIT, c.close / UNIT, c.base_volume / UNIT] for c in found]
    return rows_of([START_MS + place * MINUTE_MS for place in range(minutes)], prices)
