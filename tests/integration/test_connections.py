"""Connections of venues with other manners than Binance's: one at a time, silent for long, addresses with a secret."""

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from klinestream.runtime.sections import ProducerConfig
from producer.connection import Connection
from producer.dialect import Manners
from producer.feed_metrics import FeedMetrics
from producer.frames import Shutdown
from tests.eventually import eventually

SOON_S = 40.0
SILENCE_S = 1.0  # a pong has as long again to come, on a busy machine too


class Speech:
    """A dialect that takes what comes."""

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self.taken: list[bytes] = []
        self.interruptions = 0

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        assert first_id == 1, "no reply is waited for"
        return [(None, f"{method} {symbol}".encode()) for symbol in symbols]

    def interrupted(self) -> None:
        self.interruptions += 1

    def take(self, raw: bytes, proved: set[str]) -> Shutdown | None:
        self.taken.append(raw)
        proved.add("A")
        return None

    def ages_s(self) -> Mapping[str, float]:
        return {"A": 0.0, "B": 3600.0}


class Venue:
    """Counts the connections that are open, now and at most, and what they were asked."""

    def __init__(self) -> None:
        self.open = self.most = self.opened = 0
        self.asked: list[str] = []
        self.refuses = False
        """Whoever comes while another one is open."""
        self.refused = 0
        self._lock = threading.Lock()
        manners: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
        self._server = serve(self._listen, "127.0.0.1", 0, process_request=self._judge, **manners)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _judge(self, connection: ServerConnection, _request: Request) -> Response | None:
        if not (self.refuses and self.open):
            return None
        self.refused += 1
        return connection.respond(503, "")

    def _listen(self, connection: ServerConnection) -> None:
        with self._lock:
            self.open, self.opened = self.open + 1, self.opened + 1
            self.most = max(self.most, self.open)
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self.asked.append(str(message))
                connection.send(b"said", text=True)
        with self._lock:
            self.open -= 1

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()


@pytest.fixture
def venue() -> Iterator[Venue]:
    opened = Venue()
    yield opened
    opened.close()


@contextmanager
def connected(speech: Speech, metrics: FeedMetrics, **changes: float) -> Iterator[Connection]:
    """A connection of two symbols, kept up while the block lasts."""
    quick = {"silence_s": SILENCE_S, "stall_s": 1.0, "hand_over_s": 2.0, "backoff_first_s": 0.05, "backoff_most_s": 0.1}
    config = ProducerConfig().model_copy(update=quick | changes)  # shorter than the configuration allows
    failures: SimpleQueue[Exception] = SimpleQueue()
    connection = Connection("0.0", ["A", "B"], dialect=speech, config=config, metrics=metrics, failures=failures)
    connection.start()
    try:
        yield connection
    finally:
        connection.stop()
        connection.join(SOON_S)
    assert failures.empty()


def test_a_venue_that_allows_one_connection_never_sees_two(venue: Venue) -> None:
    """A planned end closes the old one before the next one opens, tells so, and each asks for all symbols."""
    metrics = FeedMetrics("test", "test")
    speech = Speech(Manners(venue.url, overlap=False, sparse=True, request_pause_s=0.0))
    with connected(speech, metrics, session_s=0.5):
        eventually(lambda: venue.opened >= 3, SOON_S, "it is handed over twice")
        eventually(lambda: len(venue.asked) >= 6, SOON_S, "all is asked for")
        assert speech.interruptions >= 2, "the second between them may lack trades"
    assert venue.most == 1
    assert venue.asked[:6] == ["SUBSCRIBE A", "SUBSCRIBE B"] * 3
    assert metrics.registry.get_sample_value("klinestream_feed_hand_overs_total", {"outcome": "replaced"}) >= 2  # type: ignore[operator]


class Retiring(Speech):
    """One of which the venue says at once that the connection is about to end."""

    def take(self, raw: bytes, proved: set[str]) -> Shutdown | None:
        super().take(raw, proved)
        return Shutdown() if len(self.taken) == 1 else None


def test_a_hand_over_that_failed_is_tried_again(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the next session is refused the old one goes on, and the next try doesn't wait for the length of a session."""
    monkeypatch.setattr("producer.connection._REPLACED_EVERY_S", 0.2)
    metrics = FeedMetrics("test", "test")
    venue.refuses = True
    with connected(Retiring(Manners(venue.url, sparse=True, request_pause_s=0.0)), metrics, session_s=3600.0):
        eventually(lambda: venue.refused >= 2, SOON_S, "it is tried again")
        assert venue.opened == 1
        venue.refuses = False
        eventually(lambda: venue.opened == 2 and venue.open == 1, SOON_S, "it is handed over")
    assert metrics.registry.get_sample_value("klinestream_feed_hand_overs_total", {"outcome": "proved"}) == 1


def test_silence_that_a_pong_breaks_is_no_fault(venue: Venue) -> None:
    """A venue that says nothing and answers pings keeps its connection, and no symbol counts as stalled."""
    metrics = FeedMetrics("test", "test")
    with connected(Speech(Manners(venue.url, sparse=True, request_pause_s=0.0)), metrics) as connection:
        eventually(lambda: venue.opened == 1, SOON_S, "it is open")
        until_s = time.monotonic() + 4 * SILENCE_S
        eventually(lambda: time.monotonic() > until_s, SOON_S, "it was silent for long")
        assert connection.quiet_s < 2 * SILENCE_S
    assert venue.opened == 1
    assert metrics.registry.get_sample_value("klinestream_feed_stalled_symbols_total") == 0


def test_silence_without_a_pong_ends_the_connection() -> None:
    """A venue that answers nothing at all is left after two silences, and tried again."""
    listening = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def answer_handshakes() -> None:
        with contextlib.suppress(OSError):
            while True:
                opened, _ = listening.accept()
                held.append(opened)
                key = next(line for line in opened.recv(4096).split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
                digest = hashlib.sha1(key.split(b":")[1].strip() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
                opened.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                    + base64.b64encode(digest)
                    + b"\r\n\r\n"
                )

    thread = threading.Thread(target=answer_handshakes)
    thread.start()
    metrics = FeedMetrics("test", "test")
    address = f"ws://127.0.0.1:{listening.getsockname()[1]}"
    with connected(Speech(Manners(address, sparse=True, request_pause_s=0.0)), metrics):
        eventually(lambda: len(held) >= 2, SOON_S, "it is tried again")
    assert metrics.registry.get_sample_value("klinestream_feed_reconnects_total", {"reason": "silent"}) >= 1  # type: ignore[operator]
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()
    for one in held:
        one.close()


def test_a_secret_in_the_address_is_never_logged() -> None:
    """Not where the venue can't be reached, in neither address nor error."""
    url = "ws://127.0.0.1:9/?token=c0ffee"
    metrics = FeedMetrics("test", "test")
    with capture_logs() as logs, connected(Speech(Manners(url, fallback_url=url.replace("9/", "8/"))), metrics):
        eventually(lambda: len([line for line in logs if "not reached" in line["event"]]) > 1, SOON_S, "it was tried")
    assert "127.0.0.1" in str(logs)
    assert "c0ffee" not in str(logs)
