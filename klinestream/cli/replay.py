"""`klinestream replay`: what was archived, again: into topics, or into features."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from klinestream.cli.replay_graph import graph
from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of

app = typer.Typer(help="What was archived, again.", no_args_is_help=True)

app.command()(graph)

_FLUSH_S = 60.0
_CLIENT_ID = "klinestream-replay"


@app.callback()
def replay() -> None:
    """What was archived, again."""


@app.command()
def topics(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    into: Annotated[str, typer.Option(metavar="PREFIX", help="Put before the name of each topic, such as `replay.`.")],
    from_: Annotated[str, typer.Option("--from", help="A time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago.")],
    to: Annotated[str, typer.Option(help="The same; now by default.")] = "0s",
    speed: Annotated[str, typer.Option(help="1 as fast as it was, 60 a minute a second, max as fast as the broker takes it.")] = "max",
    names: Annotated[
        list[str] | None,
        typer.Option("--topic", help="Topics; by default what the jobs read: klines and candles of history."),
    ] = None,
) -> None:
    """Put archived records back on Kafka, with their keys and times, under topics of their own, for the jobs to run over."""
    from rich.console import Console

    from klinestream.archive.files import Files
    from klinestream.market.topics import CANDLE_HISTORY, KLINES
    from klinestream.replay.topics import Chosen, make_topics, publish, records, spans, topic_of
    from klinestream.runtime import log
    from klinestream.runtime.kafka import open_publisher

    config: Config = ctx.obj
    log.setup(config.log)
    if not into:
        raise ConfigError("--into: expected a prefix such as `replay.`, got none: what is replayed must not go where the live feed goes")
    now_ms = time.time_ns() // 1_000_000
    chosen = Chosen(
        tuple(topic_of(name).name for name in names or (KLINES.name, CANDLE_HISTORY.name)), time_of(from_, now_ms), time_of(to, now_ms)
    )
    times = _speed(speed)
    kafka = type(config.kafka).model_validate(config.kafka.model_dump() | {"topic_prefix": into})
    files = Files(config.archive.url)
    found = spans(files, chosen)
    make_topics(kafka, chosen)
    publisher = open_publisher(kafka, _CLIENT_ID)
    with Console(stderr=True).status("replaying") as status:
        count = publish(publisher, records(files, chosen, found), times, lambda so_far: status.update(f"{so_far:,} records"))
        publisher.close(_FLUSH_S)
    typer.echo(
        f"{count:,} records put on topics with the prefix {into}; run the jobs over them with KLINESTREAM_KAFKA__TOPIC_PREFIX={into}"
    )


@app.command()
def features(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    from_: Annotated[str, typer.Option("--from", help="A time such as 2026-11-21T09:30 (UTC), or 2h for two hours ago.")],
    to: Annotated[str, typer.Option(help="The same.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; one that holds the same features in part is finished.")],
    symbols: Annotated[str, typer.Option(help="Symbols or patterns such as `*USDT`, with commas between.")] = "*",
    set_: Annotated[str, typer.Option("--set", help="Which features; there is `basic`.")] = "basic",
    as_of: Annotated[str, typer.Option(help="live: what was known then; final: the highest revisions.")] = "live",
    jobs: Annotated[int | None, typer.Option(help="Processes; by default one for each core.")] = None,
) -> None:
    """Compute windows, candles and indicators from archived klines, with the live engine's arithmetic, into Parquet files."""
    from klinestream.archive.files import Files
    from klinestream.market.selection import matches
    from klinestream.replay.features.run import Request, jobs_of
    from klinestream.replay.features.run import features as compute
    from klinestream.replay.klines import KlineArchive
    from klinestream.replay.repairs.window_topics import settings_of
    from klinestream.runtime.studies import candle_settings

    config: Config = ctx.obj
    now_ms, processes = time.time_ns() // 1_000_000, jobs_of(jobs)
    from_ms, to_ms = (time_of(text, now_ms) // 1000 * 1000 for text in (from_, to))
    names = [name.strip().upper() for name in symbols.split(",") if name.strip()]
    there = KlineArchive(Files(config.archive.url)).symbols(from_ms, to_ms) if from_ms < to_ms else []
    wanted = tuple(symbol for symbol in there if any(matches(name, symbol) for name in names))
    settings = settings_of(config.windows), replace(candle_settings(config), provisional=False)
    request = Request(config.archive.url, str(out), wanted, from_ms, to_ms, as_of, set_, *settings)
    with _progress("computing features") as told:
        manifest = compute(request, processes, told)
    rows = {table: sum(each["rows"] for each in manifest["files"] if each["file"].startswith(table)) for table in ("windows", "candles")}
    typer.echo(f"{rows['windows']:,} seconds and {rows['candles']:,} candles of {len(wanted):,} symbols in {out}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, and a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1e6:
        raise ConfigError(f"--speed: expected a number above 0 such as 1 or 60, or max, got {text!r}")
    return found
