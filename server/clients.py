"""Fan-out: what comes from the feed goes into the history, and once encoded into the outbox of each client that follows it.

All of it runs in the event loop's thread, so nothing here needs a lock. What a client may ask is decided by `Hub`, or by
`stream.Stream` for version 2 of the protocol, and by `Allowance`; `serve` only carries messages between them and the socket.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from klinestream.runtime.access.allowances import Allowance
from klinestream.runtime.server_sections import ServerConfig
from server import protocol
from server.client import POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER, Client, Closed
from server.history import Entry, History
from server.link import Link, binary_frame, link_of, text_frame
from server.metrics import Metrics
from server.outbox import Message, Moment, Outbox, Update
from server.stream.encoding import JSON, Encoding
from server.stream.stream import TOO_SLOW, Stream

SEND_MOST_S = 10.0
"""A client that takes nothing for this long is closed: conflation did not help either."""
CLOSE_MOST_S = 5.0
"""How long the closing frame may wait behind what the client has not taken."""
SENT_AT_ONCE_BYTES = 16 * 1024
"""Small messages that wait for a client go out together."""
MADE_AT_ONCE_S = 0.001
"""Answers that took this long to make, and may go on for hundreds of records, let others have their turn."""
ANSWER_PAUSE = 3.0
"""For so many times as long as they took."""

log = structlog.get_logger()


class Hub:
    """The history, and who follows which symbol. `now_ms` is the wall clock."""

    def __init__(self, config: ServerConfig, history: History, stream: Stream, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        """Start with nobody; `stream` has the clients of version 2."""
        self.history = history
        self.metrics = metrics
        self._stream = stream
        self._stream.on_written = self._written
        self._config = config
        self._now_ms = now_ms
        self._clients: set[Client] = set()
        self._followers: dict[str, set[Client]] = {}
        self._changes = 0

    @property
    def changes(self) -> int:
        """How often a symbol got its first follower, or lost its last one."""
        return self._changes + self._stream.changes

    def followers(self) -> dict[str, int]:
        """Symbol, as clients asked for it → how many follow it."""
        return Counter({symbol: len(clients) for symbol, clients in self._followers.items()}) + Counter(self._stream.followers())

    def join(self, encoding: Encoding | None = None, link: Link | None = None) -> Client:
        """A new client, of version 2 if an encoding was asked for; raises Closed if there are too many."""
        if len(self._clients) >= self._config.max_clients:
            raise Closed(TRY_AGAIN_LATER, f"expected at most {self._config.max_clients} clients: try again later")
        client = Client(Outbox(self._config.client_queue), link)
        self._clients.add(client)
        if encoding is not None:
            self._stream.join(client, encoding)
        self.metrics.clients.set(len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        """Forget a client."""
        for symbol in tuple(client.symbols):
            self._unfollow(client, symbol)
        self._stream.leave(client)
        self._clients.discard(client)
        self.metrics.clients.set(len(self._clients))
        self.metrics.conflated.inc(client.waiting.conflated)

    def handle(self, client: Client, text: str) -> None:
        """Do what a client's message says and queue the answer; raises Closed."""
        try:
            found = protocol.object_of(text)
            if client.follower is None and not client.symbols and "kinds" in found:
                self._stream.join(client, JSON)
            if client.follower is not None:
                self._stream.handle(client, client.follower, found)
                return
            message = protocol.read(found)
            if isinstance(message, protocol.Unsubscribe):
                self._unfollow(client, message.symbol)
                return
            self._follow(client, message.symbol)
            answer = self._from_cursor(message) or self._snapshot(message.symbol)
        except protocol.MessageError as fault:
            if client.follower is not None:
                self._stream.fault(client, client.follower, fault)
                return
            answer = protocol.error(fault)
        if not client.outbox.reply(answer):
            raise Closed(POLICY_VIOLATION, TOO_SLOW)
        client.rouse()

    def publish(self, entries: Sequence[Entry]) -> None:
        """Hold a batch as it was read, and queue what is new for all who follow it."""
        started_s = time.perf_counter()
        news: dict[str, list[Entry]] = {}
        for entry in entries:
            if self.history.add(entry):
                news.setdefault(entry.symbol, []).append(entry)
            else:
                self.metrics.repeated.inc()
        self.metrics.read.inc(len(entries))
        moment = Moment(entries[-1].end_ms, entries[-1].published_ms) if entries else Moment()
        self._put(news, moment)
        if news:
            self._stream.windows(news, moment)
        self.metrics.encode_seconds.observe(time.perf_counter() - started_s)

    def restart(self, starts: Mapping[int, int]) -> None:
        """Reading starts anew from these offsets: cursors mean nothing any more, so all clients have to come again."""
        known = self.history.newest_end_ms is not None
        self.history.begin(starts)
        # Before the first window nobody holds a cursor.
        for client in self._clients if known else ():
            client.ended = Closed(SERVICE_RESTART, "the topic is another one now: subscribe again")
            client.rouse()

    def heartbeat(self) -> None:
        """Queue a heartbeat for all clients."""
        text = protocol.heartbeat(self._now_ms(), self.history.newest_end_ms)
        frame = text_frame(text.encode())
        for client in self._clients:
            if client.follower is not None:
                continue
            if not client.write(frame):
                client.outbox.heartbeat(text)
                client.rouse()
        self._stream.heartbeat()

    def sent(self, message: Message) -> None:
        """Account for a message that a client's socket has taken."""
        if message.moment is not None:
            self._written(message.moment, 1)

    def _written(self, moment: Moment, times: int) -> None:
        self.metrics.sent.inc(times)
        now_ms = self._now_ms()
        if moment.end_ms is not None:
            self.metrics.end_to_sent_seconds.observe(max(0, now_ms - moment.end_ms) / 1000, times)
        if moment.published_ms is not None:
            self.metrics.published_to_sent_seconds.observe(max(0, now_ms - moment.published_ms) / 1000, times)

    def _put(self, news: Mapping[str, Sequence[Entry]], moment: Moment) -> None:
        """Queue updates of version 1, or write them at once: all of a client's in one go."""
        found: dict[Client, list[tuple[Update, bytes]]] = {}
        for symbol in news.keys() & self._followers.keys():
            update = _update(symbol, news[symbol])
            framed = update, text_frame(update.text.encode())
            for client in self._followers[symbol]:
                found.setdefault(client, []).append(framed)
        for client, theirs in found.items():
            if client.write(b"".join(frame for _, frame in theirs)):
                self._written(moment, len(theirs))
                continue
            for update, _ in theirs:
                client.outbox.put(update)
            client.rouse()

    def _follow(self, client: Client, symbol: str) -> None:
        most = self._config.max_subscriptions
        if symbol not in client.symbols and len(client.symbols) >= most:
            raise protocol.MessageError(f"at most {most} symbols a client: unsubscribe from one first", f"{symbol!r} besides {most}")
        # What waits for it is part of the answer that follows.
        client.outbox.forget(symbol)
        client.symbols.add(symbol)
        if symbol not in self._followers:
            self._followers[symbol] = set()
            self._changes += 1
        self._followers[symbol].add(client)

    def _unfollow(self, client: Client, symbol: str) -> None:
        client.symbols.discard(symbol)
        client.outbox.forget(symbol)
        followers = self._followers.get(symbol, set())
        followers.discard(client)
        if not followers and self._followers.pop(symbol, None) is not None:
            self._changes += 1

    def _from_cursor(self, message: protocol.Subscribe) -> str | None:
        if message.cursor is None:
            return None
        missed = self.history.since(message.symbol, message.cursor)
        return None if missed is None else protocol.update(message.symbol, missed.values, missed.cursor)

    def _snapshot(self, symbol: str) -> str:
        held = self.history.snapshot(symbol)
        return protocol.snapshot(
            symbol,
            held.values,
            held.cursor,
            now_ms=self._now_ms(),
            span_ms=self._config.history_s * 1000,
            stale_after_ms=round(self._config.stale_after_s * 1000),
        )


