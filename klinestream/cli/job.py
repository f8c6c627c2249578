"""`klinestream job`: submit, list, stop and cancel jobs on the local cluster or any other."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.stack.jobs import Cluster

app = typer.Typer(help="Flink jobs: windows, candles, trade_windows, list, stop, cancel.", no_args_is_help=True)

Address = Annotated[str, typer.Option("--jobmanager", help="Address of Flink's REST interface; the local stack's by default.")]


Savepoint = Annotated[str, typer.Option(help="Savepoint or checkpoint to resume from: a folder or an address.")]
Ship = Annotated[bool, typer.Option("--ship", help="Ship klinestream's code with the job, for a cluster that has only its dependencies.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Stay, and submit again from the newest of --checkpoints whenever the cluster has lost the job.")
]
Checkpoints = Annotated[Path | None, typer.Option(help="Where the cluster keeps its checkpoints, as seen from here.")]


@app.command()
def windows(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    savepoint: Savepoint = "",
    jobmanager: Address = "",
    ship: Ship = False,
    keep: Keep = False,
    checkpoints: Checkpoints = None,
) -> None:
    """Submit the windows job with `flink run`, its configuration taken from here."""
    _submit("windows", ctx.obj, savepoint, jobmanager, ship, checkpoints, keep)


@app.command()
def candles(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    savepoint: Savepoint = "",
    jobmanager: Address = "",
    ship: Ship = False,
    keep: Keep = False,
    checkpoints: Checkpoints = None,
) -> None:
    """Submit the job of candles, indicators and signals with `flink run`, its configuration taken from here."""
    _submit("candles", ctx.obj, savepoint, jobmanager, ship, checkpoints, keep)


@app.command("trade_windows")
def trade_windows(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    savepoint: Savepoint = "",
    jobmanager: Address = "",
    ship: Ship = False,
    keep: Keep = False,
    checkpoints: Checkpoints = None,
) -> None:
    """Submit the job of windows over trades with `flink run`, its configuration taken from here."""
    _submit("trade_windows", ctx.obj, savepoint, jobmanager, ship, checkpoints, keep)


def _submit(job: str, config: Config, savepoint: str, jobmanager: str, ship: bool, checkpoints: Path | None, keep: bool) -> None:  # noqa: PLR0917
    from klinestream.market.errors import ConfigError
    from klinestream.runtime import log
    from klinestream.runtime.signals import told_to_end
    from klinestream.stack import submission

    if keep and savepoint:
        raise ConfigError("expected --keep or --savepoint, not both: a job that is kept is resumed from the newest of --checkpoints")
    if not keep:
        typer.echo(submission.submit(job, config, jobmanager, savepoint, ship=ship))
        return
    if checkpoints is None or not checkpoints.is_dir():
        raise ConfigError(f"--keep needs --checkpoints, the folder of the cluster's checkpoints, got {checkpoints}")
    log.setup(config.log)
    with told_to_end() as stopping:
        submission.keep(job, config, jobmanager, checkpoints, stopping)


@app.command("list")
def list_jobs(ctx: typer.Context, jobmanager: Address = "") -> None:
    """Show the cluster's jobs."""
    for job in _cluster(ctx.obj, jobmanager).jobs():
        typer.echo(f"{job.id}  {job.state:<10}  {job.name}")


@app.command()
def stop(
    ctx: typer.Context,
    job_id: str,
    folder: Annotated[
        str, typer.Option("--savepoints", help="Folder the savepoint goes to, as the cluster sees it; its own by default.")
    ] = "",
    jobmanager: Address = "",
) -> None:
    """Stop a job with a savepoint, and show where that is; resume with `klinestream job windows --savepoint`."""
    typer.echo(_cluster(ctx.obj, jobmanager).stop(job_id, folder or None))


@app.command()
def cancel(ctx: typer.Context, job_id: str, jobmanager: Address = "") -> None:
    """Cancel a job; its newest checkpoints stay."""
    _cluster(ctx.obj, jobmanager).cancel(job_id)


def _cluster(config: Config, address: str) -> "Cluster":
    from klinestream.stack.jobs import Cluster
    from klinestream.stack.submission import rest_url

    return Cluster(rest_url(config, address))
