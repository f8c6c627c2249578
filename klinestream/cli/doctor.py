"""`klinestream doctor`: whether the stack can run here, before it is started."""

import typer

from klinestream.runtime.config import Config


def doctor(ctx: typer.Context) -> None:
    """Check Python, paths, Java, jars, folder, disk, memory and ports; exit code 1 if anything is in the way."""
    from klinestream.stack.checks import examine

    config: Config = ctx.obj
    good = True
    for finding in examine(config):
        typer.echo(f"{'ok     ' if finding.good else 'not ok '} {finding.what}: {finding.found}")
        good = good and finding.good
    if not good:
        raise typer.Exit(1)
