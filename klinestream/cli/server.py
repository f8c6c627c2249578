"""`klinestream server`: the chart's server."""

import typer

from klinestream.runtime.config import Config


def server(ctx: typer.Context) -> None:
    """Serve the chart, its websocket, health and metrics, until Ctrl-C."""
    # `klinestream --help` must not wait for FastAPI and Kafka's client to load.
    from klinestream.runtime import log
    from server.run import run

    config: Config = ctx.obj
    log.setup(config.log)
    run(config)
