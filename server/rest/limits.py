"""What REST may take: requests by address, and encodings at once."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from klinestream.runtime.access.addresses import address_of
from klinestream.runtime.access.allowances import Allowances
from server.access.refusals import TOO_MANY, refuse
from server.metrics import Metrics
from server.rest.errors import RestError

T = TypeVar("T")

LIMITED = "/api/"
AT_ONCE = 2
WAITING_MOST = 64
RETRY_S = 1
_OTHER = "other"
_TOO_MANY = RestError(TOO_MANY, "fewer requests", "more than server.requests_per_s", "wait, then ask again", retry_after_s=RETRY_S)


class RestGate:
    """ASGI middleware in front of REST: limits requests by address, and counts them by route and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics, per_s: float) -> None:
        """Wrap an application."""
        self.app = app
        self._metrics = metrics
        self._allowances = Allowances(per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, if its address may make one."""
        if scope["type"] != "http" or not scope["path"].startswith(LIMITED):
            await self.app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 500

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._allowances.spend(address_of(scope), time.monotonic()):
                await self.app(scope, receive, counting)
            else:
                await refuse(scope, receive, counting, _TOO_MANY)
        finally:
            # A path that no route has would make a new series each.
            route = getattr(scope.get("route"), "path", _OTHER)
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started_s)


class Encodings:
    """Does what takes long in threads: a few at once, and some waiting, so that windows and answers don't wait for each other."""

    def __init__(self, at_once: int = AT_ONCE, waiting_most: int = WAITING_MOST) -> None:
        """Nothing is under way."""
        self._turn = asyncio.Semaphore(at_once)
        self._most = at_once + waiting_most
        self._entered = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns. Raises RestError if too many wait."""
        if self._entered >= self._most:
            raise RestError(503, f"at most {self._most} answers in the making", "one more", "wait, then ask again", retry_after_s=RETRY_S)
        self._entered += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._entered -= 1
