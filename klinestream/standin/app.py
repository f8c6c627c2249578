"""The stand-in as a running server: one port for websocket, REST and admin."""

import asyncio
import errno
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import WSCloseCode, web

from klinestream.market.errors import StackError
from klinestream.market.events import SECOND_MS
from klinestream.runtime.sections import StandinConfig
from klinestream.standin import admin, rest, websocket
from klinestream.standin.exchange import Exchange, Settings
from klinestream.standin.finnhub import shell as finnhub
from klinestream.standin.session import Rules
from klinestream.standin.weights import Limits

SHUTDOWN_S = 2.0

log = structlog.get_logger()


def settings_of(config: StandinConfig) -> Settings:
    """The exchange's rules as configured."""
    rules = Rules(
        ping_ms=round(config.ping_s * SECOND_MS),
        pong_ms=round(config.pong_s * SECOND_MS),
        session_ms=round(config.session_s * SECOND_MS),
    )
    limits = Limits(weight_per_minute=config.weight_per_minute, connections=config.connections_per_5_min)
    return Settings(rules, limits, config.client_buffer_bytes)


@asynccontextmanager
async def serving(exchange: Exchange, host: str, port: int) -> AsyncIterator[tuple[int, asyncio.Task[None]]]:
    """Serve while the context lasts; gives the port (a free one for 0) and the task of the feed, which never ends by itself.

    Raises StackError where the port can't be had.
    """
    app = web.Application(middlewares=[admin.loopback_only])
    app.add_routes([*websocket.routes(exchange), *rest.routes(exchange), *finnhub.routes(exchange), *admin.routes(exchange)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        feed = asyncio.create_task(exchange.run())
        try:
            yield runner.addresses[0][1], feed
        finally:
            feed.cancel()
            for connection in list(exchange.connections.values()):
                connection.close(WSCloseCode.GOING_AWAY, "Server is shutting down")
    finally:
        await runner.cleanup()


async def serve(exchange: Exchange, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises StackError where the port can't be had, and whatever ends the feed."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(exchange, host, port) as (bound, feed):
        log.info("stand-in exchange serves", address=f"http://{host}:{bound}", symbols=len(exchange.market.symbols))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, feed}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if feed.done():
            await feed
    log.info("stand-in exchange stopped")


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackError(
                f"expected port {port} of {host} to be free for the stand-in exchange, but it is taken: "
                "stop what uses it, or choose another with stack.standin_port or --port"
            ) from None
        raise StackError(
            f"expected to listen on {host}:{port} for the stand-in exchange, but {error.strerror}: check standin.host"
        ) from None
