"""Files as others write them, for tests of `klinestream import`: of the recorded trades, or where they are absent of the seeded market."""

import functools
import gzip
from pathlib import Path

import orjson
import polars as pl

from tests import bulk

FRAMES = Path(__file__).parents[2] / "shared" / "data" / "binance-spot-2024-08-09"
UNIT = 10**8
_SEEDED_S = 6 * 3600


@functools.cache
def trades() -> pl.DataFrame:
    """symbol, time (ms), id, price, quantity (as text, exact), maker; in order of ids."""
    rows = _recorded() if FRAMES.is_dir() else _seeded()
    return pl.DataFrame(rows, ["symbol", "time", "id", "price", "quantity", "maker"], orient="row").sort("symbol", "id")


def _recorded() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for file in sorted(FRAMES.glob("*.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                if b"@trade" in line:
                    data = orjson.loads(line.split(b" ", 1)[1])["data"]
                    rows.append((data["s"], data["T"], data["t"], data["p"], data["q"], data["m"]))
    return rows


def _seeded() -> list[tuple[object, ...]]:
    start = bulk.DAY_START_MS
    found = bulk.market().trades(bulk.SYMBOL, start, start + _SEEDED_S * 1000)
    return [(bulk.SYMBOL, t.time_ms, t.id, shown(t.price), shown(t.quantity), t.buyer_is_maker) for t in found]


def seconds() -> pl.DataFrame:
    """Klines of the trades, a second each where there are any: numbers as integers of 1e-8, cut off."""
    exact = trades().with_columns(pl.col("price", "quantity").cast(pl.Decimal(30, 8)), opened=pl.col("time") // 1000 * 1000)
    units = exact.with_columns(pl.col("quantity").mul(UNIT).cast(pl.Int64).alias("q"), pl.col("price").mul(UNIT).cast(pl.Int64).alias("p"))
    products = units.with_columns((pl.col("p").cast(pl.Int128) * pl.col("q").cast(pl.Int128)).alias("pq"))
    taken = ~pl.col("maker")
    found = products.group_by("symbol", "opened").agg(
        open=pl.col("p").first(),
        high=pl.col("p").max(),
        low=pl.col("p").min(),
        close=pl.col("p").last(),
        volume=pl.col("q").sum(),
        quote_volume=pl.col("pq").sum() // UNIT,
        taker_buy_base_volume=pl.col("q").filter(taken).sum(),
        taker_buy_quote_volume=pl.col("pq").filter(taken).sum() // UNIT,
        count=pl.len(),
        first_trade_id=pl.col("id").min(),
        last_trade_id=pl.col("id").max(),
    )
    return found.sort("symbol", "opened")


def shown(units: int) -> str:
    """An integer of 1e-8 as decimal text."""
    return f"{units // UNIT}.{units % UNIT:08d}"
