"""What `klinestream up --with …` adds to the stack: a table, one line a part. The part's section of the configuration has its metrics."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from klinestream.market.errors import ConfigError, StackError
from klinestream.market.topics import TRADE_WINDOWS, Topic
from klinestream.runtime.config import Config
from klinestream.stack import commands
from klinestream.stack.process import Command


@dataclass(frozen=True, slots=True)
class Extra:
    """A part beyond those that always run; it is called as its section of the configuration is."""

    argv: tuple[str, ...]
    asks_exchange: bool = True
    """It waits for the stand-in, if that runs."""
    observed: str = "feed"
    """Which kind of part /status takes it for."""
    job: str = ""
    """The Flink job that belongs to it."""
    output: Topic | None = None
    """What tells that the job flows."""
    needs: tuple[str, ...] = ()
    """Parts that it waits for beside the topics, if they are there."""


TRADES = "trades"
"""Also what `windows.source` calls them."""
POSTGRES = "postgres"
DATABASE = "database"
"""The server that the stack runs for `postgres`, unless `postgres.url` says where another one is."""
EXTRAS = {
    TRADES: Extra(commands.TRADES, job="trade_windows", output=TRADE_WINDOWS),
    "books": Extra(commands.BOOKS),
    "finnhub": Extra(commands.FINNHUB),
    "ingest": Extra(commands.INGEST, asks_exchange=False, observed="ingest"),
    POSTGRES: Extra(commands.STORE_POSTGRES, asks_exchange=False, observed="postgres", needs=(DATABASE,)),
    "workflow": Extra(commands.WORKFLOW, asks_exchange=False, observed="workflow"),
}


def chosen(words: Iterable[str], config: Config | None = None) -> tuple[str, ...]:
    """Names from options that each hold one or several, in the table's order, and what the chart's windows are made from.

    Raises ConfigError for an unknown one.

    >>> chosen(["books,trades", "books"])
    ('trades', 'books')
    """
    names = {name.strip() for word in words for name in word.split(",") if name.strip()}
    if config is not None and config.windows.source == TRADES:
        names.add(TRADES)
    unknown = sorted(names - EXTRAS.keys())
    if unknown:
        raise ConfigError(f"--with: expected of {', '.join(EXTRAS)}, got {', '.join(unknown)}")
    return tuple(name for name in EXTRAS if name in names)


def metrics(config: Config, name: str) -> tuple[str, int]:
    """Host and port of a part's metrics; port 0 for none."""
    section = getattr(config, name)
    return section.metrics_host, section.metrics_port


def observed(name: str) -> str:
    """A part's name on /status.

    >>> observed("trades")
    'feed-trades'
    """
    kind = EXTRAS[name].observed
    return kind if kind == name else f"{kind}-{name}"


def job_outputs(names: Iterable[str]) -> dict[str, Topic]:
    """The jobs that belong to these parts → where their results go; a job that isn't installed is left out."""
    found = {}
    for extra in map(EXTRAS.__getitem__, names):
        if extra.job and extra.output is not None and _is_there(extra.job):
            found[extra.job] = extra.output
    return found


def command(config: Config, name: str) -> Callable[[], Command]:
    """What starts a part."""
    return partial(commands.own, name, EXTRAS[name].argv, config)


def _is_there(job: str) -> bool:
    try:
        commands.script_of(job)
    except StackError:
        return False
    return True
