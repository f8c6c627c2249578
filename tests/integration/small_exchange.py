"""A small exchange in the test's own process: a websocket that says what the test wants said, and two REST answers."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from klinestream.market import decimals

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "DOGEUSDT")


def kline(symbol: str, second: int, **changes: Any) -> dict[str, Any]:
    """The exchange's kline of that second since 1970; every third second is quiet."""
    trades = second % 3
    first = second * 10 if trades else -1
    price = decimals.show(10**8 * (100 + second % 50))
    fields = {
        "t": second * 1000, "T": second * 1000 + 999, "s": symbol, "i": "1s", "f": first, "L": first + trades - 1 if trades else -1,
        "o": price, "c": price, "h": price, "l": price, "v": "1.50000000", "n": trades, "x": True,
        "q": "150.00000000", "V": "0.00000000", "Q": "0.00000000", "B": "0",
    }  # fmt: skip  # as the exchange groups them
    return fields | changes


def frame(symbol: str, second: int, **changes: Any) -> str:
    """The combined form's frame of that kline."""
    data = {"e": "kline", "E": second * 1000 + 1040, "s": symbol, "k": kline(symbol, second, **changes)}
    return orjson.dumps({"stream": f"{symbol.lower()}@kline_1s", "data": data}).decode()


class SmallExchange:
    """Serves `/stream` and REST on a free port of localhost; `say` sends to whoever subscribed to a symbol."""

    def __init__(self) -> None:
        """Listen and serve, in threads of its own."""
        self.answers = True
        self.offset_ms = 0
        self.pongs: list[bytes] = []
        self.requests: dict[ServerConnection, list[tuple[float, bytes]]] = defaultdict(list)
        self._subscribers: dict[str, set[ServerConnection]] = defaultdict(set)
        self._lock = threading.Lock()
        self._server: Server = serve(
            self._connection, "127.0.0.1", 0, process_request=self._rest, ping_interval=None, compression=None, close_timeout=1
        )
        self.port = int(self._server.socket.getsockname()[1])
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def tables(self) -> dict[str, Any]:
        """The `exchange` table of a configuration that points here."""
        return {"websocket_url": f"ws://127.0.0.1:{self.port}", "rest_url": f"http://127.0.0.1:{self.port}", "symbols": SYMBOLS}

    def subscribed(self, *symbols: str) -> bool:
        """Whether somebody subscribed to all of these."""
        with self._lock:
            return all(self._subscribers[symbol] for symbol in symbols)

    def connections(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len({connection for connections in self._subscribers.values() for connection in connections})

    def say(self, symbol: str, *messages: str | bytes) -> None:
        """Send messages to the subscribers of a symbol."""

        def send(connection: ServerConnection) -> None:
            for message in messages:
                connection.send(message, text=True)

        self._each(symbol, send)

    def ping(self, symbol: str, payload: bytes) -> None:
        """Ping the subscribers of a symbol; the pongs' payloads go to `pongs`."""

        def ping(connection: ServerConnection) -> None:
            if connection.ping(payload).wait(5):
                self.pongs.append(payload)

        self._each(symbol, ping)

    def drop(self, symbol: str) -> None:
        """Cut the connections that carry a symbol, without a word."""
        self._each(symbol, lambda connection: connection.socket.shutdown(2))

    def close(self) -> None:
        """End it all."""
        self._server.shutdown()
        with self._lock:
            left = {connection for connections in self._subscribers.values() for connection in connections}
        for connection in left:
            connection.close()
        self._thread.join()

    def _each(self, symbol: str, act: Callable[[ServerConnection], object]) -> None:
        with self._lock:
            connections = list(self._subscribers[symbol])
        for connection in connections:
            act(connection)

    def _connection(self, connection: ServerConnection) -> None:
        asked: list[str] = []
        try:
            for message in connection:
                self.requests[connection].append((time.monotonic(), message.encode() if isinstance(message, str) else message))
                request = orjson.loads(message)
                asked = [stream.removesuffix("@kline_1s").upper() for stream in request["params"]]
                if self.answers:
                    connection.send(orjson.dumps({"result": None, "id": request["id"]}), text=True)
                with self._lock:
                    for symbol in asked:
                        self._subscribers[symbol].add(connection)
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                for connections in self._subscribers.values():
                    connections.discard(connection)

    def _rest(self, connection: ServerConnection, request: Request) -> Response | None:
        del connection
        if request.path == "/stream":
            return None
        found: dict[str, Any] = {"serverTime": time.time_ns() // 1_000_000 + self.offset_ms}
        if request.path == "/api/v3/exchangeInfo":
            found = {"symbols": [{"symbol": symbol, "status": "TRADING"} for symbol in SYMBOLS]}
        body = orjson.dumps(found)
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)
