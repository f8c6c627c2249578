"""Windows straight from trades, in a few lines that share nothing with the engine."""

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import polars as pl

SECOND_MS = 1000
SIZE_MS = 3000
SLIDE_MS = 500


class Second(NamedTuple):
    """What one second of one symbol holds."""

    close: float
    low: float
    high: float
    volume: float


Seconds = dict[tuple[str, int], Second]
"""(symbol, open time) → second."""


def recorded_trades(folder: Path) -> pl.DataFrame:
    """The trades of recorded combined-stream frames: symbol, time, price, quantity, in the order of their ids."""
    rows = []
    for file in sorted(folder.glob("*.gz")):
        with gzip.open(file) as lines:
            for line in lines:
                if b"@trade" in line:
                    data = orjson.loads(line.split(b" ", 1)[1])["data"]
                    rows.append((data["s"], data["T"], float(data["p"]), float(data["q"]), data["t"]))
    return pl.DataFrame(rows, ["symbol", "time", "price", "quantity", "id"], orient="row").sort("symbol", "id")


def seconds_of(trades: pl.DataFrame, until_ms: int = 0) -> Seconds:
    """Each second from a symbol's first trade to its last one, or to `until_ms`; a second without trades carries the close on."""
    found: Seconds = {}
    grouped = trades.group_by("symbol", pl.col("time") // SECOND_MS * SECOND_MS, maintain_order=True).agg(
        close=pl.col("price").last(), low=pl.col("price").min(), high=pl.col("price").max(), volume=pl.col("quantity").sum()
    )
    for (symbol,), rows in grouped.group_by("symbol", maintain_order=True):
        held = {time: Second(*values) for _, time, *values in rows.iter_rows()}
        carried = 0.0
        for time in range(min(held), max(max(held) + 1, until_ms), SECOND_MS):
            second = held.get(time) or Second(carried, carried, carried, 0.0)
            found[(str(symbol), time)], carried = second, second.close
    return found


def ends_of(seconds: list[int]) -> set[int]:
    """The ends of all windows that these seconds complete."""
    return {end for second in seconds for end in range(second + SECOND_MS, second + 2 * SECOND_MS, SLIDE_MS)}


def wrong(window: dict[str, Any], seconds: Seconds, shift_ms: int = 0) -> str:
    """What is wrong with a window next to the truth, to 1e-9; nothing if it is right. Its times are `shift_ms` later than the truth's."""
    first = max(window["since"], -(-(window["window_start"] - SECOND_MS + 1) // SECOND_MS) * SECOND_MS)
    mine = [
        seconds[(window["symbol"], opened - shift_ms)]
        for opened in range(first, window["window_end"], SECOND_MS)
        if window["window_start"] <= opened + SECOND_MS - 1 < window["window_end"]
    ]
    right = {
        "close": mine[-1].close,
        "average_price": sum(second.close for second in mine) / len(mine),
        "low": min(second.low for second in mine),
        "high": max(second.high for second in mine),
        "volume": sum(second.volume for second in mine),
        "points": len(mine),
    }
    off = {name: (window[name], value) for name, value in right.items() if abs(window[name] - value) > 1e-9 * max(abs(value), 1e-9)}
    return f"{window['symbol']} {window['window_end']}: (is, should be) {off}" if off else ""