def _update(symbol: str, entries: Sequence[Entry]) -> Update:
    values = tuple(entry.value for entry in entries)
    cursor = {entry.partition: entry.offset + 1 for entry in entries}
    last = entries[-1]
    return Update(symbol, values, cursor, protocol.update(symbol, values, cursor), last.end_ms, last.published_ms)


async def serve(websocket: WebSocket, hub: Hub, config: ServerConfig, encoding: Encoding | None = None) -> None:
    """Carry messages between an accepted websocket and the hub until one of them ends it."""
    try:
        client = hub.join(encoding, link_of(websocket))
    except Closed as full:
        hub.metrics.refused.labels("full").inc()
        await websocket.close(full.code, full.reason)
        return
    closed: Closed | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(websocket, hub, client))
            await _receive(websocket, hub, client, Allowance(config.messages_per_s, time.monotonic()))
            sending.cancel()
    except* Closed as group:
        closed = _first(group)
    except* WebSocketDisconnect:
        pass  # the client is gone: nobody is left to tell
    finally:
        hub.leave(client)
    if closed is not None:
        await _close(websocket, hub, closed)


async def _close(websocket: WebSocket, hub: Hub, closed: Closed) -> None:
    hub.metrics.closed.labels(closed.reason.partition(":")[0]).inc()
    log.info("client closed", code=closed.code, reason=closed.reason)
    with contextlib.suppress(TimeoutError, WebSocketDisconnect):
        async with asyncio.timeout(CLOSE_MOST_S):
            await websocket.close(closed.code, closed.reason)


