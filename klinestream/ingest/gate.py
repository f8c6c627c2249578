"""ASGI middleware in front of everything: names, origins, tokens and how many requests; and what is counted of each answer.

A browser's page of elsewhere could post to this machine without asking anybody, so whatever carries an origin is refused: there is no
page of ours that posts.
"""

import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from klinestream.ingest.metrics import Metrics
from klinestream.ingest.refusals import PostError, shown
from klinestream.market.errors import ConfigError
from klinestream.runtime.access.addresses import address_of, is_loopback
from klinestream.runtime.access.allowances import Allowances
from klinestream.runtime.access.guesses import Guesses
from klinestream.runtime.access.names import is_local_name
from klinestream.runtime.access.tokens import Tokens
from klinestream.runtime.config import PREFIX
from klinestream.runtime.ingest_section import IngestConfig

TOKENS_VARIABLE = f"{PREFIX}INGEST__TOKENS"
PROBES = ("/healthz", "/readyz")
SOURCE, CLIENT = "klinestream.source", "klinestream.client"
"""In an ASGI scope: the source that the request's token is for, or empty; and whose limits count."""
HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store", "content-security-policy": "default-src 'none'"}
RETRY_S = 1
_OTHER = "other"

log = structlog.get_logger()


def refuse_open(config: IngestConfig, address: str) -> None:
    """Raise ConfigError if strangers could post: it is to listen on this address, and asks for no token."""
    if config.accepted_tokens or is_loopback(address):
        return
    raise ConfigError(
        f"expected tokens, since ingest.host {config.host!r} can be reached from other machines, got none: set {TOKENS_VARIABLE} "
        "(comma separated, each of at least 16 characters)"
    )


class Gate:
    """Lets through what may post."""

    def __init__(self, app: ASGIApp, config: IngestConfig, metrics: Metrics, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Wrap an application."""
        self.app = app
        self._config = config
        self._metrics = metrics
        self._clock_s = clock_s
        self._tokens = [(source, Tokens([token])) for source, token in config.accepted_tokens]
        self._guesses = Guesses()
        self._requests = Allowances(config.requests_per_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or tell why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began_s = time.perf_counter()
        status = 500

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if scope["path"] not in PROBES:
                self._check(scope)
        except PostError as refusal:
            await answer(refusal, self._metrics)(scope, receive, counting)
        else:
            await self.app(scope, receive, counting)
        finally:
            # A path that no route has would make a new series each.
            route = getattr(scope.get("route"), "path", _OTHER)
            self._metrics.request_seconds.labels(route, status).observe(time.perf_counter() - began_s)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        address = address_of(scope)
        if "origin" in headers:
            raise PostError(403, "origin", "no page of a browser", f"the origin {shown(headers['origin'])}", "post from a program")
        if self._tokens:
            source, client = self._of_token(headers, address)
        elif not is_local_name(headers.get("host")):
            todo = f"ask for localhost, or set {TOKENS_VARIABLE}: see docs/ingest.md"
            raise PostError(403, "name", "the name of this machine, since it asks for no token", shown(headers.get("host")), todo)
        else:
            source, client = "", address
        if not self._requests.spend(client, self._clock_s()):
            expected = f"up to {self._config.requests_per_s:g} requests a second (ingest.requests_per_s)"
            raise PostError(429, "requests_rate", expected, "more", "wait as Retry-After says, or post batches", retry_after_s=RETRY_S)
        scope[SOURCE], scope[CLIENT] = source, client

    def _of_token(self, headers: Headers, address: str) -> tuple[str, str]:
        """The source that the token is for, and under which its limits are counted; raises PostError."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        todo = "send one as the header Authorization: Bearer …; see docs/ingest.md"
        if scheme.lower() != "bearer":
            raise PostError(401, "token", "a token", "none", todo)
        now_s = self._clock_s()
        wait_s = self._guesses.wait_s(address, token, now_s)
        if wait_s:
            expected = "fewer wrong tokens from this address"
            raise PostError(429, "token", expected, "too many", "wait, then try again", retry_after_s=wait_s)
        # All are compared: to end at the first that fits would tell something by its time.
        accepted = [(source, number) for number, (source, tokens) in enumerate(self._tokens) if tokens.accept(token)]
        if not accepted:
            if self._guesses.wrong(address, token, now_s):
                log.warning("wrong token", address=address)
            raise PostError(401, "token", "a token that is known here", "another", todo)
        source, number = accepted[0]
        return source, f"token {number}"


def answer(refusal: PostError, metrics: Metrics) -> Response:
    """A refusal as it goes out, counted."""
    metrics.rejected.labels(refusal.reason).inc()
    headers = refusal.headers | ({"www-authenticate": 'Bearer realm="klinestream"'} if refusal.status == 401 else {})
    return Response(refusal.body, refusal.status, headers, "application/json")
