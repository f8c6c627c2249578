"""One connection to Finnhub as a pure state machine: what came in and the time in, actions out.

Nothing says that a subscription succeeded but its trades; errors come as messages and leave the connection open. Finnhub's
documentation and published clients tell of the messages and of the limit of the free plan; the texts are as clients report them.
"""

from collections.abc import Mapping, Sequence

import orjson

from klinestream.standin.finnhub import messages
from klinestream.standin.finnhub.listing import Listed
from klinestream.standin.frames import Unit
from klinestream.standin.session import SESSION_OVER, Action, Close, Ping, Pong, Reply, Rules

TOKEN = "standin"  # noqa: S105  # made up; nobody else takes it
"""What a key of the stand-in begins with: several may be in use at once."""
SYMBOLS_MOST = 50  # of the free plan
PREFIX = "finnhub@"
"""Before a name, in what faults and the status call a subscription."""
REPLACED = Close(1008, "Another connection was opened with this key")


class FinnhubSession:
    """Subscriptions and deadlines of one connection."""

    combined = False
    unit = Unit.MILLISECOND
    announces_shutdown = False

    def __init__(self, key: str, listed: Mapping[str, Listed], *, opened_ms: int, rules: Rules) -> None:
        """Open a connection of this key, with nothing subscribed."""
        self.key = key
        self.closed = False
        self.subscriptions: dict[str, None] = {}
        self._listed = listed
        self._rules = rules
        self._next_ping_ms = opened_ms + rules.ping_ms
        self._end_ms = opened_ms + rules.session_ms

    @property
    def names(self) -> list[str]:
        """Finnhub's names of what is subscribed."""
        return [subscription.removeprefix(PREFIX) for subscription in self.subscriptions]

    @property
    def due_ms(self) -> int:
        """When `tick` has something to do next."""
        return min(self._next_ping_ms, self._end_ms)

    def message(self, raw: bytes, _now_ms: int) -> Sequence[Action]:
        """A text or binary message came in."""
        try:
            asked = orjson.loads(raw)
        except orjson.JSONDecodeError:
            asked = None
        match asked:
            case {"type": "subscribe", "symbol": str(name)}:
                return self._subscribe(name)
            case {"type": "unsubscribe", "symbol": str(name)}:
                self.subscriptions.pop(PREFIX + name, None)
                return ()
            case {"type": "pong"}:
                return ()
        return (Reply(messages.error(messages.INVALID_MESSAGE)),)

    def ping(self, payload: bytes, _now_ms: int) -> Sequence[Action]:
        """A ping came in."""
        return (Pong(payload),)

    def pong(self, _payload: bytes, _now_ms: int) -> Sequence[Action]:
        """A pong came in; nothing is owed."""
        return ()

    def tick(self, now_ms: int) -> Sequence[Action]:
        """Time has passed: pings are frames and messages both, and need no answer."""
        if self.closed:
            return ()
        if now_ms >= self._end_ms:
            self.closed = True
            return (SESSION_OVER,)
        if now_ms < self._next_ping_ms:
            return ()
        self._next_ping_ms = now_ms + self._rules.ping_ms
        return (Reply(messages.PING), Ping(b""))

    def _subscribe(self, name: str) -> Sequence[Action]:
        if name not in self._listed:
            return (Reply(messages.error(messages.INVALID_SYMBOL)),)
        if PREFIX + name not in self.subscriptions and len(self.subscriptions) >= SYMBOLS_MOST:
            return (Reply(messages.error(messages.TOO_MANY_SYMBOLS)),)
        self.subscriptions[PREFIX + name] = None
        return ()
