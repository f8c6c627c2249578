"""One websocket connection of the exchange as a pure state machine: what came in and the time in, actions out.

    opened ── 20 s ──► Ping ── 20 s ──► Ping ── 20 s ──► Ping ── 20 s ──► Close 1008 "Pong timeout"
                        └──────────── 60 s without its pong ────────────────┘

Whoever holds the socket calls `message`, `ping` and `pong` with what arrives, and `tick` when `due_ms` has come, and
carries out the actions in order. After a Close nothing follows. The rules and texts are those of Binance Spot's
websocket streams (binance-spot-api-docs, web-socket-streams.md).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from klinestream.market.events import SECOND_MS
from klinestream.standin import control
from klinestream.standin.control import Code, GetCombined, ListSubscriptions, Refusal, Request, SetCombined, Subscribe, Unsubscribe
from klinestream.standin.frames import Unit


@dataclass(frozen=True, slots=True)
class Rules:
    """The exchange's limits, each adjustable."""

    messages_per_s: int = 5
    streams: int = 1024
    request_bytes: int = 4096
    ping_ms: int = 20_000
    pong_ms: int = 60_000
    session_ms: int = 86_400_000


@dataclass(frozen=True, slots=True)
class Reply:
    """Send this text frame."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping with this payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Send a pong with this payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection; nothing follows."""

    code: int
    reason: str


Action = Reply | Ping | Pong | Close

TOO_MANY_REQUESTS = Close(1008, "Too many requests")
PONG_TIMEOUT = Close(1008, "Pong timeout")
SESSION_OVER = Close(1001, "Session is over")


class Dialogue(Protocol):
    """What a connection has to know of a venue's protocol: subscriptions by name, and what to answer."""

    combined: bool
    unit: Unit
    closed: bool
    announces_shutdown: bool
    subscriptions: dict[str, None]

    @property
    def due_ms(self) -> int:
        """When `tick` has something to do next."""

    def message(self, raw: bytes, now_ms: int, /) -> Sequence[Action]:
        """A text or binary message came in."""

    def ping(self, payload: bytes, now_ms: int, /) -> Sequence[Action]:
        """A ping came in."""

    def pong(self, payload: bytes, now_ms: int, /) -> Sequence[Action]:
        """A pong came in."""

    def tick(self, now_ms: int, /) -> Sequence[Action]:
        """Time has passed."""


class Session:
    """Subscriptions, properties and deadlines of one connection."""

    announces_shutdown = True

    def __init__(self, *, combined: bool, streams: Iterable[str] = (), unit: Unit = Unit.MILLISECOND, opened_ms: int, rules: Rules) -> None:
        """Open a connection that starts with these streams, as its address names them."""
        self.combined = combined
        self.unit = unit
        self.closed = False
        # A dict, not a set: LIST_SUBSCRIPTIONS answers in the order of subscribing.
        self.subscriptions: dict[str, None] = dict.fromkeys(streams)
        self._rules = rules
        self._received_ms: deque[int] = deque(maxlen=rules.messages_per_s)
        self._next_ping_ms = opened_ms + rules.ping_ms
        self._end_ms = opened_ms + rules.session_ms
        # One ping in `ping_ms`, each held for `pong_ms` at most: that bounds it.
        self._owed: deque[tuple[bytes, int]] = deque()

    @property
    def due_ms(self) -> int:
        """When `tick` has something to do next."""
        deadline = self._owed[0][1] + self._rules.pong_ms if self._owed else self._end_ms
        return min(self._next_ping_ms, deadline, self._end_ms)

    def message(self, raw: bytes, now_ms: int) -> Sequence[Action]:
        """A text or binary message came in."""
        if not self._admit(now_ms):
            return self._close(TOO_MANY_REQUESTS)
        if len(raw) > self._rules.request_bytes:
            return ()  # as seen at the exchange: neither obeyed nor answered
        try:
            wanted = control.parse(raw)
            answer = {"result": self._obey(wanted), "id": wanted.id}
        except Refusal as refusal:
            answer = refusal.answer()
        return (Reply(orjson.dumps(answer)),)

    def ping(self, payload: bytes, now_ms: int) -> Sequence[Action]:
        """A ping came in."""
        return (Pong(payload),) if self._admit(now_ms) else self._close(TOO_MANY_REQUESTS)

    def pong(self, payload: bytes, now_ms: int) -> Sequence[Action]:
        """A pong came in: it settles the ping whose payload it copies and the pings before; any other settles nothing."""
        if not self._admit(now_ms):
            return self._close(TOO_MANY_REQUESTS)
        if any(payload == owed for owed, _ in self._owed):
            while self._owed.popleft()[0] != payload:
                pass
        return ()

    def tick(self, now_ms: int) -> Sequence[Action]:
        """Time has passed."""
        if self.closed:
            return ()
        if now_ms >= self._end_ms:
            return self._close(SESSION_OVER)
        if self._owed and now_ms >= self._owed[0][1] + self._rules.pong_ms:
            return self._close(PONG_TIMEOUT)
        if now_ms < self._next_ping_ms:
            return ()
        self._next_ping_ms = now_ms + self._rules.ping_ms
        payload = str(now_ms).encode()
        self._owed.append((payload, now_ms))
        return (Ping(payload),)

    def _admit(self, now_ms: int) -> bool:
        """Whether one more message is within the limit of a second."""
        received = self._received_ms
        full = len(received) == received.maxlen and now_ms - received[0] < SECOND_MS
        received.append(now_ms)
        return not full

    def _close(self, close: Close) -> Sequence[Action]:
        if self.closed:
            return ()
        self.closed = True
        return (close,)

    def _obey(self, wanted: Request) -> Any:
        """Carry out a request and return its result. Raises Refusal."""
        match wanted:
            case Subscribe(id_, streams):
                if len(self.subscriptions | dict.fromkeys(streams)) > self._rules.streams:
                    raise Refusal(Code.TOO_MANY_SUBSCRIPTIONS, "Too many subscriptions", id_)
                self.subscriptions |= dict.fromkeys(streams)
            case Unsubscribe(_, streams):
                for stream in streams:
                    self.subscriptions.pop(stream, None)
            case ListSubscriptions():
                return list(self.subscriptions)
            case SetCombined(_, combined):
                self.combined = combined
            case GetCombined():
                return self.combined
        return None
