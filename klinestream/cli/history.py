"""`klinestream history`: which of the exchange's own candles are stored, and which of the wanted ones are not."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.market.history import Stock
    from klinestream.runtime.history_index import HistoryIndex

_COLUMNS = ("symbol", "interval", "candles", "from", "to", "holes", "missing before", "closed since")
_WIDTH_LEAST = 120  # a pipe has no width of its own


def history(
    ctx: typer.Context,
    symbol: Annotated[str, typer.Option(help="Only this symbol.")] = "",
    interval: Annotated[str, typer.Option(help="Only this interval: 1m, 5m, 15m, 30m, 1h, 4h or 1d.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a symbol and interval.")] = False,
) -> None:
    """Show which of the exchange's own candles are stored, beside those that are wanted (candles.history), times in UTC.

    Candles that closed since are no fault: klines hold them, and once the newest stored one is old (candles.refresh_s) they are fetched.
    """
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from klinestream.runtime.history_index import read_history

    config: Config = ctx.obj
    log.setup(config.log)
    intervals = _intervals(config, interval)
    index = read_history(config.kafka)
    found = _stock(index, symbol.upper(), intervals, config.candles.history, time.time_ns() // 1_000_000)
    if as_json:
        _print_lines(found)
    else:
        _print_table(found)
    if index.unusable:
        typer.echo(f"{index.unusable} records of the topic could not be used: they hold no candles", err=True)


def _intervals(config: Config, chosen: str) -> list[str]:
    from klinestream.market.intervals import INTERVALS

    if chosen and chosen not in INTERVALS:
        raise ConfigError(f"--interval: expected one of {', '.join(INTERVALS)}, got {chosen!r}")
    return [chosen] if chosen else [interval for interval in INTERVALS if interval in config.candles.intervals]


def _stock(index: "HistoryIndex", symbol: str, intervals: Sequence[str], candles: int, now_ms: int) -> list["Stock"]:
    from klinestream.market.history import stock

    symbols = [symbol] if symbol else sorted({known for known, _ in index.spans})
    return [stock(known, interval, index.spans.get((known, interval), ()), candles, now_ms) for known in symbols for interval in intervals]


def _print_lines(found: Sequence["Stock"]) -> None:
    import orjson

    for one in found:
        told: dict[str, Any] = {"s": one.symbol, "i": one.interval, "candles": one.candles, "from": one.from_ms, "to": one.to_ms}
        typer.echo(orjson.dumps(told | {"holes": one.holes, "missing_before": one.missing_before, "closed_since": one.closed_since}))


def _print_table(found: Sequence["Stock"]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, _WIDTH_LEAST)
    if found:
        table = Table()
        for column in _COLUMNS:
            table.add_column(column, no_wrap=True, justify="left" if column in ("symbol", "interval", "from", "to") else "right")
        for one in found:
            numbers = one.missing_in_holes, one.missing_before, one.closed_since
            table.add_row(one.symbol, one.interval, str(one.candles), _shown(one.from_ms), _shown(one.to_ms), *map(str, numbers))
        console.print(table)
    symbols = len({one.symbol for one in found})
    lacking = sum(one.missing_in_holes + one.missing_before for one in found)
    typer.echo(f"{symbols} symbol{'s' * (symbols != 1)}, {sum(one.candles for one in found)} candles, {lacking} wanted ones missing")


def _shown(time_ms: int | None) -> str:
    return "" if time_ms is None else datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M")
