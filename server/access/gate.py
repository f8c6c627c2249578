"""Who may pass where the server has tokens: who shows one as `Authorization: Bearer`, or a session's cookie.

Everything asks for it but health and readiness, and the page to log in with what it is drawn with.
"""

import time
from collections.abc import Callable, Collection

import structlog
from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from klinestream.runtime.access.addresses import address_of
from klinestream.runtime.access.guesses import Guesses
from klinestream.runtime.access.tokens import Tokens
from server.access import login
from server.access.refusals import TOO_MANY, UNAUTHORIZED, refuse
from server.metrics import Metrics
from server.rest.errors import RestError

OPEN = frozenset({"/healthz", "/readyz", *login.FILES})
_SHOW_ONE = "send one as the header Authorization: Bearer …, or log in at /login; see docs/operations.md"

log = structlog.get_logger()


class TokenGate:
    """ASGI middleware in front of everything. Without tokens it isn't needed."""

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        origins: Collection[str],
        metrics: Metrics,
        *,
        now_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap an application. `origins` may send the form, besides its own.

        Sessions end by the wall clock `now_s`; `clock_s` paces guesses.
        """
        self.app = app
        self._tokens = tokens
        self._origins = origins
        self._metrics = metrics
        self._now_s = now_s
        self._clock_s = clock_s
        self._guesses = Guesses()
        self._wrong = Counter("klinestream_server_tokens_refused", "Wrong tokens that were shown", registry=metrics.registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on who may read; let others log in, or tell them how to."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            answer = await self._answer(scope, receive, headers)
        except RestError as error:
            await self._refuse(scope, receive, send, headers, error)
            return
        await (answer or self.app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, headers: Headers) -> Response | None:
        """The answer to what is about logging in or out; None to who may pass. Raises RestError."""
        if login.is_login(scope, headers):
            login.check_origin(headers, self._origins)
            token = await login.token_in(receive)
            self._judge(address_of(scope), token)
            return login.welcome(scope, self._tokens.session(token, int(self._now_s())))
        if login.is_logout(scope):
            login.check_origin(headers, self._origins)
            return login.farewell(scope)
        self._check(scope, headers)
        return login.signed_in() if login.is_page(scope) else None

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise RestError if neither cookie nor header let the request in."""
        session = cookie_parser(headers.get("cookie", "")).get(login.COOKIE)
        if session is not None and self._tokens.continue_session(session, int(self._now_s())):
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise RestError(UNAUTHORIZED, "a token", login.NONE if session is None else login.ENDED, _SHOW_ONE)
        self._judge(address_of(scope), token.strip())

    def _judge(self, address: str, token: str) -> None:
        """Raise RestError unless the token is a right one, and its address hasn't shown too many wrong ones."""
        clock_s = self._clock_s()
        wait_s = self._guesses.wait_s(address, token, clock_s)
        if wait_s:
            raise RestError(TOO_MANY, "fewer wrong tokens from this address", "too many", "wait, then try again", retry_after_s=wait_s)
        if not self._tokens.accept(token):
            self._wrong.inc()
            if self._guesses.wrong(address, token, clock_s):
                log.warning("wrong token", address=address)
            raise RestError(UNAUTHORIZED, "a token that this server knows", login.WRONG, _SHOW_ONE)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, headers: Headers, error: RestError) -> None:
        if scope["type"] == "websocket":
            self._metrics.refused.labels("token").inc()
        elif login.wants_page(scope, headers):
            from_elsewhere = headers.get("sec-fetch-site") == "cross-site"
            await login.form(error, from_elsewhere=from_elsewhere)(scope, receive, send)
            return
        await refuse(scope, receive, send, error)
