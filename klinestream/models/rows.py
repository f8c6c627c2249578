"""Feature rows from a folder that `klinestream replay features` wrote.

FEATURES/_features.json           what was asked, with which settings; whether it is complete
         candles/date=…/….parquet   a row each closed candle, all intervals
"""

from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl

from klinestream.market.errors import ConfigError

_MANIFEST, _CANDLES = "_features.json", "candles"


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
    try:
        manifest = orjson.loads((folder / _MANIFEST).read_bytes())
        fingerprint, as_of, complete = str(manifest["fingerprint"]), str(manifest["as_of"]), bool(manifest["complete"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--features: expected a folder that `klinestream replay features` wrote, but {folder / _MANIFEST} can't be used ({error})"
        ) from None
    if not complete:
        raise ConfigError(f"--features: {folder} isn't complete yet: run the same `klinestream replay features` again, it goes on")
    files = sorted((folder / _CANDLES).glob("date=*/*.parquet"))
    if not files:
        raise ConfigError(f"--features: expected candles in {folder / _CANDLES}, found none: make features of a longer span")
    # The folder's name isn't a column of the rows.
    scanned = pl.scan_parquet(files, hive_partitioning=False).with_columns(pl.col("symbol", "interval").cast(pl.String))
    rows = scanned.filter(pl.col("interval") == interval).collect()
    if not rows.height:
        raise ConfigError(f"--interval: expected candles of {interval} in {folder}, found none: take another one, or a longer span")
    return Features(rows, fingerprint, as_of)
