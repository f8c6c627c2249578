"""What `klinestream verify candles` does and prints."""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from klinestream.runtime.candle_check import BuiltCandles, CandleFindings, Span

_SHOWN_MOST = 20
_WIDTH_LEAST = 120  # a pipe has no width of its own


def check_all(
    config: Config, symbols: Sequence[str], intervals: Collection[str], span: "Span", progress: "Progress"
) -> "tuple[BuiltCandles, CandleFindings]":
    """Read the topic, then compare series after series."""
    from klinestream.runtime.candle_check import CandleFindings, check_series, read_built
    from klinestream.runtime.rest import Rest
    from klinestream.runtime.weights import Weights

    built = read_built(config.kafka, symbols, intervals, span, _told(progress))
    found = CandleFindings()
    asking = progress.add_task("asking the exchange, within its limits", total=len(built.of))
    with Rest(config.exchange, Weights(config.exchange.weight_per_minute)) as rest:
        for series in sorted(built.of):
            check_series(rest, series, built.of[series], found)
            progress.advance(asking)
    return built, found


def print_json(symbols: Sequence[str], span: "Span", built: "BuiltCandles", found: "CandleFindings") -> None:
    """One JSON object."""
    import orjson

    told: dict[str, Any] = {
        "sound": found.sound,
        "from": span[0],
        "to": span[1],
        "symbols": len(symbols),
        "checked": dict(found.checked),
        "incomplete": built.incomplete,
        "unusable": built.unusable,
        "mismatches_by_field": dict(found.fields),
        "mismatches": [
            {"s": one.symbol, "i": one.interval, "t": one.open_time_ms, "field": one.field, "built": one.built, "exchange": one.exchange}
            for one in found.mismatches
        ],
        "unchecked": {f"{symbol}:{interval}": reason for (symbol, interval), reason in found.unchecked.items()},
    }
    typer.echo(orjson.dumps(told))


def print_report(console: "Console", symbols: Sequence[str], span: "Span", built: "BuiltCandles", found: "CandleFindings") -> None:
    """A table of what differs, then lines."""
    _print_mismatches(console, found)
    for (symbol, interval), reason in list(found.unchecked.items())[:_SHOWN_MOST]:
        typer.echo(f"{symbol} {interval}: not all checked: {reason}")
    if len(found.unchecked) > _SHOWN_MOST:
        typer.echo(f"and {len(found.unchecked) - _SHOWN_MOST} further ones")
    typer.echo(f"{len(symbols)} symbols, candles that closed from {_shown(span[0])} to {_shown(span[1])} UTC")
    typer.echo(f"{built.incomplete} built ones are not complete, {built.unusable} records can't be used")
    checked = ", ".join(f"{number} of {interval}" for interval, number in found.checked.items())
    wrong = ", ".join(f"{field} {times}" for field, times in sorted(found.fields.items()))
    if checked:
        typer.echo(f"{checked} checked against the exchange's: {f'mismatches by field: {wrong}' if wrong else 'all equal'}")
    else:
        typer.echo("no built candle to check")


def _print_mismatches(console: "Console", found: "CandleFindings") -> None:
    from rich.table import Table

    if not found.mismatches:
        return
    console.width = max(console.width, _WIDTH_LEAST)
    table = Table("symbol", "interval", "opened (UTC)", "field", "built", "the exchange says")
    for one in found.mismatches[:_SHOWN_MOST]:
        table.add_row(one.symbol, one.interval, _shown(one.open_time_ms), one.field, one.built, one.exchange)
    console.print(table)
    left = found.fields.total() - _SHOWN_MOST
    if left > 0:
        typer.echo(f"and {left} further ones")


def _told(progress: "Progress") -> Callable[[int, int], None]:
    task = progress.add_task("reading the topic, candles", total=None)

    def told(done: int, total: int) -> None:
        if done % 1000 == 0 or done == total:
            progress.update(task, completed=done, total=total)

    return told


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
