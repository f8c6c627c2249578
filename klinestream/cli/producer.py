"""`klinestream producer`: the exchange's klines into Kafka."""

import typer

from klinestream.runtime.config import Config


def producer(ctx: typer.Context) -> None:
    """Read the exchange's klines into the topic crypto_kline_data, until Ctrl-C."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from producer.app import run

    config: Config = ctx.obj
    log.setup(config.log)
    run(config)
