"""One websocket, from its opening to its end, read by one thread."""

import enum
import threading
import time
from collections.abc import Callable, Iterable

import structlog
import websocket
from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketConnectionClosedException,
    WebSocketException,
    WebSocketTimeoutException,
)

from klinestream.runtime.sections import ProducerConfig
from producer.dialect import ConnectionMetrics, Dialect, shown
from producer.frames import Reply, Shutdown

log = structlog.get_logger()

_OPEN_S = 5.0
_REPLY_S = 10.0
_READ_BYTES = 64 * 1024
_BLOCKED = 451  # HTTP: unavailable for legal reasons


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
    """Why a session ended."""

    REFUSED = "refused"
    BLOCKED = "blocked"
    CLOSED = "closed"
    LOST = "lost"
    SILENT = "silent"
    UNANSWERED = "unanswered"
    PROTOCOL = "protocol"


class Session(threading.Thread):
    """Opens, subscribes and reads until it ends or is stopped; `ended` and `retiring` are called by its thread."""

    def __init__(
        self,
        name: str,
        url: str,
        config: ProducerConfig,
        *,
        dialect: Dialect,
        symbols: Iterable[str],
        metrics: ConnectionMetrics,
        ended: Callable[["Session", End | Exception], None],
        retiring: Callable[["Session"], None],
    ) -> None:
        """`url` is the dialect's own, or what takes its place; `retiring`: the exchange says that it is about to end it."""
        super().__init__(name=f"session-{name}", daemon=True)
        self.proved: set[str] = set()
        """Symbols whose series goes on with what this session delivers."""
        self.heard_s = 0.0
        """When anything came the last time, answers to pings included; 0 if nothing did."""
        self._url = url
        self._config = config
        self._dialect = dialect
        self._symbols = list(symbols)
        self._metrics = metrics
        self._ended = ended
        self._retiring = retiring
        self._stopped = threading.Event()
        self._socket: WebSocket | None = None
        self._next_id = 1
        self._requesting = threading.Lock()
        self._unanswered: dict[int, float] = {}
        self._log = log.bind(connection=name)

    def stop(self) -> None:
        """Ask it to end; it does so at once, unless Kafka blocks it."""
        self._stopped.set()
        socket = self._socket
        if socket is not None:
            socket.abort()

    def change(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """Carry other symbols too, or some no longer."""
        plus, minus = list(added), list(removed)
        with self._requesting:
            self._symbols = [*(symbol for symbol in self._symbols if symbol not in minus), *plus]
            if self._socket is not None:
                self._request(self._socket, "SUBSCRIBE", plus)
                self._request(self._socket, "UNSUBSCRIBE", minus)

    def _request(self, socket: WebSocket, method: str, symbols: list[str]) -> None:
        """Ask at the exchange's pace."""
        for number, text in self._dialect.requests(method, symbols, self._next_id):
            if number is not None:
                self._next_id = number + 1
                self._unanswered[number] = time.monotonic() + _REPLY_S
            try:
                socket.send(text)
            except (WebSocketException, OSError) as error:
                self._log.warning("request not sent, the session is ending", method=method, error=str(error))
                return
            if self._stopped.wait(self._dialect.manners.request_pause_s):
                return

    def run(self) -> None:
        """The thread's work."""
        try:
            end: End | Exception = self._life()
        except Exception as error:
            end = error
        self._ended(self, end)

    def _life(self) -> End:
        try:
            socket = websocket.create_connection(
                self._url, timeout=_OPEN_S, class_=_ReadAhead, skip_utf8_validation=True, enable_multithread=True
            )
        except (WebSocketException, OSError) as error:
            address = shown(self._url)
            told = str(error).replace(self._url, address)  # the library may repeat the address, with what is secret in it
            self._log.warning("exchange not reached, check exchange.websocket_url and the network", url=address, error=told)
            blocked = isinstance(error, WebSocketBadStatusException) and error.status_code == _BLOCKED
            return End.BLOCKED if blocked else End.REFUSED
        self._metrics.connections.inc()
        try:
            return self._read(socket)
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

    def _read(self, socket: WebSocket) -> End:
        socket.settimeout(self._config.silence_s)
        with self._requesting:
            self._socket = socket
            self._request(socket, "SUBSCRIBE", self._symbols)
            self._log.info("subscribed", streams=len(self._symbols))
        return self._receive(socket)

    def _receive(self, socket: WebSocket) -> End:
        heard_s = self.heard_s = time.monotonic()
        take, sparse = self._dialect.take, self._dialect.manners.sparse
        pinged = False
        while not self._stopped.is_set():
            try:
                opcode, data = socket.recv_data(control_frame=True)
            except WebSocketTimeoutException:
                if not sparse or pinged:
                    return End.SILENT
                pinged = True
                socket.ping()
                continue
            now_s, pinged = time.monotonic(), False
            self.heard_s = now_s
            if opcode == ABNF.OPCODE_CLOSE:
                self._log.info("closed by the exchange", code=int.from_bytes(data[:2], "big"), reason=data[2:].decode(errors="replace"))
                return End.CLOSED
            if opcode in (ABNF.OPCODE_PING, ABNF.OPCODE_PONG):
                # The library has answered the ping; a connection that only pings is silent all the same, where silence is no rule.
                if not sparse and now_s - heard_s > self._config.silence_s:
                    return End.SILENT
                continue
            heard_s = now_s
            said = take(data, self.proved)
            if isinstance(said, Shutdown):
                self._log.info("the exchange is about to end the connection")
                self._retiring(self)
            elif said is not None:
                self._answered(said)
            if self._unanswered and now_s > min(list(self._unanswered.values()), default=now_s):
                self._log.warning("requests not answered", requests=sorted(self._unanswered))
                return End.UNANSWERED
        return End.CLOSED

    def _answered(self, reply: Reply) -> None:
        if reply.error:
            self._metrics.request_errors.inc()
            self._log.error("subscription refused, its symbols will not come", request=reply.id, error=reply.error)
        if reply.id is not None:
            self._unanswered.pop(reply.id, None)
