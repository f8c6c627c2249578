"""`klinestream ingest`: takes klines, trades and bars over HTTP."""

import typer

from klinestream.runtime.config import Config


def ingest(ctx: typer.Context) -> None:
    """Take klines, trades and bars over HTTP into the topics, until Ctrl-C; any number of replicas may run side by side."""
    # `klinestream --help` must not wait for FastAPI and Kafka's client to load.
    from klinestream.ingest.run import run
    from klinestream.runtime import log

    config: Config = ctx.obj
    log.setup(config.log)
    run(config)
