"""`klinestream repair`: windows published again after klines that came late, and what corrected candles led to."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of

if TYPE_CHECKING:
    from rich.table import Table

    from klinestream.replay.repairs.candle_topics import CandleOutcome
    from klinestream.replay.repairs.index import Cluster
    from klinestream.replay.repairs.window_topics import Outcome
    from klinestream.runtime.kafka import Reader, Record

Publish = Callable[["Record"], None]

_COLUMNS = ("symbol", "from", "to", "filled", "corrected", "since", "windows", "revision", "state")
_CANDLE_COLUMNS = (
    "symbol",
    "interval",
    "from",
    "to",
    "corrected",
    "since",
    "indicators",
    "aggregates",
    "signals",
    "withdrawn",
    "revision",
    "state",
)
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
    """Publish again, with a higher revision, what late klines and corrected candles touch; once again changes nothing (times are UTC)."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    if follow:
        if symbol or since or dry_run:
            raise ConfigError("--follow goes with no other option, since it repairs whatever comes: leave out the others, or --follow")
        from klinestream.replay.repairs.window_follow import follow as run

        run(config)
        return
    since_ms = time_of(since, time.time_ns() // 1_000_000) if since else 0
    chosen = _Chosen(symbol.upper(), since_ms)
    with _topics(config, dry_run) as (reader, publish, flush):
        _show(list(_windows(config, chosen, reader, publish, flush)), dry_run)
        _show_candles(list(_candles(config, chosen, reader, publish, flush)), dry_run)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which repairs are wanted."""

    symbol: str
    since_ms: int

    def of(self, clusters: Iterable["Cluster"]) -> list["Cluster"]:
        return [one for one in clusters if self.symbol in ("", one.symbol) and one.last_ms >= self.since_ms]


@contextmanager
def _topics(config: Config, dry_run: bool) -> Iterator[tuple["Reader", Publish, Callable[[], None]]]:
    """What reads, what publishes, and what waits until that has arrived; a dry run publishes nothing."""
    from klinestream.replay.repairs.loop import CLIENT_ID
    from klinestream.runtime.kafka import open_publisher, open_reader

    with ExitStack() as stack:
        reader = stack.enter_context(closing(open_reader(config.kafka, CLIENT_ID)))
        if dry_run:
            yield reader, lambda _record: None, lambda: None
            return
        publisher = open_publisher(config.kafka, CLIENT_ID)
        stack.callback(publisher.close, _FLUSH_S)
        yield reader, publisher.publish, lambda: publisher.flush(_FLUSH_S)


def _windows(config: Config, chosen: _Chosen, reader: "Reader", publish: Publish, flush: Callable[[], None]) -> Iterator["Outcome"]:
    """Repair all that the topics hold now."""
    from klinestream.replay.repairs.window_topics import TopicRepair, settings_of

    topics = TopicRepair(reader, settings_of(config.windows), publish, _now_ms)
    for outcomes in topics.repair(chosen.of(topics.index().clusters()), {}):
        flush()
        yield from outcomes


def _candles(config: Config, chosen: _Chosen, reader: "Reader", publish: Publish, flush: Callable[[], None]) -> Iterator["CandleOutcome"]:
    """The same of candles."""
    from klinestream.replay.repairs.candle_topics import CandleTopicRepair
    from klinestream.runtime.studies import candle_settings

    topics = CandleTopicRepair(reader, candle_settings(config), publish, _now_ms)
    for interval, index in topics.index().of.items():
        for outcomes in topics.repair(interval, chosen.of(index.clusters()), {}):
            flush()
            yield from outcomes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _show(outcomes: Sequence["Outcome"], dry_run: bool) -> None:
    repaired = [one for outcome in outcomes for one in outcome.repaired]
    if repaired:
        _print(_table(outcomes))
    seconds, windows = sum(one.filled + one.corrected for one in repaired), sum(one.windows for one in repaired)
    did = "would be published again" if dry_run else "published again"
    typer.echo(f"{seconds} seconds repaired, {windows} windows {did}" if repaired else "nothing to repair")
    gone = sum(not outcome.held for outcome in outcomes)
    if gone:
        typer.echo(f"{gone} repairs are too old: the feed around them is not held any more", err=True)
    if not all(outcome.complete for outcome in outcomes):
        typer.echo("some wait for klines that are not in the feed yet: run this again later for the rest", err=True)


def _show_candles(outcomes: Sequence["CandleOutcome"], dry_run: bool) -> None:
    corrected = [one for one in outcomes if one.corrected]
    if corrected:
        _print(_candle_table(corrected))
        candles, records = sum(one.corrected for one in corrected), sum(one.published.all for one in corrected)
        typer.echo(f"{candles} candles corrected, {records} records {'would be published again' if dry_run else 'published again'}")
    gone = sum(not one.held for one in outcomes)
    if gone:
        typer.echo(f"{gone} corrections are too old: the candles around them are not held any more", err=True)
    if not all(one.complete for one in outcomes):
        typer.echo("some wait for candles that the job has not published yet: run this again later for the rest", err=True)


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(table)


def _candle_table(outcomes: Sequence["CandleOutcome"]) -> "Table":
    from rich.table import Table

    table = Table(*_CANDLE_COLUMNS)
    for one in outcomes:
        said = one.published
        times = (_shown(one.cluster.first_ms), _shown(one.cluster.last_ms))
        counts = map(str, (said.indicators, said.aggregates, said.fired, said.withdrawn, one.revision))
        state = "complete" if one.complete else "waits for the job"
        table.add_row(one.cluster.symbol, one.interval, *times, str(one.corrected), _shown(one.since_ms), *counts, state)
    return table


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
