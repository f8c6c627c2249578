"""Feature rows from a folder."""

from pathlib import Path

import polars as pl

from klinestream.market.errors import ConfigError


def read(folder: Path, interval: str) -> pl.DataFrame:
    """The rows of one interval that `klinestream replay features` wrote. Raises ConfigError."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise ConfigError(f"--features: expected a folder that `klinestream replay features` wrote, found no files in {folder}")
    return pl.scan_parquet(files).filter(pl.col("interval") == interval).collect()
