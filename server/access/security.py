"""Who may open the websocket from a browser, under which names the server answers, and what a browser may do with our page."""

from collections.abc import Collection

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # plotly.js adds its rules through a <style> element that it makes itself, and writes style attributes in its
        # SVG: both count as inline. Scripts have no such exception.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "x-frame-options": "DENY",
}
CACHE_CONTROL = "no-store"
"""Of answers that don't say otherwise: redirects, refusals, faults."""


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Whether a websocket with these headers may be opened.

    Without an origin it is no browser, so nobody is tricked into it. The scheme isn't compared with ours: behind a
    proxy that ends TLS it differs.

    >>> origin_allowed("http://localhost:8084", "localhost:8084", ())
    True
    >>> origin_allowed("https://elsewhere.example", "localhost:8084", ())
    False
    """
    if origin is None:
        return True
    if origin in allowed:
        return True
    scheme, separator, netloc = origin.lower().partition("://")
    return scheme in ("http", "https") and bool(separator and host) and netloc == (host or "").lower()


class SecurityHeaders:
    """ASGI middleware that sets the headers on every HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; add the headers to the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", CACHE_CONTROL)
            await send(message)

        await self.app(scope, receive, send_with_headers)
