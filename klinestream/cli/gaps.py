"""`klinestream gaps`: the gaps of the feed, and what became of them."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ConfigError
from klinestream.market.events import GapState
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.table import Table

    from klinestream.market.ledger import Gap, Ledger

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RELATIVE = re.compile(r"(\d{1,9})([smhd])")
_COLUMNS = ("symbol", "from", "to", "seconds", "state", "klines", "source", "proved", "producers", "reason", "when")
_BREAKING = ("source", "producers", "reason")
_TERMINAL_WIDTH = 140  # a narrower terminal wraps the lines, which is easier to read than columns of two letters
_FILE_WIDTH = 240  # a pipe has no width of its own: a line a gap


def gaps(
    ctx: typer.Context,
    symbol: Annotated[str, typer.Option(help="Only gaps of this symbol.")] = "",
    state: Annotated[GapState | None, typer.Option(help="Only gaps in this state.")] = None,
    since: Annotated[
        str, typer.Option(help="Only gaps that end after this: a time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago; s, m, h, d.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a gap.")] = False,
) -> None:
    """Show the gaps of the feed, newest last: what was missing, who found it where, and what is still open (times are UTC)."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from klinestream.runtime.gap_ledger import read_ledger

    config: Config = ctx.obj
    log.setup(config.log)
    since_ms = time_of(since, time.time_ns() // 1_000_000) if since else 0
    ledger = read_ledger(config.kafka)
    found = sorted(_chosen(ledger.gaps(), symbol.upper(), state, since_ms), key=lambda gap: (gap.record.from_ms, gap.record.to_ms))
    if as_json:
        _print_lines(found)
    else:
        _print_table(found)
    _tell(ledger)


def time_of(text: str, now_ms: int) -> int:
    """A time in ms: ISO 8601, in UTC if it names no zone, or so long before now. Raises ConfigError.

    >>> time_of("2h", 7_200_000), time_of("1970-01-01T00:00:01", 0), time_of("1970-01-01T01:00+01:00", 0)
    (0, 1000, 0)
    """
    if relative := _RELATIVE.fullmatch(text):
        return now_ms - int(relative[1]) * _UNITS_S[relative[2]] * 1000
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since: expected a time such as 2026-11-21T09:30, or a span such as 90s, 15m, 2h or 7d, got {text!r}"
        ) from None
    return round((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp() * 1000)


def _chosen(known: Sequence["Gap"], symbol: str, state: GapState | None, since_ms: int) -> list["Gap"]:
    return [gap for gap in known if symbol in ("", gap.record.symbol) and state in (None, gap.record.state) and gap.record.to_ms > since_ms]


def _print_lines(found: Sequence["Gap"]) -> None:
    import orjson

    for gap in found:
        typer.echo(orjson.dumps(_object(gap)))


def _object(gap: "Gap") -> dict[str, Any]:
    """The record that counts with its names on the wire; all producers in place of its own."""
    from klinestream.market.events import wire_fields

    record = gap.record
    told = {name: getattr(record, field.name) for name, field in wire_fields(type(record)).items() if name != "producer"}
    return told | {"seconds": record.seconds, "producers": gap.producers}


def _print_table(found: Sequence["Gap"]) -> None:
    from rich.console import Console

    console = Console()
    console.width = max(console.width, _TERMINAL_WIDTH if console.is_terminal else _FILE_WIDTH)
    if found:
        console.print(_table(found))
    states = Counter(gap.record.state for gap in found)
    counts = ", ".join(f"{states[state]} {state}" for state in GapState if states[state])
    typer.echo(f"{len(found)} gap{'s' * (len(found) != 1)}: {counts}" if found else "no gaps")


def _table(found: Sequence["Gap"]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in _COLUMNS:
        # Some break where there is no room, so that nothing is cut off.
        table.add_column(column, no_wrap=column not in _BREAKING, overflow="fold")
    for gap in found:
        # Text, since a reason with brackets is no markup.
        table.add_row(*(Text(_printable(cell)) for cell in _cells(gap)))
    return table


def _cells(gap: "Gap") -> tuple[str, ...]:
    record = gap.record
    return (
        record.symbol,
        _shown(record.from_ms),
        _shown_after(record.from_ms, record.to_ms),
        str(record.seconds),
        record.state,
        str(record.klines),
        record.source,
        "yes" if record.proved else "no",
        ", ".join(gap.producers),
        record.reason,
        _shown_after(record.from_ms, record.time_ms),
    )


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _shown_after(before_ms: int, time_ms: int) -> str:
    """A time that stands beside another: without the date if that is the same."""
    before, shown = _shown(before_ms), _shown(time_ms)
    date = len("2026-11-21 ")
    return shown[date:] if shown[:date] == before[:date] else shown


def _printable(text: str) -> str:
    """What others wrote must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _tell(ledger: "Ledger") -> None:
    if ledger.unusable:
        typer.echo(f"{ledger.unusable} records of the topic could not be used: they are no gaps", err=True)
    if ledger.forgotten:
        typer.echo(f"{ledger.forgotten} gaps are not shown: they are more than are held, and the oldest filled ones go first", err=True)
