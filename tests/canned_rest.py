"""A REST interface on localhost that answers as the test says, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from klinestream.market.events import SECOND_MS


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; `body` is JSON, or bytes as they are. Status 0 cuts the connection."""

    body: Any = field(default_factory=list)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[dict[str, str]], Answer]


def row(second_ms: int, **changes: Any) -> list[Any]:
    """A kline as REST gives it."""
    cells = {
        "t": second_ms, "o": "1.50000000", "h": "2.00000000", "l": "1.00000000", "c": "1.75000000", "v": "10.00000000",
        "T": second_ms + SECOND_MS - 1, "q": "15.00000000", "n": 3, "V": "4.00000000", "Q": "6.00000000", "B": "0",
    }  # fmt: skip  # as the exchange groups them
    return list((cells | changes).values())


def all_klines(query: dict[str, str]) -> Answer:
    """Every second that was asked for."""
    return Answer([row(ms) for ms in range(int(query["startTime"]), int(query["endTime"]), SECOND_MS)])


class CannedRest:
    """Answers each request with what `answer` returns for its query."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.answer: Answering = all_klines
        self.asked: list[dict[str, str]] = []
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet: its second half would wait for the first one's acknowledgement

            def do_GET(self) -> None:  # as http.server calls it
                canned._reply(self)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, handler: BaseHTTPRequestHandler) -> None:
        query = dict(parse_qsl(urlsplit(handler.path).query))
        self.asked.append(query)
        answer = self.answer(query)
        if not answer.status:
            handler.close_connection = True
            return
        body = answer.body if isinstance(answer.body, bytes) else orjson.dumps(answer.body)
        handler.send_response_only(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def canned_rest() -> Iterator[CannedRest]:
    """Serve while the context lasts."""
    served = CannedRest()
    try:
        yield served
    finally:
        served.close()
