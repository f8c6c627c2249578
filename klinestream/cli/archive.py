"""`klinestream archive`: topics as Parquet files, and the proof that none of them lacks anything."""

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.cli.archive_import import bulk_import, series_table
from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.archive.verify import Checked
    from klinestream.runtime.kafka import Reader

app = typer.Typer(help="Topics as Parquet files; without a further command: archive until Ctrl-C, going on where it stopped.")

app.command("import")(bulk_import)

Topics = Annotated[list[str] | None, typer.Option("--topic", help="Only this topic; may be repeated.")]
_COLUMNS = ("topic", "partition", "offsets", "files", "records", "MiB", "compared", "")
_FILE_WIDTH = 160  # a pipe has no width of its own
_MIB = 1 << 20


@app.callback(invoke_without_command=True)
def archive(ctx: typer.Context) -> None:
    """Write every topic to Parquet files below archive.url, each record once, until Ctrl-C; goes on where it stopped."""
    if ctx.invoked_subcommand is not None:
        return
    # `klinestream --help` must not wait for Kafka's client and for Arrow to load.
    from klinestream.archive.keeper import run
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    run(config)


@app.command()
def verify(
    ctx: typer.Context,
    topics: Topics = None,
    against: Annotated[bool, typer.Option("--against-kafka", help="Compare with what the topics still hold, too.")] = False,
) -> None:
    """Prove that no offset is missing and that files hold what was written, imported ones too; exit code 1 if anything is wrong."""
    from rich.console import Console
    from rich.table import Table

    from klinestream.archive.bulk.store import Store
    from klinestream.archive.files import Files
    from klinestream.archive.verify import verify as check
    from klinestream.archive.verify import verify_manifests

    config: Config = ctx.obj
    files = Files(config.archive.url)
    chosen = _chosen(topics, files.topics())
    table, faults = Table(*_COLUMNS), []
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    with ExitStack() as stack, console.status("reading") as status:
        for found in check(files, chosen, _reader(config, stack) if against else None):
            status.update(f"{found.topic} {found.partition}")
            table.add_row(*_row(found))
            faults += [f"{found.topic}, partition {found.partition}: {fault}" for fault in found.faults]
    for topic in chosen:
        faults += verify_manifests(files, topic)
    imported, wrong = (None, list[str]()) if topics else series_table(Store(config.archive.url), check=True)
    faults += wrong
    if not table.row_count and imported is None:
        raise ConfigError(f"expected an archive at {config.archive.url}, found no files: check archive.url, or run `klinestream archive`")
    for each in (table if table.row_count else None, imported):
        if each is not None:
            console.print(each)
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo("nothing is missing, and all files hold what was written")


@app.command()
def compact(ctx: typer.Context, topics: Topics = None) -> None:
    """Make larger files of small ones, of each day by itself, and all manifests anew; not while `klinestream archive` runs."""
    from klinestream.archive.compaction import Small
    from klinestream.archive.compaction import compact as join
    from klinestream.archive.files import Files
    from klinestream.archive.manifest import Manifests

    config: Config = ctx.obj
    files = Files(config.archive.url)
    with ExitStack() as stack:
        stack.callback(files.lock().release)
        made = len(list(files.sweep()))
        small = Small(config.archive.compacted_mib * _MIB, 2)
        for topic in _chosen(topics, files.topics()):
            for date in files.dates(topic):
                made += sum(1 for _ in join(files, topic, date, small, date))
                Manifests(files).write(topic, date)
    typer.echo(f"{made} files made" if made else "no files were small")


def _chosen(wanted: list[str] | None, there: list[str]) -> list[str]:
    unknown = sorted(set(wanted or ()) - set(there))
    if unknown:
        raise ConfigError(f"expected topics that the archive has ({', '.join(there) or 'none'}), got {', '.join(unknown)}")
    return wanted or there


def _reader(config: Config, stack: ExitStack) -> "Reader":
    from klinestream.archive.keeper import CLIENT_ID
    from klinestream.runtime.kafka import open_reader

    return stack.enter_context(closing(open_reader(config.kafka, CLIENT_ID)))


def _row(found: "Checked") -> tuple[str, ...]:
    gone = f"{found.without_records} without a record" if found.without_records else ""
    compared = "" if found.compared is None else f"{found.compared:,}"
    counts = (f"{found.files:,}", f"{found.rows:,}", f"{found.bytes / _MIB:,.1f}", compared)
    return found.topic, str(found.partition), f"{found.first:,} to {found.end - 1:,}", *counts, gone
