"""`klinestream workflow step` and `wait`: what Kubernetes' Jobs run, each a step of one run."""

from typing import Annotated

import typer

from klinestream.cli.workflow_commands import wrong_with
from klinestream.runtime.config import Config

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a workflow.")]
StepName = Annotated[str, typer.Argument(metavar="STEP", help="Of one of its steps.")]
RunName = Annotated[str, typer.Option("--run", help="Of the run; whoever comes first makes it.")]


def step(
    ctx: typer.Context,
    name: Name,
    which: StepName,
    run: RunName,
    parameters: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated.")] = None,
) -> None:
    """Run one step of a run, once; one that is done stays so. Exit code 1 if it failed."""
    from klinestream.market.workflows import FINISHED
    from klinestream.runtime import log
    from klinestream.workflow.local import run_step

    config: Config = ctx.obj
    log.setup(config.log)
    wrong = wrong_with(ctx.find_root().command)
    ended = run_step(config, wrong, name, which, run_id=run, parameters=parameters or [], show=lambda _run, text: typer.echo(text))
    reached = next(each for each in ended.steps if each.planned.name == which)
    typer.echo(f"step {which} of run {run}: {reached.state}")
    if reached.state not in FINISHED:
        raise typer.Exit(1)


def wait(
    ctx: typer.Context,
    name: Name,
    which: StepName,
    run: RunName,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which it is given up.")] = 86_400.0,
) -> None:
    """Wait until all steps before this one are done in a run."""
    from klinestream.runtime import log
    from klinestream.runtime.signals import told_to_end
    from klinestream.workflow.local import wait as wait_for

    config: Config = ctx.obj
    log.setup(config.log)
    with told_to_end() as ending:
        wait_for(config, name, which, run_id=run, timeout_s=timeout, ending=ending)
