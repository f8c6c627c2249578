"""The page to log in with: a form without a script, whose answer is a cookie with a session.

It stands at /login, and in place of any page that asks for a token: who logs in there is led back to it.
"""

from collections.abc import Collection, Mapping
from functools import cache
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive

from klinestream.runtime.access.tokens import SESSION_S
from server.access.refusals import CHALLENGE, FORBIDDEN, TOO_MANY, UNAUTHORIZED
from server.access.security import origin_allowed
from server.pages import static_folder
from server.rest.errors import API, RestError

COOKIE = "klinestream"
LOGIN, LOGOUT, HOME = "/login", "/logout", "/chart"
FILES = ("/static/login.css", "/static/palette.css", "/static/light.css", "/static/favicon.svg")
"""What the page is drawn with."""
BODY_MOST_BYTES = 4096
FIELDS_MOST = 8
_FORM = "application/x-www-form-urlencoded"
_MESSAGE = "<!-- message -->"
NONE, WRONG, ENDED = "none", "another", "a session that has ended"
"""What came in place of a token that opens."""
_TOLD = {
    WRONG: "This server doesn't know that token.",
    ENDED: "This browser's login has ended, or its token is known no more: log in again.",
}
_GO_ON = '<p class="message" role="status">If this browser is logged in already: <a href="">go on to the page</a>.</p>'
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "; ".join(
        ("default-src 'none'", "style-src 'self'", "img-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'")
    ),
    # With no-referrer a browser wouldn't say from which origin the form comes.
    "referrer-policy": "same-origin",
}


def is_login(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether it is the form: posted to /login, or to the page in whose place it stood."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].startswith(API):
        return False
    path: str = scope["path"]
    return path == LOGIN or (path != LOGOUT and headers.get("content-type", "").startswith(_FORM))


def is_logout(scope: Mapping[str, Any]) -> bool:
    """Whether somebody wants to log out."""
    return (scope["type"], scope.get("method"), scope["path"]) == ("http", "POST", LOGOUT)


def is_page(scope: Mapping[str, Any]) -> bool:
    """Whether it is the page itself that is asked for."""
    return (scope["type"], scope["path"]) == ("http", LOGIN) and scope["method"] in ("GET", "HEAD")


def wants_page(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether a person is waiting for a page: opens one, or has sent the form."""
    if scope["type"] != "http" or scope["path"].startswith(API):
        return False
    return is_page(scope) or is_login(scope, headers) or "text/html" in headers.get("accept", "")


def check_origin(headers: Headers, allowed: Collection[str]) -> None:
    """Raise RestError if another site's page has sent the form."""
    origin = headers.get("origin")
    if not origin_allowed(origin, headers.get("host"), allowed):
        raise RestError(FORBIDDEN, "a form of this server's own page", f"one from {origin}"[:80], "open /login here")


async def token_in(receive: Receive) -> str:
    """The token that was typed. Raises RestError."""
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if len(body) > BODY_MOST_BYTES:
            raise RestError(400, f"a form of at most {BODY_MOST_BYTES} bytes", "more", "send the token alone")
        if not event.get("more_body", False):
            break
    try:
        fields = parse_qs(str(body, "ascii"), max_num_fields=FIELDS_MOST)
    except ValueError:
        raise RestError(400, "a form with a field token", "another one", "open /login") from None
    token = fields.get("token", [""])[0].strip()
    if not token:
        raise RestError(UNAUTHORIZED, "a token", NONE, "type one that this server knows")
    return token


def form(error: RestError, *, from_elsewhere: bool = False) -> Response:
    """The form, with what was wrong with the last one. `from_elsewhere`: another site led here, so the browser kept the cookie back."""
    return HTMLResponse(_page("login.html").replace(_MESSAGE, _message(error, from_elsewhere=from_elsewhere)), error.status, _with(error))


def signed_in() -> Response:
    """What /login shows to who needs no login."""
    return HTMLResponse(_page("logged_in.html"), 200, _HEADERS)


def welcome(scope: Mapping[str, Any], session: str) -> Response:
    """Hand out a session, and lead to the page that was asked for."""
    return _lead(_asked_for(scope), f"{COOKIE}={session}; Max-Age={SESSION_S}", secure=scope["scheme"] == "https")


def farewell(scope: Mapping[str, Any]) -> Response:
    """Take the session back."""
    return _lead(LOGIN, f"{COOKIE}=; Max-Age=0", secure=scope["scheme"] == "https")


def _lead(to: str, cookie: str, *, secure: bool) -> Response:
    kept = f"{cookie}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
    return Response(status_code=303, headers=_HEADERS | {"location": to, "set-cookie": kept})


def _asked_for(scope: Mapping[str, Any]) -> str:
    if scope["path"] == LOGIN:
        return HOME
    # Two slashes would lead to another host.
    path = "/" + quote(scope["path"]).lstrip("/")
    query = str(scope["query_string"], "ascii", "ignore")
    return f"{path}?{query}" if query else path


def _with(error: RestError) -> dict[str, str]:
    headers = dict(_HEADERS)
    if error.status == UNAUTHORIZED:
        headers["www-authenticate"] = CHALLENGE
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return headers


def _message(error: RestError, *, from_elsewhere: bool) -> str:
    if error.came == NONE:
        return _GO_ON if from_elsewhere else ""
    if error.status == TOO_MANY:
        text = f"Too many wrong tokens came from your address. Try again in {error.retry_after_s} s."
    elif error.came in _TOLD:
        text = _TOLD[error.came]
    else:
        text = f"This server expected {error.expected}, and got {error.came}."
    return f'<p class="message" role="alert">{escape(text)}</p>'


@cache
def _page(name: str) -> str:
    return (static_folder() / name).read_text()
