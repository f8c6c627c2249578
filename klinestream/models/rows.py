"""Feature rows from a folder that `klinestream replay features` wrote, and how they were made."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from klinestream.market.errors import ConfigError
from klinestream.replay.features.reading import candles, manifest


@dataclass(frozen=True, slots=True)
class Features:
    """Rows of one interval, and how they were made."""

    rows: pl.DataFrame
    fingerprint: str
    """Of the settings of windows, candles and indicators."""
    as_of: str
    """live: as it was known then; final: with later repairs and corrections."""


def read(folder: Path, interval: str) -> Features:
    """The candles of one interval. Raises ConfigError where they aren't there, or not all of them."""
    told = manifest(folder)
    rows = candles(folder, interval).with_columns(pl.col("symbol", "interval").cast(pl.String)).collect()
    if not rows.height:
        raise ConfigError(f"--interval: expected candles of {interval} in {folder}, found none: take another one, or a longer span")
    return Features(rows, str(told["fingerprint"]), str(told["as_of"]))
