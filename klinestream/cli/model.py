"""`klinestream model`: trained from feature rows, measured beside knowing nothing, and run live."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.times import time_of

if TYPE_CHECKING:
    from klinestream.replay.features.labels import Horizon

app = typer.Typer(help="Models: trained from features, measured beside knowing nothing, and run live.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--model", help="A model's folder.")]
Features = Annotated[Path, typer.Option("--features", help="A folder that `klinestream replay features` wrote.")]


@app.callback()
def model() -> None:
    """Models: trained from features, measured beside knowing nothing, and run live."""


@app.command()
def train(  # noqa: PLR0917  # typer passes options by name
    features: Features,
    out: Annotated[Path, typer.Option("--out", help="The model's folder, which isn't there yet.")],
    kind: Annotated[str, typer.Option(help="linear, boosting or graph; the last two need the extra `ml`.")] = "boosting",
    interval: Annotated[str, typer.Option(help="Of which candles.")] = "1m",
    horizon: Annotated[str, typer.Option(help="How far it looks ahead: a multiple of the interval, such as 10m or 4h.")] = "10m",
    folds: Annotated[int, typer.Option(min=1, max=50, help="Walk-forward tests.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a whole model of this kind and task that is there as it is.")] = False,
) -> None:
    """Measure models of a kind walking forward, train one on all rows, and write it with its card."""
    from rich.console import Console

    from klinestream.models.panel import task_of
    from klinestream.models.rows import read
    from klinestream.models.storage import KINDS
    from klinestream.models.training import train as made
    from klinestream.models.training import write
    from klinestream.replay.features.labels import Horizon

    if kind not in KINDS:
        raise ConfigError(f"--kind: expected one of {', '.join(KINDS)}, got {kind}")
    ahead = Horizon.of(horizon, interval)
    if out.exists():
        if keep:
            _keep(out, kind, interval, ahead)
            return
        raise ConfigError(f"--out: expected a folder that isn't there yet, but {out} is: choose another, or move it away")
    with Console(stderr=True).status("reading features") as status:
        found = read(features, interval)
        told = f"settings {found.fingerprint}, as of {found.as_of}"
        stored, measured = made(found.rows, task_of(found.rows, interval, ahead), kind, folds, told=status.update, features=told)
        write(out, stored, measured)
    _show(measured.plain())
    typer.echo(f"model {stored.id} in {out}; its card: klinestream model card --model {out}")


@app.command()
def publish(
    folder: Folder,
    to: Annotated[Path, typer.Option("--to", help="Folder of published models; `model serve --model TO/current` takes the newest.")],
    keep: Annotated[int, typer.Option(min=1, max=1000, help="Versions that are kept.")] = 5,
) -> None:
    """Make a model the current one of a folder, in one step; a model that is current already stays so."""
    from klinestream.models.publishing import CURRENT
    from klinestream.models.publishing import publish as put

    stored, was = put(folder, to, keep)
    typer.echo(f"model {stored.id} {'is current already' if was else 'is current'}: {to / CURRENT}")


@app.command()
def evaluate(folder: Folder, features: Features) -> None:
    """Measure a trained model on rows after those that it has seen."""
    from klinestream.models.rows import read
    from klinestream.models.storage import load
    from klinestream.models.training import evaluate_after

    stored = load(folder)
    _show(evaluate_after(stored, read(features, stored.header.task.interval).rows).plain())


@app.command()
def card(folder: Folder) -> None:
    """Show what a model is, how good it was beside knowing nothing, and what it is not good for."""
    from rich.console import Console
    from rich.markdown import Markdown

    from klinestream.models.storage import card as read

    console, text = Console(), read(folder)
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text, nl=False)


@app.command()
def serve(
    ctx: typer.Context,
    folder: Folder,
    from_: Annotated[
        str, typer.Option("--from", help="Where it begins if it has said nothing yet: a time (UTC), or 2h for two hours ago.")
    ] = "0s",
) -> None:
    """Write what a model says of each closed candle to crypto_predictions, until Ctrl-C; goes on where it stopped."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.models.serving import run
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    run(config, folder, time_of(from_, time.time_ns() // 1_000_000))


def _keep(out: Path, kind: str, interval: str, ahead: "Horizon") -> None:
    from klinestream.models.storage import load

    stored = load(out)
    task = stored.header.task
    if (stored.header.kind, task.interval, task.ahead) != (kind, interval, ahead):
        raise ConfigError(f"--out: {out} holds a {stored.header.kind} model of another task: choose another folder")
    typer.echo(f"model {stored.id} is in {out} already")


def _show(measured: dict[str, object]) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    from klinestream.models.card import scores_table, verdict

    text = f"{verdict(measured)}\n\n{scores_table(measured['scores'])}"  # type: ignore[arg-type]  # as `Evaluation.plain` gives it
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        typer.echo(text)
