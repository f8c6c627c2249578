"""`klinestream archive import`: the exchange's bulk files into the archive."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ArchiveError, ConfigError
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from klinestream.archive.bulk.importing import Outcome, Terms
    from klinestream.archive.bulk.store import Store, Told

_FILE_WIDTH = 160  # a pipe has no width of its own
_COLUMNS = ("file", "", "rows", "without trades", "missing")
_SHOWN_MOST = 20


@dataclass(frozen=True, slots=True)
class _Refused:
    path: Path
    reason: str


def bulk_import(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    paths: Annotated[list[Path] | None, typer.Argument(help="Files, or folders of them, named as the exchange names them.")] = None,
    without_checksum: Annotated[bool, typer.Option(help="Take files that have no CHECKSUM file beside them.")] = False,
    allow_holes: Annotated[bool, typer.Option(help="Take files that lack klines or trades: what is there, the rest is reported.")] = False,
    show: Annotated[bool, typer.Option("--list", help="Only show what was imported.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in place of the report.")] = False,
) -> None:
    """Take in the exchange's bulk files of klines, trades and aggTrades; goes on where it stopped; exit code 1 if any was refused."""
    from klinestream.archive.bulk.importing import Terms
    from klinestream.archive.bulk.store import Store

    config: Config = ctx.obj
    store = Store(config.archive.url)
    if show:
        _show(store, as_json=as_json)
        return
    chosen = _chosen(paths or [])
    with ExitStack() as stack:
        stack.callback(store.files.lock().release)
        store.files.sweep_aside()
        done, refused = _import_all(store, chosen, Terms(not without_checksum, allow_holes))
    (_print_json if as_json else _print_report)(done, refused)
    if refused:
        raise typer.Exit(1)


def series_table(store: "Store", *, check: bool) -> tuple[Any, list[str]]:
    """A table of what was imported (None if nothing was), and what is wrong with it."""
    from rich.table import Table

    from klinestream.archive.bulk.verify import missing_places, series

    table = Table("imported", "symbol", "from", "to", "files", "rows")
    faults = []
    for each in series(store, check=check):
        table.add_row(each.folder, each.symbol, each.first, each.last, f"{each.files:,}", f"{each.rows:,}")
        faults += each.faults
    faults += missing_places(store)
    return table if table.row_count else None, faults


def _chosen(paths: Sequence[Path]) -> list[Path]:
    """Files in the order in which they are taken: a symbol's own by time, so that each day knows the one before."""
    from klinestream.archive.bulk.names import BulkName

    if not paths:
        raise ConfigError("expected files or folders to import, got none: say where the zip files are, or --list")
    gone = [str(path) for path in paths if not path.exists()]
    if gone:
        raise ConfigError(f"expected files or folders that are there, got {', '.join(gone)}")
    found = [file for path in paths for file in (sorted(path.rglob("*.zip")) if path.is_dir() else [path])]
    if not found:
        raise ConfigError(f"expected zip files in {', '.join(map(str, paths))}, found none")

    def order(path: Path) -> tuple[Any, ...]:
        try:
            name = BulkName.of(path.name)
        except ArchiveError:
            return "", 0, 0, path.name
        return name.symbol, name.from_ms, name.to_ms, path.name

    return sorted(dict.fromkeys(found), key=order)


def _import_all(store: "Store", paths: Sequence[Path], terms: "Terms") -> "tuple[list[Outcome], list[_Refused]]":
    import time

    from klinestream.archive.bulk.importing import import_file

    done, refused = [], []
    with _progress(sum(path.stat().st_size for path in paths)) as (progress, task):
        before = 0
        for path in paths:
            size = path.stat().st_size
            progress.update(task, description=path.name)
            tell = partial(_tell, progress, task, before, size)
            try:
                done.append(import_file(store, path, terms, time.time_ns() // 1_000_000, tell))
            except ArchiveError as error:
                refused.append(_Refused(path, str(error)))
            before += size
            progress.update(task, completed=before)
    return done, refused


def _tell(progress: "Progress", task: Any, before: int, size: int, part: float) -> None:
    progress.update(task, completed=before + part * size)


@contextmanager
def _progress(total: int) -> "Iterator[tuple[Progress, Any]]":
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress, progress.add_task("", total=total)


def _print_report(done: "list[Outcome]", refused: list[_Refused]) -> None:
    from rich.table import Table

    table = Table(*_COLUMNS)
    for outcome in done:
        told = outcome.told
        table.add_row(told.file, "passed over" if outcome.passed_over else "imported", f"{told.rows:,}", f"{told.quiet:,}", _missing(told))
    for each in refused:
        table.add_row(each.path.name, "refused")
    _console().print(table)
    for outcome in done:
        _print_mismatches(outcome)
    for each in refused:
        typer.echo(f"{each.path}: {each.reason}", err=True)
    new = sum(not outcome.passed_over for outcome in done)
    typer.echo(f"{new} files imported, {len(done) - new} passed over, {len(refused)} refused")


def _print_mismatches(outcome: "Outcome") -> None:
    if outcome.told.mismatches:
        typer.echo(f"{outcome.told.file}: {outcome.told.mismatches:,} fields of klines and trades contradict each other, the klines stay:")
        for text in outcome.mismatches[:_SHOWN_MOST]:
            typer.echo(f"  {text}")


def _missing(told: "Told") -> str:
    before = f" and {told.unknown:,} before the first trade" if told.unknown else ""
    return f"{told.missing:,}{before}"


def _print_json(done: "list[Outcome]", refused: list[_Refused]) -> None:
    from dataclasses import asdict

    from rich import print_json

    files = [asdict(outcome.told) | {"state": "passed over" if outcome.passed_over else "imported"} for outcome in done]
    files += [{"file": each.path.name, "state": "refused", "reason": each.reason} for each in refused]
    print_json(data={"files": files})


def _show(store: "Store", *, as_json: bool) -> None:
    from rich import print_json

    if as_json:
        print_json(data={"files": store.all_told()})
        return
    table, faults = series_table(store, check=False)
    if table is None:
        typer.echo("nothing was imported")
    else:
        _console().print(table)
    for fault in faults:
        typer.echo(fault, err=True)


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console
