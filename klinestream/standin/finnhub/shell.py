"""The websocket shell of Finnhub's address, the root with a token in its query: `ws://host:port?token=…`.

A wrong token is refused with 401, as Finnhub does. A second connection of a key ends the first one, as its clients report.
"""

import secrets

import orjson
import structlog
from aiohttp import web

from klinestream.standin.exchange import Exchange
from klinestream.standin.finnhub.session import REPLACED, TOKEN, FinnhubSession

CONNECTIONS_MOST = 100

log = structlog.get_logger()


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """The address."""

    async def root(request: web.Request) -> web.StreamResponse:
        return await _serve(exchange, request)

    return [web.get("/", root)]


async def _serve(exchange: Exchange, request: web.Request) -> web.StreamResponse:
    key = request.query.get("token", "")
    if not secrets.compare_digest(key[: len(TOKEN)].encode(), TOKEN.encode()):
        return _refused("Invalid API key", 401)
    earlier = [c for c in exchange.connections.values() if isinstance(c.session, FinnhubSession) and c.session.key == key]
    for connection in earlier:
        connection.close(REPLACED.code, REPLACED.reason)
    if sum(isinstance(c.session, FinnhubSession) for c in exchange.connections.values()) >= CONNECTIONS_MOST:
        return _refused("Too many connections", 429)
    session = FinnhubSession(key, exchange.finnhub.listed, opened_ms=exchange.wall_ms(), rules=exchange.settings.rules)
    connection = exchange.open(session)
    log.debug("connection opened", connection=connection.number, remote=request.remote, venue="finnhub")
    try:
        return await connection.serve(request, exchange.wall_ms, exchange.subscriptions_changed)
    finally:
        exchange.close(connection)


def _refused(why: str, status: int) -> web.Response:
    return web.Response(body=orjson.dumps({"error": why}), status=status, content_type="application/json")
