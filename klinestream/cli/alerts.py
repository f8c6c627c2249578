"""`klinestream alerts`: signals, gaps and stale data posted to a web address."""

import typer

from klinestream.runtime.config import Config


def alerts(ctx: typer.Context) -> None:
    """Post signals, gaps of the feed and stale data to signals.webhook_url, until Ctrl-C; goes on where it stopped."""
    # `klinestream --help` must not wait for Kafka's client to load.
    from klinestream.runtime import log
    from klinestream.runtime.alerts import run

    config: Config = ctx.obj
    log.setup(config.log)
    run(config)
