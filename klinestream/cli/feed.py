"""`klinestream feed NAME`: one of the other feeds into Kafka."""

from typing import Annotated

import typer

from klinestream.runtime.config import Config


def feed(ctx: typer.Context, name: Annotated[str, typer.Argument(help="Which feed, such as trades.")]) -> None:
    """Read a feed beside the klines into its topic, until Ctrl-C: trades, and what else there is."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from producer.feed_app import run

    config: Config = ctx.obj
    log.setup(config.log)
    run(config, name)
