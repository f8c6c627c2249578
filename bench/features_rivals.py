"""The windows' columns as others compute them: `python -m bench.features_rivals pandas|polars ARCHIVE OUT`.

Both read the same files, take prices and volumes for floats, and write Parquet. Neither knows holes, repeats or readiness, and
neither gives the minute so far or any candle.
"""

import sys
from pathlib import Path

PERIOD = 14
_COLUMNS = ["symbol", "open_time_ms", "low", "high", "close", "base_volume", "published_ms"]


def by_pandas(archive: Path, out: Path) -> None:
    """A loop over symbols: pandas' rolling windows, TA-Lib's RSI."""
    import pandas as pd  # noqa: PLC0415  # what the other needs isn't loaded
    import talib  # noqa: PLC0415

    files = sorted(archive.glob("crypto_kline_data/*/*/*.parquet"))
    whole = pd.concat([pd.read_parquet(file, columns=_COLUMNS) for file in files])
    numbers = ["low", "high", "close", "base_volume"]
    whole[numbers] = whole[numbers].astype(float)
    found = []
    for symbol, mine in whole.groupby("symbol", sort=True):
        ordered = mine.sort_values("open_time_ms")
        last = ordered.rolling(3, min_periods=1)
        average = last["close"].mean()
        values = {
            "close": ordered["close"],
            "average_price": average,
            "low": last["low"].min(),
            "high": last["high"].max(),
            "volume": last["base_volume"].sum(),
            "points": last["close"].count().astype("int32"),
            "rsi": talib.RSI(average.to_numpy(), PERIOD),
        }
        found.append(ordered[["open_time_ms"]].assign(symbol=symbol, known_ms=ordered["published_ms"], **values))
    pd.concat(found).to_parquet(out, compression="zstd")


def by_polars(archive: Path, out: Path) -> None:
    """One pipeline of expressions over all symbols."""
    import polars as pl  # noqa: PLC0415

    average = pl.col("close").rolling_mean(3, min_samples=1).over("symbol")
    change = pl.col("average_price").diff().over("symbol")
    number = pl.int_range(pl.len()).over("symbol")

    def smoothed(part: pl.Expr) -> pl.Expr:
        # Seeded with the mean of the first changes, which an exponential mean then goes on from.
        seeded = pl.when(number == PERIOD).then(part.rolling_mean(PERIOD)).when(number > PERIOD).then(part)
        return seeded.ewm_mean(alpha=1 / PERIOD, adjust=False, ignore_nulls=True).over("symbol")

    up, down = smoothed(pl.col("change").clip(lower_bound=0)), smoothed((-pl.col("change")).clip(lower_bound=0))
    (
        pl.scan_parquet(str(archive / "crypto_kline_data/*/*/*.parquet"), hive_partitioning=False)
        .select(_COLUMNS)
        .with_columns(pl.col("low", "high", "close", "base_volume").cast(pl.Float64))
        .sort("symbol", "open_time_ms")
        .select(
            "symbol",
            "open_time_ms",
            "close",
            known_ms=pl.col("published_ms"),
            average_price=average,
            low=pl.col("low").rolling_min(3, min_samples=1).over("symbol"),
            high=pl.col("high").rolling_max(3, min_samples=1).over("symbol"),
            volume=pl.col("base_volume").rolling_sum(3, min_samples=1).over("symbol"),
            points=pl.min_horizontal(number + 1, 3).cast(pl.Int32),
        )
        .with_columns(change=change)
        .with_columns(up=up, down=down)
        .with_columns(rsi=pl.when(number >= PERIOD).then(100 * pl.col("up") / (pl.col("up") + pl.col("down"))))
        .drop("change", "up", "down")
        .collect()
        .write_parquet(out, compression="zstd")
    )


if __name__ == "__main__":
    {"pandas": by_pandas, "polars": by_polars}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
