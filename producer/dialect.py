"""How sessions speak to a venue, and who takes what they hear: all that sessions and connections know of a feed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from prometheus_client import Counter, Gauge

from producer.frames import Reply, Shutdown

REQUEST_PAUSE_S = 0.34
"""Binance ends a connection that sends more than five messages a second, pongs included: three leave room for them."""


@dataclass(frozen=True, slots=True)
class Manners:
    """What a venue asks for, and what may be expected of it."""

    url: str
    """Where to connect; a secret may stand in its query, so it is shown by `shown` only."""
    fallback_url: str = ""
    """Where to go on if that is blocked in this region (HTTP 451)."""
    overlap: bool = True
    """Two connections may be open while one hands over to the other; else the old one ends first."""
    sparse: bool = False
    """Silence is normal: a connection proves by an answer to a ping that it lives, and no symbol counts as stalled."""
    request_pause_s: float = REQUEST_PAUSE_S


class Taker(Protocol):
    """Who takes what sessions hear. For any number of threads."""

    def take(self, raw: bytes, proved: set[str]) -> Reply | Shutdown | None:
        """Take a frame; what it says to the connection itself is returned.

        `proved` is the session's own: symbols whose series goes on with what it delivers. Raises DeliveryError.
        """

    def ages_s(self) -> Mapping[str, float]:
        """Symbol → how old its newest published record is, in seconds."""


class Dialect(Taker, Protocol):
    """One feed's way of speaking, for the connections of one partition."""

    @property
    def manners(self) -> Manners:
        """What the venue asks for."""

    def interrupted(self) -> None:
        """A connection was lost, and no other one carries its symbols."""

    def requests(self, method: str, symbols: Sequence[str], first_id: int) -> list[tuple[int | None, bytes]]:
        """What to send for SUBSCRIBE or UNSUBSCRIBE, each with the id of the reply that is to come, None where none does."""


class ConnectionMetrics(Protocol):
    """What is counted of connections, whichever feed they carry."""

    connections: Gauge
    request_errors: Counter
    reconnects: Counter
    hand_overs: Counter
    stalls: Counter
    data_age: Gauge


def shown(url: str) -> str:
    """An address as it may be logged: without what may be secret in it.

    >>> shown("wss://ws.finnhub.io?token=c0ffee"), shown("ws://me:secret@host:1/stream")
    ('wss://ws.finnhub.io', 'ws://host:1/stream')
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
