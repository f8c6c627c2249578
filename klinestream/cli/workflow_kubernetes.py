"""`klinestream workflow kubernetes`: a workflow as Jobs."""

import time
from typing import Annotated

import typer

from klinestream.cli.workflow_commands import wrong_with
from klinestream.market.errors import ConfigError
from klinestream.runtime.config import PREFIX, Config


def kubernetes(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a workflow.")],
    image: Annotated[str, typer.Option(help="Of klinestream, best with its digest.")],
    parameters: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated.")] = None,
    run: Annotated[str, typer.Option(help="Name of the run; by the time of day by default.")] = "",
    namespace: Annotated[str, typer.Option(help="Of the Jobs; kubectl's own by default.")] = "",
    claim: Annotated[str, typer.Option(help="Volume claim of state, archive and models, which all pods write to.")] = "klinestream-state",
    folder: Annotated[str, typer.Option(help="Where the claim is mounted, and the commands run.")] = "/data",
    env: Annotated[list[str] | None, typer.Option(metavar="VARIABLE=VALUE", help=f"A variable {PREFIX}…; may be repeated.")] = None,
    config_map: Annotated[list[str] | None, typer.Option(help="A config map whose entries are such variables; may be repeated.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="A secret whose entries are such variables; may be repeated.")] = None,
    service_account: Annotated[str, typer.Option(help="That the pods run under.")] = "",
) -> None:
    """Print the Jobs of one run, a Job a step, for `kubectl apply -f -`; ages such as 30d are counted from now."""
    import yaml

    from klinestream.workflow.definition import definition
    from klinestream.workflow.kubernetes import Cluster, jobs
    from klinestream.workflow.plan import asked, values
    from klinestream.workflow.state import checked_id, new_id

    config: Config = ctx.obj
    known = definition(config.workflow.definitions, name, wrong_with(ctx.find_root().command))
    now_ms = time.time_ns() // 1_000_000
    given = values(known, asked(known, parameters or []), now_ms)
    cluster = Cluster(image, namespace, claim, folder, _variables(env or []), config_map or (), secret or (), service_account)
    typer.echo(
        yaml.safe_dump_all(jobs(known, given, checked_id(run) if run else new_id(now_ms), cluster), sort_keys=False, width=120), nl=False
    )


def _variables(words: list[str]) -> dict[str, str]:
    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name.startswith(PREFIX):
            raise ConfigError(f"--env: expected {PREFIX}<SECTION>__<KEY>=VALUE, got {word!r}; secrets go by --secret")
        found[name] = value
    return found
