"""A web address on localhost that takes what is posted, answers as the test says, and remembers it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

PATH = "/services/T0/token-of-mine"


@dataclass(frozen=True, slots=True)
class Posted:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """Its Idempotency-Key."""
        return self.headers["Idempotency-Key"]

    @property
    def message(self) -> dict[str, Any]:
        """Its body, as JSON."""
        found: dict[str, Any] = orjson.loads(self.body)
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back. Status 0 cuts the connection."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Receiver:
    """Answers each request with what `answer` returns for it."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.answer: Callable[[Posted], Reply] = lambda _: Reply()
        self.posted: list[Posted] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one packet

            def do_POST(self) -> None:  # as http.server calls it
                receiver._take(self)

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}?key=hush"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def keys(self) -> list[str]:
        """The keys of all requests in the order in which they came."""
        return [one.key for one in self.posted]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        posted = Posted(handler.path, dict(handler.headers), handler.rfile.read(int(handler.headers["Content-Length"])))
        reply = self.answer(posted)
        self.posted.append(posted)
        if not reply.status:
            handler.close_connection = True
            return
        handler.send_response_only(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Serve while the context lasts."""
    served = Receiver()
    try:
        yield served
    finally:
        served.close()
