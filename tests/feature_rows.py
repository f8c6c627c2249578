"""Feature rows for tests: closed candles with every indicator, as `klinestream replay features` gives them."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from klinestream.market.decimals import UNIT, ratio
from klinestream.market.events import Indicators
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
    names, times = sorted(prices), np.array(opened)
    table = np.moveaxis(np.array([prices[name] for name in names], float), 2, 0)  # (5, symbols, moments)
    base = np.stack([table[4] // 1, table[4] % 1 * UNIT]).astype(np.int64)
    quote = np.stack([table[4] * table[3] // 1, np.zeros(table[4].shape)]).astype(np.int64)
    one = IndicatorSet(IndicatorSettings())
    candles = [
        Candles(
            np.full(len(names), time_ms),
            *(np.ascontiguousarray(part[:, moment]) for part in table[:4]),
            base[..., moment],
            quote[..., moment],
        )
        for moment, time_ms in enumerate(opened)
    ]
    state, columns = one.init(len(names)), np.arange(len(names))
    found = [one.update(state, columns, each) for each in candles]
    values, ready = (np.stack(part, axis=2) for part in zip(*found, strict=True))  # (indicators, symbols, moments)
    count = len(names) * len(times)
    rows: dict[str, object] = {"symbol": np.repeat(names, len(times)), "interval": [interval] * count}
    rows |= {"open_time_ms": np.tile(times, len(names)), "close_time_ms": np.tile(times + INTERVALS[interval] - 1, len(names))}
    rows |= {name: part.ravel() for name, part in zip(("open", "high", "low", "close"), table, strict=False)}
    rows |= {"base_volume": ratio(*base).ravel(), "quote_volume": ratio(*quote).ravel(), "complete": [True] * count}
    rows |= {"since": [opened[0] if since is None else since] * count, "revision": [0] * count}
    for place, name in enumerate(one.names):
        rows |= {name: values[place].ravel(), f"{name}_ready": ready[place].ravel()}
    return pl.DataFrame(rows).with_columns(pl.col(one.names).fill_nan(None))


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


def as_records(rows: pl.DataFrame) -> list[Indicators]:
    """The same rows as records of `crypto_indicators`, moment by moment."""
    names = IndicatorSet(IndicatorSettings()).names
    return [
        Indicators(
            symbol=row["symbol"],
            interval=row["interval"],
            open_time_ms=row["open_time_ms"],
            close_time_ms=row["close_time_ms"],
            close=row["close"],
            values={name: row[name] for name in names},
            unready=tuple(name for name in names if not row[f"{name}_ready"]),
            since_ms=row["since"],
            revision=row["revision"],
        )
        for row in rows.sort("open_time_ms", "symbol").iter_rows(named=True)
    ]


def write(folder: Path, rows: pl.DataFrame) -> None:
    """The same rows as `klinestream replay features` leaves them: a file a day, with its manifest."""
    days = rows.with_columns(pl.col("symbol", "interval").cast(pl.Categorical), date=pl.from_epoch("open_time_ms", "ms").dt.date())
    files = []
    for (date,), part in days.partition_by("date", as_dict=True, include_key=False).items():
        files.append({"file": f"candles/date={date}/0000-p0-0.parquet"})
        (folder / files[-1]["file"]).parent.mkdir(parents=True)
        part.write_parquet(folder / files[-1]["file"])
        files[-1]["blake2b"] = hashlib.blake2b((folder / files[-1]["file"]).read_bytes()).hexdigest()
    told = {"fingerprint": "made for tests", "as_of": "live", "complete": True, "files": files}
    (folder / "_features.json").write_bytes(orjson.dumps(told))
