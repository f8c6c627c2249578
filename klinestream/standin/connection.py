"""One open websocket: carries out what its session decides, and sends frames without ever waiting for its client."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from klinestream.standin import streams, wire
from klinestream.standin.faults import Faults, like
from klinestream.standin.frames import Frame
from klinestream.standin.metrics import Metrics
from klinestream.standin.session import Action, Close, Dialogue, Ping, Pong, Reply

# Past that the client can't be sending requests any more.
MESSAGE_BYTES_MOST = 1 << 20
CLOSE_TIMEOUT_S = 1.0

log = structlog.get_logger()


class Connection:
    """A client and what it gets."""

    def __init__(self, number: int, session: Dialogue, metrics: Metrics, *, opened_ms: int, buffer_bytes: int) -> None:
        """`buffer_bytes`: a client with more than that unread is disconnected."""
        self.number = number
        self.session = session
        self.opened_ms = opened_ms
        self.remote = ""
        self.frames = 0
        self.silent_until_ms = 0
        self.close_at_ms: int | None = None
        self._metrics = metrics
        self._buffer_bytes = buffer_bytes
        self._held: dict[str, Frame] = {}
        # Pings and pongs are the session's business; that is why aiohttp must not answer them.
        self._socket = web.WebSocketResponse(autoping=False, timeout=CLOSE_TIMEOUT_S, max_msg_size=MESSAGE_BYTES_MOST, compress=True)
        self._transport: asyncio.Transport | None = None
        self._closing: asyncio.Task[bool] | None = None

    async def serve(self, request: web.Request, clock_ms: Callable[[], int], changed: Callable[[], None]) -> web.WebSocketResponse:
        """Shake hands and read until the end; `changed` is called after each message that may have changed subscriptions."""
        await self._socket.prepare(request)
        self._transport = request.transport
        self.remote = request.remote or ""
        changed()
        async for message in self._socket:
            now_ms = clock_ms()
            match message.type:
                case WSMsgType.TEXT:
                    self._carry_out(self.session.message(message.data.encode(), now_ms), now_ms)
                    changed()
                case WSMsgType.BINARY:
                    self._carry_out(self.session.message(message.data, now_ms), now_ms)
                    changed()
                case WSMsgType.PING:
                    self._carry_out(self.session.ping(bytes(message.data), now_ms), now_ms)
                case WSMsgType.PONG:
                    self._carry_out(self.session.pong(bytes(message.data), now_ms), now_ms)
                case _:
                    break
        if self._closing is not None:
            await self._closing
        return self._socket

    @property
    def unread_bytes(self) -> int:
        """How much of what was sent the client has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def carries(self, pattern: str) -> bool:
        """Whether it has a stream like that; `*` is any connection, also one without streams."""
        return pattern == "*" or any(like(name, pattern) for name in self.session.subscriptions)

    def push(self, frames: Sequence[Frame], faults: Faults, now_ms: int) -> None:
        """Send those of these frames that it subscribed, in one write."""
        subscribed = self.session.subscriptions
        chosen = [frame for frame in frames if frame.stream.name in subscribed]
        self.tell(chosen, faults, now_ms)

    def tell(self, frames: Sequence[Frame], faults: Faults, now_ms: int) -> None:
        """Send frames that are meant for it, in one write, as faults have them."""
        self.send(faults.distort(frames, self._held, now_ms), now_ms)

    def announce_shutdown(self, frame: Frame, now_ms: int, close_at_ms: int) -> None:
        """Send serverShutdown, which nobody subscribes, where the venue does so, and close later."""
        if self.session.announces_shutdown:
            self.send([frame], now_ms)
        self.close_at_ms = close_at_ms

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        if self.close_at_ms is not None and now_ms >= self.close_at_ms:
            self.close(WSCloseCode.GOING_AWAY, "Server is shutting down")
        elif now_ms >= self.session.due_ms:
            self._carry_out(self.session.tick(now_ms), now_ms)

    def send(self, frames: Iterable[Frame], now_ms: int) -> None:
        """Send frames, whether subscribed or not."""
        session, deflated = self.session, bool(self._socket.compress)
        wires = [(frame.stream.kind, frame.wire(session.unit, combined=session.combined, deflated=deflated)) for frame in frames]
        if wires and self._write(b"".join(data for _, data in wires), now_ms):
            self.frames += len(wires)
            for kind, count in Counter(kind for kind, _ in wires).items():
                self._metrics.frames.labels(kind).inc(count)

    def close(self, code: int, reason: str) -> None:
        """Begin to close; reading goes on until the client has answered, or a second has passed."""
        if self._closing is None and self._transport is not None:
            self.session.closed = True
            self._metrics.closed.labels(reason).inc()
            log.info("connection closed", connection=self.number, code=code, reason=reason)
            self._closing = asyncio.create_task(self._socket.close(code=code, message=reason.encode()))

    def abort(self, reason: str) -> None:
        """Break it off, without a word to the client."""
        if self._transport is not None:
            self.session.closed = True
            self._metrics.closed.labels(reason).inc()
            log.info("connection broken off", connection=self.number, reason=reason)
            self._transport.abort()

    def _carry_out(self, actions: Iterable[Action], now_ms: int) -> None:
        for action in actions:
            match action:
                case Reply(text):
                    self._write(wire.deflated_frame(text) if self._socket.compress else wire.frame(text), now_ms)
                case Ping(payload):
                    self._write(wire.frame(payload, wire.Opcode.PING), now_ms)
                case Pong(payload):
                    self._write(wire.frame(payload, wire.Opcode.PONG), now_ms)
                case Close(code, reason):
                    self.close(code, reason)

    def _write(self, data: bytes, now_ms: int) -> bool:
        """Straight to the transport: aiohttp's own way is a call and a system call for each of a burst's frames.

        The two don't mix within a frame, since aiohttp writes none here but the close frame.
        """
        if self._transport is None or self._transport.is_closing() or self._closing is not None or now_ms < self.silent_until_ms:
            return False
        self._transport.write(data)
        self._metrics.bytes.inc(len(data))
        if self._transport.get_write_buffer_size() > self._buffer_bytes:
            self.abort("too slow")
        return True


def wanted(connections: Iterable[Connection]) -> Iterable[streams.Stream]:
    """The streams that at least one connection subscribed."""
    names = dict.fromkeys(name for connection in connections for name in connection.session.subscriptions)
    return (stream for stream in map(streams.parse, names) if stream is not None)
