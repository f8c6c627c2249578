"""`klinestream standin`: the stand-in exchange, and faults of it on demand."""

# `klinestream --help` must not wait for what only one command needs

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config
from klinestream.runtime.sections import StandinConfig

if TYPE_CHECKING:
    from klinestream.standin.client import StandinClient

app = typer.Typer(help="A stand-in for Binance Spot on this machine: its websocket and REST over a seeded or a recorded market.")

Url = Annotated[str | None, typer.Option(help="Address of the running stand-in; by default the configured one.")]


@app.callback(invoke_without_command=True)
def standin(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; one that is not loopback lets others in.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one.", min=0, max=65535)] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same market.")] = None,
    symbols: Annotated[int | None, typer.Option(help="How many symbols the seeded market lists.")] = None,
    frames: Annotated[str | None, typer.Option(help="Folder of recorded frames to serve in place of the seeded market.")] = None,
    speed: Annotated[float | None, typer.Option(help="How fast recorded frames are served.")] = None,
    retime: Annotated[bool | None, typer.Option(help="Shift recorded frames' times to now.")] = None,
) -> None:
    """Serve until Ctrl-C, or use one of the commands on a stand-in that runs."""
    if ctx.invoked_subcommand is not None:
        return
    config: Config = ctx.obj
    given = {"host": host, "seed": seed, "symbols": symbols, "frames": frames, "speed": speed, "retime": retime}
    _run(config, _overridden(config.standin, given), config.stack.standin_port if port is None else port)


@app.command()
def status(ctx: typer.Context, url: Url = None) -> None:
    """Show connections, subscriptions, frames sent and faults under way."""
    from rich import print_json

    with _client(ctx, url) as client:
        print_json(data=client.status())


@app.command()
def fault(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="drop, silence, shutdown; lose, repeat, reorder, garbage; refuse, withhold, slow.")],
    settings: Annotated[list[str] | None, typer.Argument(help="Settings of the fault, name=value.", metavar="[NAME=VALUE]...")] = None,
    url: Url = None,
) -> None:
    """Bring a fault about: `fault silence seconds=5 streams='btcusdt@*'`. A wrong setting's message names the right ones."""
    from rich import print_json

    from klinestream.standin.faults import read

    values: dict[str, Any] = {"kind": kind}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"expected a setting name=value, got {setting!r}")
        values[name] = value
    wanted = read(values)
    with _client(ctx, url) as client:
        print_json(data=client.inject(wanted))


@app.command()
def clear(ctx: typer.Context, url: Url = None) -> None:
    """End all faults."""
    with _client(ctx, url) as client:
        client.clear()


@app.command()
def bulk(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write below.")],
    first: Annotated[datetime, typer.Option("--from", help="First day.", formats=["%Y-%m-%d"])],
    last: Annotated[datetime, typer.Option("--to", help="Last day; with --monthly its whole month.", formats=["%Y-%m-%d"])],
    symbols: Annotated[str, typer.Option(help="Symbols, comma separated.")] = "BTCUSDT",
    kind: Annotated[str, typer.Option(help="klines, trades or aggTrades.")] = "klines",
    interval: Annotated[str, typer.Option(help="Of klines: 1s, 1m and so on, up to 1d.")] = "1s",
    monthly: Annotated[bool, typer.Option(help="A file a month in place of one a day.")] = False,
) -> None:
    """Write bulk files of past days, in the form of the exchange's public archive, from the stand-in's market."""
    import time

    from klinestream.standin.bulk import Wanted, make
    from klinestream.standin.markets import open_market

    config: Config = ctx.obj
    wanted = Wanted(kind, interval, first.date(), last.date(), monthly)
    market = open_market(config.standin, time.time_ns() // 1_000_000)
    names = [name.strip().upper() for name in symbols.split(",") if name.strip()]
    for path in make(market, names, wanted, out):
        typer.echo(path)


def _run(config: Config, settings: StandinConfig, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    import asyncio

    from klinestream.runtime import log
    from klinestream.standin.app import serve, settings_of
    from klinestream.standin.exchange import Exchange
    from klinestream.standin.markets import open_market

    log.setup(config.log)
    market = open_market(settings, Exchange.wall_ms())
    asyncio.run(serve(Exchange(market, settings_of(settings)), settings.host, port))


def _overridden(settings: StandinConfig, given: dict[str, Any]) -> StandinConfig:
    from pydantic import ValidationError

    values = settings.model_dump() | {name: value for name, value in given.items() if value is not None}
    try:
        return StandinConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"--{first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None


def _client(ctx: typer.Context, url: str | None) -> "StandinClient":
    from klinestream.standin.client import StandinClient

    config: Config = ctx.obj
    return StandinClient(url or f"http://{config.standin.host}:{config.stack.standin_port}")
