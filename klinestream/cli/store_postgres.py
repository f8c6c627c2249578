"""`klinestream store postgres`: topics into tables of PostgreSQL, its schema, and the proof that tables hold what topics hold."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.market.tables import Table
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(help="Topics as tables of PostgreSQL; without a further command: store until Ctrl-C, going on where it stopped.")

_FILE_WIDTH = 160  # a pipe has no width of its own
_MIB = 1 << 20


@app.callback(invoke_without_command=True)
def postgres(
    ctx: typer.Context,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Read all topics again from their first record; what is stored stays as it is.")
    ] = False,
) -> None:
    """Store windows, candles, indicators, signals, aggregates and gaps in PostgreSQL, each row once; goes on where it stopped."""
    _require_driver()
    if ctx.invoked_subcommand is not None:
        if from_beginning:
            raise ConfigError("--from-beginning goes with the sink itself: `klinestream store postgres --from-beginning`")
        return
    from klinestream.runtime import log
    from klinestream.stores.postgres.sink import run

    config: Config = ctx.obj
    log.setup(config.log)
    run(config, from_beginning)


@app.command()
def migrate(ctx: typer.Context) -> None:
    """Bring the schema up to date, and make it if there is none; any number of times."""
    from klinestream.stores.postgres import migrating
    from klinestream.stores.postgres.connecting import asking, connect

    config: Config = ctx.obj
    with closing(connect(config)) as connection, asking("migrate"):
        done = migrating.migrate(connection, config.postgres.namespace)
    typer.echo("\n".join(f"applied {script.name}" for script in done) or "the schema is up to date")


@app.command()
def status(ctx: typer.Context) -> None:
    """Show the schema's version, the tables with their sizes and partitions, and how far each topic is stored."""
    from rich.table import Table as Shown

    from klinestream.stores.postgres import migrating
    from klinestream.stores.postgres.connecting import asking, connect
    from klinestream.stores.postgres.status import positions, sizes

    config: Config = ctx.obj
    shown = Shown("table", "rows, about", "MiB", "partitions", "first", "last")
    places = Shown("topic", "partition", "stored up to offset", "at")
    with closing(connect(config)) as connection, asking("status"):
        migrating.require_current(connection, config.postgres.namespace)
        version = max(migrating.applied(connection))
        for size in sizes(connection, config.postgres.chosen):
            shown.add_row(size.table, f"{size.rows:,}", f"{size.bytes / _MIB:,.1f}", str(len(size.partitions)), *size.ends)
        for place in positions(connection):
            places.add_row(place.topic, str(place.partition), f"{place.next_offset:,}", f"{place.stored:%Y-%m-%d %H:%M:%S}")
    console = _console()
    console.print(f"schema {config.postgres.namespace}, version {version}")
    console.print(shown)
    console.print(places)


@app.command()
def verify(
    ctx: typer.Context,
    tables: Annotated[list[str] | None, typer.Option("--table", help="Only this table; may be repeated.")] = None,
) -> None:
    """Compare tables with what the topics hold, row by row, up to where they are stored; exit code 1 if anything is missing or differs."""
    import time

    from rich.table import Table as Shown

    from klinestream.runtime.kafka import open_reader
    from klinestream.runtime.topic_admin import TopicAdmin
    from klinestream.stores.postgres import migrating
    from klinestream.stores.postgres.connecting import asking, connect
    from klinestream.stores.postgres.rows import Shape
    from klinestream.stores.postgres.verify import CLIENT_ID, compared

    config: Config = ctx.obj
    shown = Shown("table", "records", "rows due", "equal", "missing", "different", "newer", "beyond", "unusable")
    console, wrong = _console(), False
    with (
        closing(open_reader(config.kafka, CLIENT_ID)) as reader,
        closing(TopicAdmin(config.kafka)) as admin,
        closing(connect(config)) as connection,
        console.status("reading") as going,
        asking("verify"),
    ):
        migrating.require_current(connection, config.postgres.namespace)
        for table in _chosen(config, tables):
            going.update(table.name)
            found = compared(connection, reader, admin, Shape(table, config.postgres.kept_days(table)), time.time_ns() // 1_000_000)
            counts = (found.records, found.due, found.equal, found.missing, found.different, found.newer, found.further, found.unusable)
            shown.add_row(table.name, *(f"{count:,}" for count in counts))
            wrong |= bool(found.missing or found.different)
    console.print(shown)
    if wrong:
        typer.echo("rows are missing or differ: `klinestream store postgres --from-beginning` stores again what the topics hold", err=True)
        raise typer.Exit(1)
    typer.echo("the tables hold what the topics hold")


def _chosen(config: Config, names: list[str] | None) -> list[Table]:
    known = {table.name: table for table in config.postgres.chosen}
    if unknown := sorted(set(names or ()) - known.keys()):
        raise ConfigError(f"expected tables of {', '.join(known)}, got {', '.join(unknown)}")
    return [known[name] for name in names or known]


def _console() -> "Console":
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    return console


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401  # only whether it is there
    except ImportError:
        raise ConfigError("expected the driver psycopg, it is not installed: run `pip install 'klinestream[postgres]'`") from None
