"""From which pages websockets may be opened, how many an address may open a second, and have at once."""

import time
from collections import Counter
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from klinestream.runtime.access.addresses import address_of, is_loopback
from klinestream.runtime.access.allowances import Allowances
from server.access.refusals import FORBIDDEN, TOO_MANY, refuse
from server.access.security import origin_allowed
from server.metrics import Metrics
from server.rest.errors import SHOWN_MOST, RestError
from server.rest.limits import RETRY_S


class SocketGate:
    """ASGI middleware in front of the websockets. A handshake from another site is answered with 403, one beyond the limits with 429.

    Connections of this machine itself have no limits by address: they come from who runs it, or by a proxy for many.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, origins: Collection[str], at_once: int, per_s: float) -> None:
        """Wrap an application; `origins` are allowed besides its own."""
        self.app = app
        self._metrics = metrics
        self._origins = origins
        self._at_once = at_once
        self._allowances = Allowances(per_s)
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the handshake on, if its address may have one more."""
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        address = address_of(scope)
        refused = self._why_not(Headers(scope=scope), address)
        if refused is not None:
            reason, error = refused
            self._metrics.refused.labels(reason).inc()
            await refuse(scope, receive, send, error)
            return
        self._open[address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    def _why_not(self, headers: Headers, address: str) -> tuple[str, RestError] | None:
        """The reason for the metrics, and what to say; None if it may pass."""
        from_elsewhere = not is_loopback(address)
        if from_elsewhere and not self._allowances.spend(address, time.monotonic()):
            return "handshakes", _too_many("fewer new connections", "more than server.handshakes_per_s")
        origin = headers.get("origin")
        if not origin_allowed(origin, headers.get("host"), self._origins):
            todo = "open the page of this server, or let server.allowed_origins name that one"
            return "origin", RestError(FORBIDDEN, "a page of this server", f"one of {origin}"[:SHOWN_MOST], todo)
        if from_elsewhere and self._open[address] >= self._at_once:
            most = f"at most {self._at_once} connections from an address"
            return "address", _too_many(most, "one more than server.max_clients_per_address")
        return None


def _too_many(expected: str, came: str) -> RestError:
    return RestError(TOO_MANY, expected, came, "wait, then connect again", retry_after_s=RETRY_S)
