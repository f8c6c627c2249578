"""Rows a second that `klinestream import` takes into the archive: a day of 1 s klines of some symbols, in order and in none."""

import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from bench.report import Report

SYMBOLS, SECONDS = 10, 86_400
_START_MS = 1_700_006_400_000


def measure(report: Report, folder: Path) -> None:
    """The command as a whole, the start of Python included; a folder of its own each time, so that nothing is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    klines = _klines()
    for name, rows in (("in order", klines), ("in no order", klines.sample(fraction=1, shuffle=True, seed=1))):
        rows.with_columns(pl.col(pl.Decimal).cast(pl.String)).write_csv(folder / "klines.csv")
        rows.write_parquet(folder / "klines.parquet")
        for kind in ("csv", "parquet"):
            file = folder / f"klines.{kind}"
            began_s = time.perf_counter()
            run = [sys.executable, "-m", "klinestream.cli.main", "import", str(file), "--source", "bench", "--json"]
            place = folder / f"{kind}-{name.replace(' ', '-')}"
            place.mkdir()
            subprocess.run(run, cwd=place, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - began_s
            report.row(
                f"{kind}, {name}",
                rows=len(rows),
                mib=round(file.stat().st_size / 2**20, 1),
                seconds=seconds,
                rows_per_s=round(len(rows) / seconds),
            )


def _klines() -> pl.DataFrame:
    second = pl.DataFrame({"second": range(SECONDS)}).join(pl.DataFrame({"number": range(SYMBOLS)}), how="cross")
    cents = 100_000 + (7 * pl.col("second") + 13 * pl.col("number")) % 2_900

    def amount(units: pl.Expr) -> pl.Expr:
        return units.cast(pl.Decimal(30, 8)) / 100

    return second.select(
        symbol=pl.format("C{}USDT", "number"),
        open_time=_START_MS + pl.col("second") * 1000,
        open=amount(cents),
        high=amount(cents + 50),
        low=amount(cents - 50),
        close=amount(cents + 10),
        volume=amount(cents % 977 + 1),
        close_time=_START_MS + pl.col("second") * 1000 + 999,
        quote_volume=amount(cents * 7),
        count=cents % 13 + 1,
        taker_buy_base_volume=amount(cents % 977),
        taker_buy_quote_volume=amount(cents * 3),
    )
