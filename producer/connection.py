"""One connection to the exchange, kept up by one thread."""

import enum
import random
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import structlog
import websocket
from websocket import ABNF, WebSocket, WebSocketConnectionClosedException, WebSocketException, WebSocketTimeoutException

from klinestream.runtime.config import ProducerConfig
from producer.backoff import pauses
from producer.frames import Reply, Shutdown
from producer.groups import Group, subscriptions
from producer.intake import Intake
from producer.metrics import Metrics

log = structlog.get_logger()

_OPEN_S = 5.0
_HEALTHY_S = 30.0  # a connection that lived this long was no part of a failing series
_REPLY_S = 10.0
_READ_BYTES = 64 * 1024
# The exchange ends a connection that sends more than five messages a second, pongs included: three leave room for them.
_REQUEST_PAUSE_S = 0.34


class _ReadAhead(WebSocket):  # type: ignore[misc]  # the library ships no types
    """The library asks the socket three times for each frame, for its header, its length and its payload: a third of its time."""

    _ahead = b""
    _at = 0

    def _recv(self, bufsize: int) -> bytes:
        if self._at >= len(self._ahead):
            self._ahead = super()._recv(_READ_BYTES)
            self._at = 0
        found = self._ahead[self._at : self._at + bufsize]
        self._at += len(found)
        return found


class End(enum.StrEnum):
    """Why a connection ended."""

    REFUSED = "refused"
    CLOSED = "closed"
    LOST = "lost"
    SILENT = "silent"
    SHUTDOWN = "shutdown"
    UNANSWERED = "unanswered"
    PROTOCOL = "protocol"


class Connection(threading.Thread):
    """Reads the streams of one group until `stop`; an error that it can't mend goes to `failures` and ends it."""

    def __init__(
        self, group: Group, url: str, config: ProducerConfig, *, intake: Intake, metrics: Metrics, failures: "SimpleQueue[Exception]"
    ) -> None:
        """`url` is the exchange's address for combined streams."""
        super().__init__(name=f"connection-{group.name}", daemon=True)
        self._group = group
        self._url = url
        self._config = config
        self._intake = intake
        self._metrics = metrics
        self._failures = failures
        self._stopped = threading.Event()
        self._socket: WebSocket | None = None
        self._log = log.bind(connection=group.name)

    def stop(self) -> None:
        """Ask it to end; it does so at once, unless Kafka blocks it."""
        self._stopped.set()
        socket = self._socket
        if socket is not None:
            socket.abort()

    def run(self) -> None:
        """The thread's work."""
        try:
            self._keep_connected()
        except Exception as error:
            self._failures.put(error)

    def _keep_connected(self) -> None:
        """The whole policy of reconnecting."""
        waits = self._pauses()
        while not self._stopped.is_set():
            began_s = time.monotonic()
            end = self._session()
            if self._stopped.is_set():
                return
            if time.monotonic() - began_s >= _HEALTHY_S:
                waits = self._pauses()
            wait_s = next(waits)
            self._metrics.reconnects.labels(end.value).inc()
            self._log.warning("connection ended, reconnecting", reason=end.value, wait_s=round(wait_s, 3))
            self._stopped.wait(wait_s)

    def _pauses(self) -> Iterator[float]:
        return pauses(self._config.backoff_first_s, self._config.backoff_most_s, random.uniform)

    def _session(self) -> End:
        """One connection from its opening to its end."""
        try:
            socket = websocket.create_connection(self._url, timeout=_OPEN_S, class_=_ReadAhead, skip_utf8_validation=True)
        except (WebSocketException, OSError) as error:
            self._log.warning("exchange not reached, check exchange.websocket_url and the network", url=self._url, error=str(error))
            return End.REFUSED
        self._socket = socket
        self._metrics.connections.inc()
        try:
            socket.settimeout(self._config.silence_s)
            return self._receive(socket, self._subscribe(socket))
        except WebSocketTimeoutException:
            return End.SILENT
        except WebSocketConnectionClosedException:
            return End.CLOSED
        except WebSocketException as error:
            self._log.warning("websocket protocol broken", error=str(error))
            return End.PROTOCOL
        except OSError as error:
            self._log.warning("connection broken", error=str(error))
            return End.LOST
        finally:
            self._metrics.connections.dec()
            self._socket = None
            socket.shutdown()

    def _subscribe(self, socket: WebSocket) -> set[int]:
        """Ask for all streams of the group; returns the ids that wait for a reply."""
        requests = subscriptions(self._group.streams)
        for request in requests:
            socket.send(request)
            if self._stopped.wait(_REQUEST_PAUSE_S):
                break
        self._log.info("subscribed", streams=len(self._group.streams), requests=len(requests))
        return set(range(1, len(requests) + 1))

    def _receive(self, socket: WebSocket, unanswered: set[int]) -> End:
        heard_s = time.monotonic()
        answers_until_s = heard_s + _REPLY_S
        while not self._stopped.is_set():
            opcode, data = socket.recv_data(control_frame=True)
            now_s = time.monotonic()
            if opcode == ABNF.OPCODE_CLOSE:
                self._log.info("closed by the exchange", code=int.from_bytes(data[:2], "big"), reason=data[2:].decode(errors="replace"))
                return End.CLOSED
            if opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG):
                # The library has answered the ping; a connection that only pings is silent all the same.
                if now_s - heard_s > self._config.silence_s:
                    return End.SILENT
                continue
            heard_s = now_s
            said = self._intake.take(data)
            if isinstance(said, Shutdown):
                self._log.info("the exchange is about to end the connection")
                return End.SHUTDOWN
            if said is not None:
                self._answered(said, unanswered)
            if unanswered and now_s > answers_until_s:
                self._log.warning("subscriptions not answered", requests=sorted(unanswered))
                return End.UNANSWERED
        return End.CLOSED

    def _answered(self, reply: Reply, unanswered: set[int]) -> None:
        if reply.error:
            self._metrics.request_errors.inc()
            self._log.error("subscription refused, its symbols will not come", request=reply.id, error=reply.error)
        if reply.id is not None:
            unanswered.discard(reply.id)
