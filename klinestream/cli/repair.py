"""`klinestream repair`: windows published again after klines that came late."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.cli.gaps import time_of
from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.table import Table

    from klinestream.replay.repair_topics import Outcome
    from klinestream.runtime.kafka import Record

_COLUMNS = ("symbol", "from", "to", "filled", "corrected", "since", "windows", "revision", "state")
_FLUSH_S = 60.0
_FILE_WIDTH = 160  # a pipe has no width of its own


def repair(
    ctx: typer.Context,
    symbol: Annotated[str, typer.Option(help="Only repairs of this symbol.")] = "",
    since: Annotated[
        str, typer.Option(help="Only repairs after this: a time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago; s, m, h, d.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and repair whatever comes, until Ctrl-C.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be published.")] = False,
) -> None:
    """Publish the windows again that late klines touch, with a higher revision; once again changes nothing (times are UTC)."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    if follow:
        if symbol or since or dry_run:
            raise ConfigError("--follow goes with no other option, since it repairs whatever comes: leave out the others, or --follow")
        from klinestream.replay.repair_follow import follow as run

        run(config)
        return
    since_ms = time_of(since, time.time_ns() // 1_000_000) if since else 0
    _show(list(_once(config, symbol.upper(), since_ms, dry_run)), dry_run)


def _once(config: Config, symbol: str, since_ms: int, dry_run: bool) -> Iterator["Outcome"]:
    """Repair all that the topics hold now."""
    from contextlib import ExitStack, closing

    from klinestream.replay.repair_follow import CLIENT_ID
    from klinestream.replay.repair_topics import TopicRepair, settings_of
    from klinestream.runtime.kafka import open_publisher, open_reader

    with ExitStack() as stack:
        reader = stack.enter_context(closing(open_reader(config.kafka, CLIENT_ID)))
        publisher = None if dry_run else open_publisher(config.kafka, CLIENT_ID)
        if publisher is not None:
            stack.callback(publisher.close, _FLUSH_S)
        publish = _into_nothing if publisher is None else publisher.publish
        topics = TopicRepair(reader, settings_of(config.windows), publish, lambda: time.time_ns() // 1_000_000)
        chosen = [one for one in topics.index().clusters() if symbol in ("", one.symbol) and one.last_ms >= since_ms]
        for outcomes in topics.repair(chosen, {}):
            if publisher is not None:
                publisher.flush(_FLUSH_S)
            yield from outcomes


def _into_nothing(record: "Record") -> None:
    """What a dry run publishes."""


def _show(outcomes: Sequence["Outcome"], dry_run: bool) -> None:
    from rich.console import Console

    repaired = [one for outcome in outcomes for one in outcome.repaired]
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    if repaired:
        console.print(_table(outcomes))
    seconds, windows = sum(one.filled + one.corrected for one in repaired), sum(one.windows for one in repaired)
    did = "would be published again" if dry_run else "published again"
    typer.echo(f"{seconds} seconds repaired, {windows} windows {did}" if repaired else "nothing to repair")
    gone = sum(not outcome.held for outcome in outcomes)
    if gone:
        typer.echo(f"{gone} repairs are too old: the feed around them is not held any more", err=True)
    if not all(outcome.complete for outcome in outcomes):
        typer.echo("some wait for klines that are not in the feed yet: run this again later for the rest", err=True)


def _table(outcomes: Sequence["Outcome"]) -> "Table":
    from rich.table import Table

    table = Table(*_COLUMNS)
    for outcome in outcomes:
        for one in outcome.repaired:
            times = (_shown(one.from_ms), _shown(one.to_ms))
            counts = (str(one.filled), str(one.corrected))
            state = "complete" if one.complete else "waits for the feed"
            table.add_row(one.symbol, *times, *counts, _shown(one.since_ms), str(one.windows), str(one.revision), state)
    return table


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
