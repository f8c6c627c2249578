"""What a request is told that isn't let in, in the form of its route: ours, or the exchange's own under /api/v3."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from klinestream.runtime.exchange_params import ExchangeFault
from server.access.security import HEADERS
from server.rest.errors import RestError, answer_of

UNAUTHORIZED, FORBIDDEN, TOO_MANY = 401, 403, 429
CHALLENGE = 'Bearer realm="klinestream"'
_EXCHANGE = "/api/v3/"
_CODES = {UNAUTHORIZED: -2015, FORBIDDEN: -1002, TOO_MANY: -1003}
"""Their clients know these: no valid key, not authorised, too many requests."""


def refusal(scope: Mapping[str, Any], error: RestError) -> Response:
    """The answer to a request, or to a websocket's handshake."""
    if scope["path"].startswith(_EXCHANGE):
        response = answer_of(error.status, ExchangeFault(_CODES[error.status], str(error)).body, error.retry_after_s)
    else:
        response = error.response()
    if error.status == UNAUTHORIZED:
        response.headers["www-authenticate"] = CHALLENGE
    if scope["type"] == "websocket":
        # What goes to an accepted websocket has no headers, so SecurityHeaders leaves them all alone.
        response.headers.update(HEADERS)
    return response


async def refuse(scope: Scope, receive: Receive, send: Send, error: RestError) -> None:
    """Answer with it."""
    await refusal(scope, error)(scope, receive, send)
