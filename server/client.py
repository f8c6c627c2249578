"""One websocket client, of whichever version, and how its connection ends."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from klinestream.market.kinds import RecordKind
from server.link import Link
from server.outbox import Outbox
from server.stream.encoding import Encoding
from server.stream.outbox import StreamOutbox
from server.stream.series import Series

POLICY_VIOLATION = 1008
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013


class Closed(Exception):  # noqa: N818  # an ending, with full right in some cases, not an error
    """The server ends this client's connection, with a websocket close code and a reason for a person."""

    def __init__(self, code: int, reason: str) -> None:
        """`reason` begins with a short, stable phrase, and goes on after a colon."""
        super().__init__(reason)
        self.code = code
        self.reason = reason


@dataclass(eq=False, slots=True)
class Audience:
    """Clients of version 2 that follow the same series in the same encoding."""

    encoding: Encoding
    series: frozenset[Series]
    clients: set["Client"] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Follower:
    """What a client of version 2 follows."""

    encoding: Encoding
    outbox: StreamOutbox
    series: dict[Series, int] = field(default_factory=dict)
    """Each with the most records that a snapshot of it may have."""
    symbols: Counter[str] = field(default_factory=Counter)
    """Each with the number of its series."""
    patterns: dict[str, dict[tuple[RecordKind, str], int]] = field(default_factory=dict)
    """Pattern → kind and interval → limit, for symbols that appear later."""
    told_full: bool = False
    """It knows that a pattern means more symbols than it may follow."""
    audience: Audience | None = None
    """Those who follow the same; None while it follows nothing."""


@dataclass(eq=False, slots=True)
class Client:
    """One websocket client: what it follows and what waits for it. `follower` is there once it speaks version 2."""

    outbox: Outbox
    link: Link | None = None
    symbols: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    idle: bool = False
    """Nothing waits for it, and nothing is on its way to its socket."""
    ended: Closed | None = None
    follower: Follower | None = None

    def rouse(self) -> None:
        """Something waits for it now, or its end has come."""
        self.idle = False
        self.wake.set()

    def write(self, frames: bytes) -> bool:
        """Send whole frames at once, without a task switch; False where they would overtake something, or have to wait."""
        return self.idle and self.link is not None and self.link.write(frames)

    @property
    def waiting(self) -> Outbox | StreamOutbox:
        """What waits for it."""
        return self.outbox if self.follower is None else self.follower.outbox