def _first(group: BaseExceptionGroup[Closed]) -> Closed:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


async def _receive(websocket: WebSocket, hub: Hub, client: Client, allowance: Allowance) -> None:
    while True:
        event = await websocket.receive()
        if event["type"] == "websocket.disconnect":
            return
        if not allowance.spend(time.monotonic()):
            raise Closed(POLICY_VIOLATION, "too many messages: see messages_per_s")
        text = event.get("text")
        if text is None:
            raise Closed(POLICY_VIOLATION, "binary message: expected text")
        hub.handle(client, text)


async def _send(websocket: WebSocket, hub: Hub, client: Client) -> None:
    while True:
        client.idle = not client.wake.is_set()
        await client.wake.wait()
        client.idle = False
        client.wake.clear()
        if client.ended is not None:
            raise client.ended
        while messages := _next(client):
            if client.link is not None and client.link.lost:
                return  # whoever receives is about to be told
            made_s = sum(made_s for _, made_s in messages)
            if client.link is None or not client.link.write(b"".join(_frame(message) for message, _ in messages)):
                for message, _ in messages:
                    await _send_one(websocket, message)
            for message, _ in messages:
                hub.sent(message)
            if made_s > MADE_AT_ONCE_S:
                await asyncio.sleep(ANSWER_PAUSE * made_s)


def _next(client: Client) -> list[tuple[Message, float]]:
    """Some of what waits, small messages together, each with the seconds that it took to make if it is an answer."""
    found: list[tuple[Message, float]] = []
    size, made_s, began_s = 0, 0.0, time.perf_counter()
    while size < SENT_AT_ONCE_BYTES and made_s < MADE_AT_ONCE_S and (message := client.waiting.take()) is not None:
        took_s = time.perf_counter() - began_s if message.moment is None else 0.0
        found.append((message, took_s))
        size += len(message.text)
        made_s += took_s
        began_s = time.perf_counter()
    return found


def _frame(message: Message) -> bytes:
    return text_frame(message.text.encode()) if isinstance(message.text, str) else binary_frame(message.text)


async def _send_one(websocket: WebSocket, message: Message) -> None:
    try:
        async with asyncio.timeout(SEND_MOST_S):
            if isinstance(message.text, str):
                await websocket.send_text(message.text)
            else:
                await websocket.send_bytes(message.text)
    except TimeoutError:
        raise Closed(POLICY_VIOLATION, f"too slow: nothing was taken for {SEND_MOST_S:.0f} s") from None
