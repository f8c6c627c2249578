"""`klinestream replay graph`: which symbols moved together, from the archive, as Parquet."""

import time
from pathlib import Path
from typing import Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of


def graph(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files.")],
    interval: Annotated[str, typer.Option(help="1m, 5m, 15m, 30m, 1h, 4h or 1d.")] = "1m",
    candles: Annotated[int, typer.Option(help="Candles of the window.")] = 120,
    at: Annotated[str, typer.Option(help="The window's end: a time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago.")] = "0s",
    from_: Annotated[str, typer.Option("--from", help="The same, for the end of the first window, with --every.")] = "",
    every: Annotated[str, typer.Option(help="A graph every so often from --from to --at: 15m, 1h, 1d.")] = "",
    symbols: Annotated[str, typer.Option(help="BTCUSDT,ETHUSDT,…; all by default.")] = "",
    features: Annotated[
        Path | None, typer.Option(help="Candles of a folder that `klinestream replay features` wrote, in place of the archive's.")
    ] = None,
    least: Annotated[float, typer.Option(help="The weakest correlation of an edge, whatever its sign.")] = 0.6,
    most: Annotated[int, typer.Option(help="Edges that a symbol may call its own: its strongest.")] = 5,
) -> None:
    """Write the correlation graph of archived candles at one moment, or at many: nodes and edges, a folder a day."""
    from rich.console import Console

    from klinestream.archive.files import Files
    from klinestream.market.correlations import CANDLES_LEAST, CANDLES_MOST, Rule
    from klinestream.market.intervals import INTERVALS
    from klinestream.replay.graph import Wanted, moments_of, write

    config: Config = ctx.obj
    if interval not in INTERVALS:
        raise ConfigError(f"--interval: expected one of {', '.join(INTERVALS)}, got {interval!r}")
    if not CANDLES_LEAST <= candles <= CANDLES_MOST:
        raise ConfigError(f"--candles: expected from {CANDLES_LEAST} to {CANDLES_MOST}, got {candles}")
    if bool(from_) != bool(every):
        raise ConfigError("expected --from and --every together, got one of them: give both, or for one moment neither")
    now_ms = time.time_ns() // 1_000_000
    at_ms = time_of(at, now_ms)
    every_ms = _span_ms(every, INTERVALS[interval]) if every else None
    moments = moments_of(interval, time_of(from_, now_ms) if from_ else None, at_ms, every_ms)
    if not moments:
        raise ConfigError(f"expected --from before --at, got {from_} and {at}: swap them")
    names = tuple(sorted({name.strip().upper() for name in symbols.split(",") if name.strip()}))
    wanted = Wanted(interval, candles, moments, names, Rule(least, most))
    with Console(stderr=True).status("looking for candles") as status:
        for day in write(features or Files(config.archive.url), Files(str(out)), wanted, status.update):
            what = "is there already" if day.kept else f"at most {day.symbols:,} symbols each, {day.edges:,} edges in all"
            typer.echo(f"{out}/date={day.date}: {day.graphs:,} graph{'s' * (day.graphs != 1)}, {what}")


def _span_ms(text: str, length_ms: int) -> int:
    try:
        found = -time_of(text, 0)
    except ConfigError:
        found = 0
    if found <= 0 or found % length_ms:
        raise ConfigError(f"--every: expected a whole number of candles such as 15m, 1h or 1d, got {text!r}")
    return found
