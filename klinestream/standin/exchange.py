"""The running stand-in: its market, its feed, its connections, and the loop that moves time on."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import structlog

from klinestream.market.events import SECOND_MS
from klinestream.standin import payloads, streams
from klinestream.standin.connection import Connection, wanted
from klinestream.standin.faults import ConnectionFault, Drop, Fault, Faults, Shutdown, Silence
from klinestream.standin.feed import CATCH_UP_MS, Feed
from klinestream.standin.finnhub.session import FinnhubSession
from klinestream.standin.finnhub.tape import Tape
from klinestream.standin.frames import Frame
from klinestream.standin.market import Market
from klinestream.standin.metrics import Metrics
from klinestream.standin.session import Dialogue, Rules
from klinestream.standin.weights import Accounts, Limits

# Trades are pushed that late at most. It divides a second, so that a step begins right at each second's edge.
STEP_MS = 20
BUFFER_BYTES = 16 << 20
_BURSTS = 16

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """The exchange's rules, and how much unread data a client may have."""

    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    buffer_bytes: int = BUFFER_BYTES


class Exchange:
    """What the websocket, REST and admin shells share."""

    def __init__(self, market: Market, settings: Settings) -> None:
        """`market` is asked with its own times; all other times are the wall clock's."""
        self.market = market
        self.settings = settings
        self.metrics = Metrics()
        self.faults = Faults()
        self.accounts = Accounts(settings.limits)
        self.connections: dict[int, Connection] = {}
        self._numbers = count(1)
        # A market that runs faster than the wall clock falls behind as much faster.
        catch_up_ms = round(CATCH_UP_MS * max(1.0, self._rate()))
        self._feed = Feed(market, self.market_ms(), catch_up_ms=catch_up_ms)
        self.finnhub = Tape(market, self.market_ms(), catch_up_ms)
        self._changed = True
        # When the last bursts of klines had been handed over: what latencies are measured from.
        self._bursts_ms: deque[int] = deque(maxlen=_BURSTS)

    @staticmethod
    def wall_ms() -> int:
        """The wall clock: deadlines, limits and faults."""
        return time.time_ns() // 1_000_000

    def market_ms(self) -> int:
        """The exchange's own time, as its clients see it."""
        return self.market.clock(self.wall_ms())

    def open(self, session: Dialogue) -> Connection:
        """A new connection; `close` it in the end."""
        connection = Connection(
            next(self._numbers), session, self.metrics, opened_ms=self.wall_ms(), buffer_bytes=self.settings.buffer_bytes
        )
        self.connections[connection.number] = connection
        self.metrics.connections.set(len(self.connections))
        return connection

    def close(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.pop(connection.number, None)
        self.metrics.connections.set(len(self.connections))
        self.subscriptions_changed()

    def subscriptions_changed(self) -> None:
        """Somebody may have subscribed something, or left: seen to at the next step."""
        self._changed = True

    async def run(self) -> None:
        """Step through time until cancelled."""
        while True:
            self.metrics.late_ms.set(self.market_ms() % STEP_MS)
            self.step()
            await asyncio.sleep(self._until_next_step_s())

    def step(self) -> None:
        """Push what is due, see to deadlines, then do ahead what the next second needs."""
        if self._changed:
            self._changed = False
            self._feed.want(wanted(self.connections.values()))
            self._count_subscriptions()
            # Before the time is read: what is new would make a frame's time of sending older than it is.
            self._feed.prepare()
        for frames in self._feed.step(self.market_ms()):
            now_ms = self.wall_ms()
            for connection in self.connections.values():
                connection.push(frames, self.faults, now_ms)
            if frames and frames[0].stream.kind is streams.Kind.KLINE:
                self._bursts_ms.append(self.wall_ms())
        self._tell_finnhub()
        now_ms = self.wall_ms()
        for connection in self.connections.values():
            connection.tick(now_ms)
        self._feed.prepare()

    def _tell_finnhub(self) -> None:
        span = self.finnhub.step(self.market_ms())
        if span is None:
            return
        now_ms = self.wall_ms()
        for connection in self.connections.values():
            if isinstance(connection.session, FinnhubSession):
                connection.tell(self.finnhub.frames(connection.session.names, span), self.faults, now_ms)

    def inject(self, fault: Fault) -> dict[str, Any]:
        """Bring a fault about and say what it met. Raises KlinestreamError where too many are under way."""
        now_ms = self.wall_ms()
        log.info("fault", **fault.model_dump())
        if not isinstance(fault, ConnectionFault):
            return {"until_ms": self.faults.start(fault, now_ms).until_ms}
        met = [c for c in self.connections.values() if fault.connection in (None, c.number) and c.carries(fault.streams)]
        for connection in met:
            self._strike(fault, connection, now_ms)
        return {"connections": [connection.number for connection in met]}

    def clear_faults(self) -> None:
        """End all faults; what is broken off stays so."""
        self.faults.clear()
        for connection in self.connections.values():
            connection.silent_until_ms = 0
            connection.close_at_ms = None

    def status(self) -> dict[str, Any]:
        """Connections, subscriptions, frames sent and faults, as tests wait for them."""
        now_ms = self.wall_ms()
        return {
            "time_ms": now_ms,
            "market_ms": self.market.clock(now_ms),
            "symbols": len(self.market.symbols),
            "connections": [
                {
                    "number": c.number,
                    "remote": c.remote,
                    "opened_ms": c.opened_ms,
                    "combined": c.session.combined,
                    "streams": len(c.session.subscriptions),
                    "frames": c.frames,
                    "unread_bytes": c.unread_bytes,
                    "silent": now_ms < c.silent_until_ms,
                }
                for c in self.connections.values()
            ],
            "subscriptions": _by_kind(self.connections.values()),
            "bursts_ms": list(self._bursts_ms),
            "frames_sent": self.metrics.frames_sent(),
            "faults": [{"until_ms": active.until_ms} | active.fault.model_dump() for active in self.faults.active(now_ms)],
        }

    def _strike(self, fault: ConnectionFault, connection: Connection, now_ms: int) -> None:
        match fault:
            case Drop():
                connection.abort("fault")
            case Silence(seconds=seconds):
                connection.silent_until_ms = now_ms + round(seconds * SECOND_MS)
            case Shutdown(seconds=seconds):
                announcement = Frame(streams.SERVER_SHUTDOWN, partial(payloads.server_shutdown, self.market.clock(now_ms)))
                connection.announce_shutdown(announcement, now_ms, now_ms + round(seconds * SECOND_MS))

    def _rate(self) -> float:
        """How fast the market's time runs next to the wall clock's."""
        wall_ms = self.wall_ms()
        return (self.market.clock(wall_ms + SECOND_MS) - self.market.clock(wall_ms)) / SECOND_MS

    def _until_next_step_s(self) -> float:
        """How long the market's time takes to its next multiple of a step; a market may run faster than the wall clock."""
        now_s = time.time()
        wall_ms = int(now_s * SECOND_MS)
        now_ms = self.market.clock(wall_ms)
        rate = self._rate()
        if not rate:
            return STEP_MS / SECOND_MS
        left_ms = (STEP_MS - now_ms % STEP_MS) / rate - (now_s * SECOND_MS - wall_ms)
        return max(left_ms, 1.0) / SECOND_MS

    def _count_subscriptions(self) -> None:
        counts = _by_kind(self.connections.values())
        for kind in streams.Kind:
            self.metrics.subscriptions.labels(kind).set(counts.get(kind, 0))


def _by_kind(connections: Iterable[Connection]) -> dict[str, int]:
    parsed = (streams.parse(name) for connection in connections for name in connection.session.subscriptions)
    return dict(Counter(stream.kind.value for stream in parsed if stream is not None))
