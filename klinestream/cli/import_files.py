"""`klinestream import`: CSV and Parquet files of klines or trades, whoever wrote them, into topics or the archive."""

import glob
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from klinestream.market.errors import ConfigError
from klinestream.market.events import BINANCE, KLINE_INTERVAL, SECOND_MS
from klinestream.market.intervals import INTERVALS
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.files.importing import Import, Progress
    from klinestream.files.targets import Form, Target
    from klinestream.runtime.sections import KafkaConfig

_KINDS = ("klines", "trades")
_TARGETS = ("topics", "archive")
_HOLES_SHOWN_MOST = 10
_FOLDER = Path(".klinestream/imports")


def import_files(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    paths: Annotated[list[str], typer.Argument(help="Files, or patterns of them: .csv, also .gz, .zst or .zip, and .parquet.")],
    source: Annotated[str, typer.Option(help="Whose they are: NAME in NAME:SYMBOL, and `source` on each record.")],
    kind: Annotated[str, typer.Option(help="klines or trades.")] = "klines",
    interval: Annotated[str, typer.Option(help="Of klines: 1s, or a candle's: 1m, 5m, 15m, 30m, 1h, 4h, 1d.")] = KLINE_INTERVAL,
    to: Annotated[str, typer.Option(help="topics or archive.")] = "archive",
    symbol: Annotated[str, typer.Option(help="The symbol of all rows, where files have no such column.")] = "",
    columns: Annotated[str, typer.Option(help="The files' columns in order, by field, - to pass one over: time,open,high,…")] = "",
    prefix: Annotated[str, typer.Option(help="Put before the name of each topic, such as `import.`.")] = "",
    as_binance: Annotated[bool, typer.Option(help="Rows are Binance's own: symbols without a name before them.")] = False,
    zero_missing: Annotated[bool, typer.Option(help="Write 0 for quote volume, trades and takers' volumes that files lack.")] = False,
    fill_quiet: Annotated[bool, typer.Option(help="Make quiet klines where up to an hour of seconds are missing.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only report.")] = False,
    report: Annotated[Path | None, typer.Option(help="Folder of the report and of what a killed import goes on from.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the tables.")] = False,
) -> None:
    """Import files of klines or trades; goes on where it stopped. What is rejected stands in a CSV, row by row, with the reason."""
    from klinestream.files.cleaning import Terms
    from klinestream.files.importing import Import, Plan
    from klinestream.files.names import said_columns
    from klinestream.files.reading import Wanted
    from klinestream.files.targets import Form, identity_of

    config: Config = ctx.obj
    _check(source, kind, interval, to, prefix, as_binance=as_binance)
    kafka, files = _connection(config, prefix), _chosen(paths)
    length_ms = SECOND_MS if interval == KLINE_INTERVAL or kind == "trades" else INTERVALS[interval]
    form = Form(kind, KLINE_INTERVAL if kind == "trades" else interval, length_ms, BINANCE if as_binance else source)
    said = [kind, interval, source, to, symbol, columns, prefix, as_binance, zero_missing, fill_quiet, dry_run]
    stats = [path.stat() for path in files]
    identity = identity_of([*said, [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=True)]])
    folder = (report or _FOLDER) / f"{source}-{identity}"
    if dry_run:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = Wanted(kind, said_columns(columns, kind) if columns else (), zero_missing)
    terms = Terms(kind, length_ms, symbol, "" if as_binance else source.upper(), time.time_ns() // 1_000_000)
    with closing(Import(Plan(tuple(files), wanted, terms, form, folder, fill_quiet))) as job:
        if job.finished:
            typer.echo(f"all of these were imported before; what was found then (to import again, remove {folder}):", err=True)
        else:
            opened = partial(_target, config, kafka, form, to, identity, is_live=not prefix, is_new=not job.has_written)
            _run(job, opened if not dry_run else lambda: None)
        _tell(job, as_json=as_json, dry_run=dry_run)


def _check(source: str, kind: str, interval: str, to: str, prefix: str, *, as_binance: bool) -> None:
    from klinestream.market.codec import is_source

    if kind not in _KINDS:
        raise ConfigError(f"--kind: expected klines or trades, got {kind!r}")
    if to not in _TARGETS:
        raise ConfigError(f"--to: expected topics or archive, got {to!r}")
    if interval not in (KLINE_INTERVAL, *INTERVALS):
        raise ConfigError(f"--interval: expected one of {KLINE_INTERVAL}, {', '.join(INTERVALS)}, got {interval!r}")
    if not is_source(source):
        raise ConfigError(f"--source: expected up to 50 lower case letters, digits or _ - ., got {source!r}")
    if source == BINANCE and not as_binance:
        raise ConfigError("--source binance: rows that stand among the exchange's own symbols need --as-binance; else choose another name")
    if as_binance and to == "topics" and not prefix:
        raise ConfigError("--as-binance: the live topics of Binance's symbols are the producer's; give a --prefix, or take --to archive")


def _chosen(paths: Sequence[str]) -> list[Path]:
    found = {text: [text] if Path(text).exists() else sorted(glob.glob(text, recursive=True)) for text in paths}
    if folders := [text for text in paths if Path(text).is_dir()]:
        raise ConfigError(f"expected files, or patterns of them, got the folder {folders[0]}: give a pattern such as '{folders[0]}/*.csv'")
    files = {text: [Path(each) for each in places if Path(each).is_file()] for text, places in found.items()}
    if gone := [text for text, places in files.items() if not places]:
        raise ConfigError(f"expected files that are there, or patterns of such, got {', '.join(gone)}")
    return list(dict.fromkeys(path for places in files.values() for path in places))


def _run(job: "Import", opened: "Callable[[], Target | None]") -> None:
    with _progress() as progress, ExitStack() as stack:
        job.read(progress)
        target = opened()
        if target is not None:
            stack.enter_context(closing(target))
        job.write(target, progress)
        job.finish()


def _connection(config: Config, prefix: str) -> "KafkaConfig":
    """To the topics of the import: those of the prefix, or else those that the configuration names."""
    if not prefix:
        return config.kafka
    try:
        return type(config.kafka).model_validate(config.kafka.model_dump() | {"topic_prefix": prefix})
    except ValidationError:
        raise ConfigError(f"--prefix: expected up to 50 letters, digits or . _ -, got {prefix!r}") from None


def _target(config: Config, kafka: "KafkaConfig", form: "Form", to: str, identity: str, *, is_live: bool, is_new: bool) -> "Target":
    from klinestream.files.targets import Archive, Topics

    if to == "archive":
        return Archive(config.archive.url, form, identity)
    return Topics(kafka, form, is_new=is_new, is_live=is_live)


@contextmanager
def _progress() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, part: bar.update(task, description=what, completed=part)


def _tell(job: "Import", *, as_json: bool, dry_run: bool) -> None:
    from rich import print_json
    from rich.console import Console
    from rich.table import Table

    counts, place = job.counts, job.rejected
    if as_json:
        print_json(data=counts.told() | {"report": str(place) if place else None, "dry_run": dry_run})
        return
    table = Table("rows", "", title="only looked at: nothing was written" if dry_run else None)
    lines: list[tuple[str, Any]] = [("read", counts.read), ("accepted", counts.accepted), ("  of them proved by ids", counts.proved)]
    lines += [
        ("  of them there already", counts.there),
        ("  of them with ids that go back", counts.backwards),
        ("  of them filled in as quiet", counts.filled),
        ("repeated", counts.repeated),
    ]
    lines += [(f"rejected: {reason}", count) for reason, count in counts.rejected.most_common()]
    lines += [("came after a later one", counts.unordered), *((f"times in {unit}", count) for unit, count in counts.units.items())]
    lines += [("holes", counts.holes), ("klines missing in them", counts.missing)]
    for what, count in lines:
        if count or what in ("read", "accepted"):
            table.add_row(what, f"{count:,}")
    Console().print(table)
    if counts.first_ms is not None and counts.last_ms is not None:
        typer.echo(f"from {_shown(counts.first_ms)} to {_shown(counts.last_ms)}")
    for symbol, from_ms, to_ms in counts.first_holes[:_HOLES_SHOWN_MOST]:
        typer.echo(f"hole: {symbol} {_shown(from_ms)} to {_shown(to_ms)}")
    if place is not None:
        typer.echo(f"rejected rows: {place}")


def _shown(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
