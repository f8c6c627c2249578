"""`klinestream gaps`: the gaps of the feeds, of seconds and of ids, and what became of them."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ConfigError
from klinestream.market.events import GapState, IdGapState
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of

if TYPE_CHECKING:
    from rich.table import Table

    from klinestream.market.events import FeedGap, IdGap
    from klinestream.market.id_ledger import Gap as IdStory
    from klinestream.market.ledger import Gap
    from klinestream.market.stories import Stories

_COLUMNS = ("symbol", "from", "to", "seconds", "state", "klines", "source", "proved", "producers", "reason", "when")
_ID_COLUMNS = ("feed", "symbol", "from id", "to id", "ids", "state", "obtained", "from", "to", "producers", "reason", "when")
_STATES = tuple(dict.fromkeys([*GapState, *IdGapState]))
_BREAKING = ("source", "producers", "reason")
_TERMINAL_WIDTH = 140  # a narrower terminal wraps the lines, which is easier to read than columns of two letters
_FILE_WIDTH = 240  # a pipe has no width of its own: a line a gap


def gaps(
    ctx: typer.Context,
    symbol: Annotated[str, typer.Option(help="Only gaps of this symbol.")] = "",
    state: Annotated[str, typer.Option(help=f"Only gaps in this state: {', '.join(_STATES)}.")] = "",
    since: Annotated[
        str, typer.Option(help="Only gaps that end after this: a time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago; s, m, h, d.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a gap.")] = False,
) -> None:
    """Show the gaps of the feeds, newest last: what was missing, who found it where, and what is still open (times are UTC).

    Of klines seconds are missing; of trades and order books ids are.
    """
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from klinestream.runtime.gap_ledger import read_id_ledger, read_ledger

    config: Config = ctx.obj
    log.setup(config.log)
    if state and state not in _STATES:
        raise ConfigError(f"--state: expected one of {', '.join(_STATES)}, got {state!r}")
    since_ms = time_of(since, time.time_ns() // 1_000_000) if since else 0
    ledger, ids = read_ledger(config.kafka), read_id_ledger(config.kafka)
    seconds = [gap for gap in ledger.gaps() if _is_meant(gap.record, symbol.upper(), state) and gap.record.to_ms > since_ms]
    seconds.sort(key=lambda gap: (gap.record.from_ms, gap.record.to_ms))
    missing = [gap for gap in ids.gaps() if _is_meant(gap.record, symbol.upper(), state) and gap.record.before_ms > since_ms]
    missing.sort(key=lambda gap: (gap.record.before_ms, gap.record.from_id))
    if as_json:
        _print_lines([*map(_object, seconds), *map(_id_object, missing)])
    else:
        _print_tables(seconds, missing)
    for read in (ledger, ids):
        _tell(read)


def _is_meant(record: "FeedGap | IdGap", symbol: str, state: str) -> bool:
    return symbol in {"", record.symbol} and state in {"", record.state}


def _print_lines(found: Sequence[dict[str, Any]]) -> None:
    import orjson

    for gap in found:
        typer.echo(orjson.dumps(gap))


def _object(gap: "Gap") -> dict[str, Any]:
    """The record that counts with its names on the wire; all producers in place of its own."""
    return _told(gap.record) | {"seconds": gap.record.seconds, "producers": gap.producers}


def _id_object(gap: "IdStory") -> dict[str, Any]:
    """The same of a gap of ids."""
    return _told(gap.record) | {"ids": gap.record.to_id - gap.record.from_id, "producers": gap.producers}


def _told(record: Any) -> dict[str, Any]:
    from klinestream.market.events import wire_fields

    return {name: getattr(record, field.name) for name, field in wire_fields(type(record)).items() if name != "producer"}


def _print_tables(seconds: Sequence["Gap"], missing: Sequence["IdStory"]) -> None:
    from rich.console import Console

    console = Console()
    console.width = max(console.width, _TERMINAL_WIDTH if console.is_terminal else _FILE_WIDTH)
    if seconds:
        console.print(_table(_COLUMNS, map(_cells, seconds)))
    typer.echo(_counted(seconds, "gap") or "no gaps")
    if missing:
        console.print(_table(_ID_COLUMNS, map(_id_cells, missing)))
        typer.echo(_counted(missing, "gap of ids", "gaps of ids"))


def _counted(found: "Sequence[Gap] | Sequence[IdStory]", one: str, many: str = "gaps") -> str:
    states = Counter(str(gap.record.state) for gap in found)
    counts = ", ".join(f"{states[state]} {state}" for state in _STATES if states[state])
    return f"{len(found)} {one if len(found) == 1 else many}: {counts}" if found else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        # Some break where there is no room, so that nothing is cut off.
        table.add_column(column, no_wrap=column not in _BREAKING, overflow="fold")
    for row in rows:
        # Text, since a reason with brackets is no markup.
        table.add_row(*(Text(_printable(cell)) for cell in row))
    return table


def _id_cells(gap: "IdStory") -> tuple[str, ...]:
    record = gap.record
    after_ms = record.before_ms if record.after_ms is None else record.after_ms
    return (
        record.feed,
        record.symbol,
        str(record.from_id),
        str(record.to_id),
        str(record.to_id - record.from_id),
        record.state,
        str(record.obtained),
        "" if record.after_ms is None else _shown(record.after_ms),
        _shown_after(after_ms, record.before_ms),
        ", ".join(gap.producers),
        record.reason,
        _shown_after(after_ms, record.time_ms),
    )


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


def _tell(ledger: "Stories[Any]") -> None:
    if ledger.unusable:
        typer.echo(f"{ledger.unusable} records of the topic could not be used: they are no gaps", err=True)
    if ledger.forgotten:
        typer.echo(f"{ledger.forgotten} gaps are not shown: they are more than are held, and the oldest filled ones go first", err=True)
