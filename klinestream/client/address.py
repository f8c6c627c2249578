"""Where the server is, what it is shown, and the error of all that can go wrong with it."""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

from klinestream.market.errors import KlinestreamError

DEFAULT_URL = "http://localhost:8084"
TOKEN_VARIABLE = "KLINESTREAM_CLIENT__TOKEN"  # noqa: S105  # the name of a variable


class ClientError(KlinestreamError):
    """The server can't be reached, or can't do what was asked of it."""


def websocket_url(url: str) -> str:
    """The websocket of a server; raises ClientError.

    >>> websocket_url("http://localhost:8084"), websocket_url("https://chart.example/feed/")
    ('ws://localhost:8084/ws', 'wss://chart.example/feed/ws')
    """
    parts = urlsplit(checked(url))
    return urlunsplit(({"http": "ws", "https": "wss"}[parts.scheme], parts.netloc, f"{parts.path.rstrip('/')}/ws", "", ""))


def checked(url: str) -> str:
    """The address, if it can be one of a server; raises ClientError."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ClientError(f"expected the server's address, such as {DEFAULT_URL}, got {url!r}")
    return url


def is_local(url: str) -> bool:
    """Whether the address is on this machine: then no proxy of the environment is meant for it.

    >>> is_local("http://localhost:8084"), is_local("http://[::1]:8084"), is_local("https://chart.example")
    (True, True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def authorization(token: str | None) -> dict[str, str]:
    """The header for a server that asks for a token: this one, else the one of the environment; none if there is none. Raises ClientError.

    >>> authorization("correct-horse-battery")
    {'Authorization': 'Bearer correct-horse-battery'}
    """
    found = os.environ.get(TOKEN_VARIABLE, "") if token is None else token
    if not found:
        return {}
    if not (found.isascii() and found.isprintable()) or " " in found:
        # It isn't shown: it may be a good one that was copied with too much.
        raise ClientError(f"expected a token of visible ASCII characters, got another one: mend the argument, or {TOKEN_VARIABLE}")
    return {"Authorization": f"Bearer {found}"}
