"""`klinestream up`: the whole pipeline on this machine, supervised in the foreground."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.stack.status import Display
    from klinestream.stack.supervisor import Supervisor

_MOST_SYMBOLS = 5000  # as many as the stand-in lists


class Exchange(Enum):
    """Where the market comes from."""

    STANDIN = "standin"
    BINANCE = "binance"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says about the market."""

    exchange: Exchange = Exchange.STANDIN
    symbols: str = ""
    frames: Path | None = None


def up(  # noqa: PLR0917  # typer passes options by name
    ctx: typer.Context,
    exchange: Annotated[
        Exchange, typer.Option(help="The stand-in on this machine, or the real exchange as [exchange] has it.")
    ] = Exchange.STANDIN,
    symbols: Annotated[str, typer.Option(help="BTCUSDT,ETHUSDT,… or, with the stand-in, how many: all that it lists.")] = "",
    frames: Annotated[Path | None, typer.Option(help="Folder of recorded frames that the stand-in serves.")] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="Parts to add: trades, books, finnhub, ingest, postgres, workflow; several with commas, or the option again."
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over: forget topics and checkpoints.")] = False,
    no_table: Annotated[bool, typer.Option("--no-table", help="Plain lines in place of the live table.")] = False,
) -> None:
    """Run broker, Flink, exchange stand-in, producer, job and server here until Ctrl-C; resumes where it left off."""
    import logging

    from klinestream.runtime import log
    from klinestream.stack.extras import chosen
    from klinestream.stack.status import Display
    from klinestream.stack.supervisor import Supervisor

    # The supervisor speaks through its display; a broker that is away, it says there, once.
    log.setup(ctx.obj.log.model_copy(update={"level": "error"}))
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    show = Display(with_table=not no_table)
    stack = Supervisor(
        effective(ctx.obj, Options(exchange, symbols, frames)), exchange is Exchange.STANDIN, show.say, chosen(also or (), ctx.obj)
    )
    _run(stack, fresh, show)


def effective(config: Config, options: Options) -> Config:
    """The configuration with what the local stack and the options say in it. Raises ConfigError."""
    from pydantic import SecretStr

    from klinestream.standin.finnhub.listing import EXAMPLES
    from klinestream.standin.finnhub.session import TOKEN

    with_standin = options.exchange is Exchange.STANDIN
    market: dict[str, object] = {}
    standin: dict[str, object] = {}
    finnhub: dict[str, object] = {}
    if with_standin:
        address = f"127.0.0.1:{config.stack.standin_port}"
        market |= {"websocket_url": f"ws://{address}", "rest_url": f"http://{address}"}
        # A real key isn't for the stand-in.
        finnhub |= {"websocket_url": f"ws://{address}", "token": SecretStr(TOKEN), "symbols": config.finnhub.symbols or EXAMPLES}
    if options.frames is not None:
        if not with_standin:
            raise ConfigError("--frames needs the stand-in exchange: leave out --exchange binance")
        if not options.frames.is_dir():
            raise ConfigError(f"expected a folder of recorded frames at {options.frames}, found none: check --frames")
        standin["frames"] = str(options.frames.absolute())
    if options.symbols.isdecimal():
        if not with_standin or not 1 <= int(options.symbols) <= _MOST_SYMBOLS:
            raise ConfigError(
                f"expected --symbols to be a list, or with the stand-in a number from 1 to {_MOST_SYMBOLS}, got {options.symbols}"
            )
        market["symbols"] = ("*",)
        standin["symbols"] = int(options.symbols)
    elif options.symbols:
        market["symbols"] = tuple(symbol.strip().upper() for symbol in options.symbols.split(",") if symbol.strip())
    broker = {"bootstrap_servers": f"127.0.0.1:{config.stack.broker_port}", "security_protocol": "PLAINTEXT"}
    return config.model_copy(
        update={
            "kafka": config.kafka.model_copy(update=broker),
            "exchange": config.exchange.model_copy(update=market),
            "standin": config.standin.model_copy(update=standin),
            "finnhub": config.finnhub.model_copy(update=finnhub),
        }
    )


def _run(stack: "Supervisor", fresh: bool, show: "Display") -> None:
    import signal

    from klinestream.runtime.signals import told_to_end

    with told_to_end(signal.SIGHUP) as stopping:
        # Nested, not one after the other: a display whose reader has gone may raise anywhere, and all parts have to end even so.
        try:
            if _started(stack, fresh):
                try:
                    with show:
                        stack.run(stopping, each_tick=lambda: show.update(stack))
                finally:
                    show.say("ending all parts")
        finally:
            stack.stop()


def _started(stack: "Supervisor", fresh: bool) -> bool:
    """Start it, unless a signal ends that: until a part runs, what takes its time (jars come slowly) may be broken off anywhere."""
    import signal

    from klinestream.runtime.signals import ended_by_signals

    with ended_by_signals(signal.SIGHUP):
        stack.start(fresh)
        return True
    return False
