"""`klinestream ingest-demo`: posts to ingestion at a rate, and shows what came back."""

from typing import TYPE_CHECKING, Annotated

import typer

from klinestream.market.errors import ConfigError
from klinestream.runtime.access.addresses import is_loopback
from klinestream.runtime.config import Config

if TYPE_CHECKING:
    from klinestream.ingest.demo import Outcome

_KINDS = ("klines", "trades", "bars")


def ingest_demo(  # noqa: PLR0917  # an option each
    ctx: typer.Context,
    url: Annotated[list[str] | None, typer.Option(help="Where ingestion listens; several for several replicas.")] = None,
    kind: Annotated[str, typer.Option(help="klines, trades or bars.")] = "klines",
    rate: Annotated[float, typer.Option(min=0.1, max=1_000_000, help="Records a second in all.")] = 200.0,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Records in a request, all of one symbol.")] = 10,
    symbols: Annotated[int, typer.Option(min=1, max=1000, help="Symbols.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long.")] = 10.0,
    source: Annotated[str, typer.Option(help="Whose records these are said to be.")] = "demo",
    keys: Annotated[bool, typer.Option(help="Send an Idempotency-Key with each request.")] = True,
    elsewhere: Annotated[bool, typer.Option("--yes-really-elsewhere", help="Allow other machines than this one.")] = False,
) -> None:
    """Post made-up records at a rate for a while, each symbol's in order, and show counts and times; a token comes from the client's."""
    from urllib.parse import urlsplit

    from klinestream.ingest.demo import Load, run

    config: Config = ctx.obj
    urls = url or [f"http://127.0.0.1:{config.ingest.port}"]
    for one in urls:
        if not one.startswith(("http://", "https://")):
            raise ConfigError(f"expected --url to begin with http:// or https://, got {one!r}")
        if not elsewhere and not is_loopback(urlsplit(one).hostname or ""):
            raise ConfigError(f"expected an address of this machine, got {one!r}: add --yes-really-elsewhere to post made-up records there")
    if kind not in _KINDS:
        raise ConfigError(f"expected --kind to be one of {', '.join(_KINDS)}, got {kind!r}")
    load = Load(tuple(urls), kind, rate, batch, symbols, seconds, source, keys, config.client.token.get_secret_value())
    _show(run(load), load.seconds)


def _show(outcomes: "list[Outcome]", seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("replica", "status", "requests", "records", "records/s", "late", "p50 ms", "p99 ms", "most ms")
    for one in outcomes:
        times = (f"{one.at(share) * 1000:.1f}" for share in (0.5, 0.99, 1.0))
        counts = (str(one.requests), str(one.records), f"{one.records / seconds:,.0f}", str(one.late))
        table.add_row(one.url, one.status, *counts, *times)
    Console().print(table)
