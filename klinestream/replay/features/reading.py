"""Reading what `klinestream replay features` wrote: as polars' lazy frames, as Arrow's datasets, joined as it was known.

windows    known ·──w1──w2──w3──w4──w5──·
candles          ·──────c1──────────c2──·
joined             w1:–  w2:c1 w3:c1 w4:c1 w5:c2     the newest closed candle that was known when the window was
"""

from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow.dataset as ds

from klinestream.market.errors import ConfigError
from klinestream.market.intervals import INTERVALS
from klinestream.replay.features.group import CANDLES_TABLE, WINDOWS_TABLE
from klinestream.replay.features.run import MANIFEST

_TABLES = (WINDOWS_TABLE, CANDLES_TABLE)


def manifest(folder: str | Path) -> dict[str, Any]:
    """What a folder of features says of itself. Raises ConfigError where it is none, or isn't finished."""
    path = Path(folder) / MANIFEST
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        raise ConfigError(f"expected a folder that `klinestream replay features` wrote, found no {MANIFEST} in {folder}") from None
    if not found.get("complete"):
        raise ConfigError(f"{folder}: its features aren't finished: run the same `klinestream replay features` again, and it goes on")
    return found


def windows(folder: str | Path) -> pl.LazyFrame:
    """A row a symbol and second. Raises ConfigError."""
    return _scanned(folder, WINDOWS_TABLE)


def candles(folder: str | Path, interval: str | None = None) -> pl.LazyFrame:
    """A row a closed candle, of all intervals or of one. Raises ConfigError."""
    if interval is not None and interval not in INTERVALS:
        raise ConfigError(f"interval: expected one of {', '.join(INTERVALS)}, got {interval!r}")
    found = _scanned(folder, CANDLES_TABLE)
    return found if interval is None else found.filter(pl.col("interval") == interval)


def dataset(folder: str | Path, table: str) -> ds.Dataset:
    """A table as an Arrow dataset: `windows` or `candles`. Raises ConfigError."""
    return ds.dataset(_files(folder, table), format="parquet")


def known(folder: str | Path, interval: str) -> pl.LazyFrame:
    """Windows, each with the newest closed candle of its symbol that was known by then, its columns as `1m_close` and so on.

    Null where none was known. No row holds anything that was published after its own `known_ms`. Raises ConfigError.
    """
    newest = (
        candles(folder, interval)
        .sort("symbol", "known_ms", "open_time_ms")
        # One that came late, for a hole, is no newer than what was known before.
        .filter(pl.col("open_time_ms") == pl.col("open_time_ms").cum_max().over("symbol"))
        .select("symbol", "known_ms", *(pl.all().exclude("symbol", "interval", "known_ms").name.prefix(f"{interval}_"),))
        .with_columns(pl.col("known_ms").alias(f"{interval}_known_ms"))
        .sort("known_ms")
    )
    return windows(folder).sort("known_ms").join_asof(newest, on="known_ms", by="symbol", strategy="backward", check_sortedness=False)


def _scanned(folder: str | Path, table: str) -> pl.LazyFrame:
    files = _files(folder, table)
    return pl.scan_parquet(files, hive_partitioning=False)


def _files(folder: str | Path, table: str) -> list[str]:
    if table not in _TABLES:
        raise ConfigError(f"table: expected {' or '.join(_TABLES)}, got {table!r}")
    found = [str(Path(folder) / each["file"]) for each in manifest(folder)["files"] if each["file"].startswith(f"{table}/")]
    if not found:
        raise ConfigError(f"{folder}: expected rows of {table}, found none: the archive had no klines for them in that span")
    return found
