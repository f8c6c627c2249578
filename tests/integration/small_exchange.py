"""A small exchange in the test's own process: a websocket that says what the test wants said, and two REST answers."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

from klinestream.market import decimals

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "DOGEUSDT")


def kline(symbol: str, second: int, **changes: Any) -> dict[str, Any]:
    """The exchange's kline of that second since 1970; every third second is quiet. Ids follow each other, closes are carried on."""
    trades = second % 3
    first = second - 1 if trades else -1
    traded = second - (not trades)
    price = decimals.show(10**8 * (100 + traded % 50))
    fields = {
        "t": second * 1000, "T": second * 1000 + 999, "s": symbol, "i": "1s", "f": first, "L": first + trades - 1 if trades else -1,
        "o": price, "c": price, "h": price, "l": price, "v": "1.50000000" if trades else "0.00000000", "n": trades, "x": True,
        "q": "150.00000000" if trades else "0.00000000", "V": "0.00000000", "Q": "0.00000000", "B": "0",
    }  # fmt: skip  # as the exchange groups them
    return fields | changes


def frame(symbol: str, second: int, **changes: Any) -> str:
    """The combined form's frame of that kline."""
    data = {"e": "kline", "E": second * 1000 + 1040, "s": symbol, "k": kline(symbol, second, **changes)}
    return orjson.dumps({"stream": f"{symbol.lower()}@kline_1s", "data": data}).decode()


def row(symbol: str, second: int) -> list[Any]:
    """The same kline as REST gives it."""
    k = kline(symbol, second)
    return [k["t"], k["o"], k["h"], k["l"], k["c"], k["v"], k["T"], k["q"], k["n"], k["V"], k["Q"], "0"]


class SmallExchange:
    """Serves `/stream` and REST on a free port of localhost; `say` sends to whoever subscribed to a symbol."""

    def __init__(self) -> None:
        """Listen and serve, in threads of its own."""
        self.answers = True
        self.offset_ms = 0
        self.pongs: list[bytes] = []
        self.statuses: dict[str, str] = {}
        """Of symbols that don't trade."""
        self.withheld: set[int] = set()
        """Seconds that REST doesn't have."""
        self.asked: list[tuple[str, int, int]] = []
        """Symbol, first and last second of each request for klines."""
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

    def sessions(self, symbol: str) -> int:
        """How many connections have subscribed to a symbol."""
        with self._lock:
            return len(self._subscribers[symbol])

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
            with contextlib.suppress(ConnectionClosed):  # it went a moment ago
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
                        act = self._subscribers[symbol].add if request["method"] == "SUBSCRIBE" else self._subscribers[symbol].discard
                        act(connection)
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
        found: Any = {"serverTime": time.time_ns() // 1_000_000 + self.offset_ms}
        url = urlsplit(request.path)
        if url.path == "/api/v3/exchangeInfo":
            found = {"symbols": [{"symbol": symbol, "status": self.statuses.get(symbol, "TRADING")} for symbol in SYMBOLS]}
        elif url.path == "/api/v3/klines":
            query = dict(parse_qsl(url.query))
            symbol, first, last = query["symbol"], int(query["startTime"]) // 1000, int(query["endTime"]) // 1000
            self.asked.append((symbol, first, last))
            found = [row(symbol, second) for second in range(first, last + 1) if second not in self.withheld]
        body = orjson.dumps(found)
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(HTTPStatus.OK, "OK", headers, body)
