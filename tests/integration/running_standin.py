"""A stand-in exchange with real sockets, in a thread of the test's own process."""

import asyncio
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import websocket

from klinestream.standin.app import serving
from klinestream.standin.client import StandinClient
from klinestream.standin.exchange import Exchange, Settings
from klinestream.standin.market import Market
from klinestream.standin.seeded.market import SeededMarket

STOP_S = 10


@functools.lru_cache(maxsize=2)
def market(symbols: int = 6) -> SeededMarket:
    """The seeded market of the tests; building one takes seconds."""
    return SeededMarket(1, symbols)


@dataclass(frozen=True, slots=True)
class RunningStandin:
    """A stand-in that serves."""

    exchange: Exchange
    client: StandinClient
    address: str

    @property
    def http(self) -> str:
        """Base address of REST."""
        """Base address of REST."""
        return f"http://{self.address}"

    @property
    def ws(self) -> str:
        """Base address of the websocket."""
        """Base address of the websocket."""
        return f"ws://{self.address}"

    @contextmanager
    def connected(self, path: str, timeout_s: float = 10, **options: Any) -> Iterator[websocket.WebSocket]:
        """A websocket-client connection."""
        connection = websocket.create_connection(self.ws + path, timeout=timeout_s, skip_utf8_validation=True, **options)
        try:
            yield connection
        finally:
            # Its `close` leaves the socket open where the server closed first.
            connection.shutdown()


@contextmanager
def running(settings: Settings | None = None, of: Market | None = None) -> Iterator[RunningStandin]:
    """Serve on a free port while the context lasts."""
    exchange = Exchange(of or market(), settings or Settings())
    started, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    ports = list[int]()

    async def serve() -> None:
        async with serving(exchange, "127.0.0.1", 0) as (port, _feed):
            ports.append(port)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="standin")
    thread.start()
    try:
        assert started.wait(STOP_S)
        address = f"127.0.0.1:{ports[0]}"
        with StandinClient(f"http://{address}") as client:
            yield RunningStandin(exchange, client, address)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(STOP_S)
        assert not thread.is_alive()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
