"""`klinestream workflow`: steps in order that go on where they were interrupted, run here, by a runner, or on Kubernetes."""

from collections.abc import Sequence
from typing import Annotated

import typer

from klinestream.cli.workflow_commands import wrong_with
from klinestream.cli.workflow_kubernetes import kubernetes
from klinestream.cli.workflow_steps import step, wait
from klinestream.market.events import Order
from klinestream.runtime.config import Config

app = typer.Typer(help="Workflows: commands in order, such as history to a model, that go on where they were.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a workflow, as `klinestream workflow list` shows it.")]
Parameters = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated.")]
Patience = Annotated[float, typer.Option("--wait", min=0.1, max=3600, help="Seconds to wait for the runner's answer.")]

app.command()(step)
app.command()(wait)
app.command()(kubernetes)

_FILE_WIDTH = 160  # a pipe has no width of its own


@app.callback()
def workflow() -> None:
    """Workflows: commands in order that go on where they were."""


@app.command("list")
def list_workflows(ctx: typer.Context) -> None:
    """Show the workflows that are known here, their parameters and steps, and where the newest run of each is."""
    from rich.console import Console
    from rich.table import Table

    from klinestream.workflow.definition import definitions
    from klinestream.workflow.serving import status_of
    from klinestream.workflow.state import Folder

    config: Config = ctx.obj
    table = Table("workflow", "what it does", "parameters", "steps", "newest run")
    for name, each in definitions(config.workflow.definitions, wrong_with(ctx.find_root().command)).items():
        newest = Folder(config.workflow.state_dir, name).run()
        parameters = "\n".join(f"{key}={'…' if one.default is None else one.default}" for key, one in each.parameters.items())
        steps = "\n".join(step.name for step in each.steps)
        table.add_row(name, each.about, parameters, steps, "" if newest is None else status_of(newest))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _FILE_WIDTH)
    console.print(table)


@app.command()
def run(
    ctx: typer.Context,
    name: Name,
    parameters: Parameters = None,
    anew: Annotated[bool, typer.Option(help="Leave a run that failed or was stopped: only one that was interrupted goes on.")] = False,
) -> None:
    """Run a workflow here, to its end; a run that was interrupted goes on. Exit code 1 if it failed."""
    import logging

    from klinestream.cli.workflow_progress import Shown
    from klinestream.market.workflows import State
    from klinestream.runtime import log
    from klinestream.workflow.local import run as run_here

    config: Config = ctx.obj
    # The table on the terminal says the rest; that no broker is there, it is told once, at the end.
    log.setup(config.log.model_copy(update={"level": "error"}))
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with Shown() as show:
        ended = run_here(config, wrong_with(ctx.find_root().command), name, parameters or [], show, anew=anew)
    interrupted = "interrupted; the same command goes on with it" if ended.state is State.RUNNING else ended.state
    typer.echo(f"run {ended.id} of {name}: {interrupted}{f', {ended.reason}' if ended.reason else ''}")
    if ended.state is not State.DONE:
        raise typer.Exit(1)


@app.command()
def serve(ctx: typer.Context) -> None:
    """Obey what `start`, `stop`, `status` and `ping` say, until Ctrl-C; runs that were interrupted go on."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from klinestream.workflow.serving import run as run_it

    config: Config = ctx.obj
    log.setup(config.log)
    run_it(config, wrong_with(ctx.find_root().command))


@app.command()
def start(ctx: typer.Context, name: Name, parameters: Parameters = None, patience: Patience = 30.0) -> None:
    """Have the runner start a workflow, or go on with a run that failed or was stopped and was asked for the same."""
    _say(ctx, name, Order.START, patience, parameters or [])


@app.command()
def stop(ctx: typer.Context, name: Name, patience: Patience = 60.0) -> None:
    """Have the runner end the step that runs, and the run with it."""
    _say(ctx, name, Order.STOP, patience)


@app.command()
def status(ctx: typer.Context, name: Name, patience: Patience = 30.0) -> None:
    """Ask the runner where the newest run is."""
    _say(ctx, name, Order.STATUS, patience)


@app.command()
def ping(ctx: typer.Context, name: Name, patience: Patience = 30.0) -> None:
    """Ask whether a runner is there that knows the workflow."""
    _say(ctx, name, Order.PING, patience)


def _say(ctx: typer.Context, name: str, order: Order, patience: float, parameters: Sequence[str] = ()) -> None:
    from klinestream.runtime import log
    from klinestream.workflow.commanding import command

    config: Config = ctx.obj
    log.setup(config.log)
    answer = command(config.kafka, name, order, parameters, patience)
    typer.echo(answer.text)
    for entry in filter(None, answer.fields.get("steps", "").split(",")):
        typer.echo(f"  {entry.replace(':', ': ')}")
