"""All that stands between a request and its route, in order."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from klinestream.market.errors import ConfigError
from klinestream.runtime.access.addresses import is_loopback
from klinestream.runtime.access.names import is_local_name
from klinestream.runtime.access.tokens import Tokens
from klinestream.runtime.config import PREFIX
from klinestream.runtime.server_sections import ServerConfig, origin_of
from server.access.gate import TokenGate
from server.access.refusals import FORBIDDEN, refuse
from server.access.security import SecurityHeaders
from server.access.socket_gate import SocketGate
from server.metrics import Metrics
from server.rest.errors import RestError
from server.rest.limits import RestGate

TOKENS_VARIABLE = f"{PREFIX}SERVER__TOKENS"
PROBES = ("/healthz", "/readyz")
"""A cluster asks these under whatever name it likes."""


def guard(app: FastAPI, config: ServerConfig, metrics: Metrics) -> None:
    """Put them in front of an application.

    headers ─► name ─► REST's limits ─► websockets' origins and limits ─► token ─► routes
    """
    tokens = Tokens(config.accepted_tokens)
    # The one that is added last comes first.
    if tokens:
        app.add_middleware(TokenGate, tokens=tokens, origins=config.allowed_origins, metrics=metrics)
    app.add_middleware(
        SocketGate,
        metrics=metrics,
        origins=config.allowed_origins,
        at_once=config.max_clients_per_address,
        per_s=config.handshakes_per_s,
    )
    app.add_middleware(RestGate, metrics=metrics, per_s=config.requests_per_s)
    if not tokens and not config.public:
        app.add_middleware(NameGate, metrics=metrics, names=frozenset(map(_host_of, config.allowed_origins)))
    app.add_middleware(SecurityHeaders)


def refuse_open(config: ServerConfig, address: str) -> None:
    """Raise ConfigError if strangers could read: the server is to listen on this address, and asks for no token."""
    if config.accepted_tokens or config.public or is_loopback(address):
        return
    raise ConfigError(
        f"expected tokens, since server.host {config.host!r} can be reached from other machines, got none: set {TOKENS_VARIABLE} "
        "(comma separated, each of at least 16 characters), or server.public = true if something else keeps strangers out"
    )


class NameGate:
    """ASGI middleware for a server that asks for no token: it answers under this machine's own names, and allowed origins'."""

    def __init__(self, app: ASGIApp, metrics: Metrics, names: frozenset[str]) -> None:
        """Wrap an application; `names` are further hosts that it answers under."""
        self.app = app
        self._metrics = metrics
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes under such a name."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in PROBES or self._knows(scope):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            self._metrics.refused.labels("name").inc()
        todo = f"ask for localhost; or set {TOKENS_VARIABLE}, or server.public = true: see docs/operations.md"
        await refuse(scope, receive, send, RestError(FORBIDDEN, "the name of this machine, since it asks for no token", "another", todo))

    def _knows(self, scope: Scope) -> bool:
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        return all(host in self._names or is_local_name(host) for host in hosts)


def _host_of(origin: str) -> str:
    return origin_of(origin).partition("//")[2]
