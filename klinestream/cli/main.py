"""The command `klinestream`: the root of all its commands, and the one place where an error becomes a line and an exit code."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from klinestream import __version__
from klinestream.cli import (
    alerts,
    archive,
    doctor,
    feed,
    gaps,
    history,
    import_files,
    ingest,
    ingest_demo,
    job,
    model,
    producer,
    repair,
    replay,
    server,
    standin,
    store,
    symbols,
    topics,
    up,
    verify,
    watch,
    workflow,
)
from klinestream.market.errors import KlinestreamError
from klinestream.runtime import config

app = typer.Typer(
    help="Binance market data in, numbers a person can trust out: Kafka, PyFlink and a live chart.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(doctor.doctor)
app.command()(producer.producer)
app.command()(feed.feed)
app.command()(server.server)
app.command()(ingest.ingest)
app.command(name="ingest-demo")(ingest_demo.ingest_demo)
app.command()(watch.watch)
app.command()(gaps.gaps)
app.command()(history.history)
app.command("import")(import_files.import_files)
app.command()(repair.repair)
app.command()(alerts.alerts)
app.add_typer(archive.app, name="archive")
app.add_typer(replay.app, name="replay")
app.add_typer(standin.app, name="standin")
app.add_typer(store.app, name="store")
app.add_typer(topics.app, name="topics")
app.add_typer(symbols.app, name="symbols")
app.add_typer(job.app, name="job")
app.add_typer(model.app, name="model")
app.add_typer(verify.app, name="verify")
app.add_typer(workflow.app, name="workflow")


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Option("--config", help="Configuration file; klinestream.toml in this folder by default.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Read the configuration for the command that follows."""
    if version:
        typer.echo(f"klinestream {__version__}")
        raise typer.Exit
    ctx.obj = config.load(file)


def main() -> None:
    """Run the command; an error of ours is one clear line on stderr and exit code 1."""
    try:
        app()
    except KlinestreamError as error:
        sys.exit(f"klinestream: {error}")


if __name__ == "__main__":
    main()
