"""`klinestream symbols`: say at run time which symbols are followed, and see which are."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from klinestream.runtime.config import Config

app = typer.Typer(
    help="The symbols that are followed: add, remove, reset, list. A pattern such as '*USDT' needs quotes in a shell.", no_args_is_help=True
)

_BY = "cli"

Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Symbols, or patterns with * and ? in quotes, such as '*USDT'.")]
Force = Annotated[bool, typer.Option("--force", help="Don't ask the exchange whether the names mean anything: it may be away.")]


@app.command()
def add(ctx: typer.Context, names: Names, force: Force = False) -> None:
    """Follow these symbols too, as soon as they trade; quote patterns: '*USDT'."""
    _say(ctx.obj, names, wanted=True, force=force)


@app.command()
def remove(ctx: typer.Context, names: Names, force: Force = False) -> None:
    """Don't follow these symbols; quote patterns: '*USDT'. A symbol's own name outweighs a pattern."""
    _say(ctx.obj, names, wanted=False, force=force)


@app.command()
def reset(ctx: typer.Context, names: Names) -> None:
    """Take back what `add` and `remove` said of these very names: the configuration holds for them again."""
    from klinestream.runtime.control import ControlLog

    config: Config = ctx.obj
    checked = _checked(config, names)
    with ControlLog(config.kafka) as control:
        said = control.read()
        for name in checked:
            if name in said:
                control.withdraw(name)
                typer.echo(f"{name}: reset")
            else:
                typer.echo(f"{name}: nothing was said of this name", err=True)


@app.command("list")
def list_symbols(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Only these symbols, or patterns in quotes.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those too that nobody asked for.")] = False,
) -> None:
    """Show what is said of which symbol, and what the exchange says of it."""
    from rich.console import Console
    from rich.table import Table

    from klinestream.market.selection import TRADING, matches
    from klinestream.runtime.control import ControlLog
    from klinestream.runtime.symbol_lists import configured

    config: Config = ctx.obj
    only = _checked(config, names or [])
    selection = configured(config.exchange)
    with ControlLog(config.kafka) as control:
        said = control.read()
    statuses = _statuses(config)
    rules = selection.rules(said)
    table = Table("symbol", "on the exchange", "followed", "why")
    for symbol in sorted(statuses.keys() | rules.named()):
        verdict = rules.verdict(symbol)
        if (verdict is None and not every) or (only and not any(matches(name, symbol) for name in only)):
            continue
        status = statuses.get(symbol, "not listed")
        followed = verdict is not None and verdict.wanted and status == TRADING
        table.add_row(symbol, status, "yes" if followed else "no", verdict.why if verdict is not None else "nobody asked for it")
    console = Console()
    console.print(table)
    console.print(f"{len(selection.chosen(statuses, said).symbols)} of {len(statuses)} listed symbols are to be followed", highlight=False)


def _say(config: Config, names: Sequence[str], *, wanted: bool, force: bool) -> None:
    from klinestream.runtime.control import ControlLog

    checked = _checked(config, names)
    if not force:
        _validate(checked, _statuses(config))
    with ControlLog(config.kafka) as control:
        for name in checked:
            control.say(name, wanted, _BY)
            typer.echo(f"{name}: {'wanted' if wanted else 'unwanted'}")


def _checked(config: Config, names: Sequence[str]) -> list[str]:
    """The names in upper case, each once; from here on, logs go to stderr."""
    from klinestream.runtime import log
    from klinestream.runtime.symbol_lists import checked_name

    log.setup(config.log)
    return list(dict.fromkeys(checked_name(name, "symbols") for name in names))


def _statuses(config: Config) -> dict[str, str]:
    from klinestream.runtime.rest import Rest

    with Rest(config.exchange) as rest:
        return rest.statuses()


def _validate(names: Sequence[str], statuses: Mapping[str, str]) -> None:
    """Raise ConfigError that names the unlisted symbols; tell of names that mean nothing that trades now."""
    from klinestream.market.errors import ConfigError
    from klinestream.market.selection import TRADING, is_pattern, matches

    unknown = [name for name in names if not is_pattern(name) and name not in statuses]
    if unknown:
        raise ConfigError(
            f"expected symbols that the exchange lists, got {', '.join(unknown)}: check the spelling; --force says it all the same, "
            "and they are followed once they are listed"
        )
    for name in names:
        if not is_pattern(name):
            if statuses[name] != TRADING:
                typer.echo(f"{name}: it is {statuses[name]} on the exchange, and is followed only while it trades", err=True)
        elif not any(matches(name, symbol) for symbol in statuses):
            typer.echo(f"{name}: no symbol matches it now; in a shell, quote patterns", err=True)
