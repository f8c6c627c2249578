"""The websocket shell: addresses, and what a handshake may be refused for."""

import structlog
from aiohttp import web

from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.standin.exchange import Exchange
from klinestream.standin.rest import raise_refusals, time_unit
from klinestream.standin.session import Session

# The exchange names no such limit, but each connection may hold unread data.
CONNECTIONS_MOST = 1000

log = structlog.get_logger()


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """Raw streams at /ws and /ws/a/b, combined ones at /stream and /stream?streams=a/b; /stream/anything is a 404."""

    async def raw(request: web.Request) -> web.StreamResponse:
        return await _serve(exchange, request, request.match_info.get("streams", ""), combined=False)

    async def combined(request: web.Request) -> web.StreamResponse:
        return await _serve(exchange, request, request.query.get("streams", ""), combined=True)

    return [
        web.get("/ws", raw),
        web.get("/ws/{streams:.*}", raw),
        web.get("/stream", combined),
        web.get("/stream/", combined),
    ]


async def _serve(exchange: Exchange, request: web.Request, names: str, *, combined: bool) -> web.StreamResponse:
    now_ms = exchange.wall_ms()
    names_asked = [name for name in names.split("/") if name]
    try:
        raise_refusals(exchange, 403, 451)
        if not exchange.accounts.connect(request.remote or "", now_ms):
            raise ExchangeFault(
                -1034, f"Too many connection attempts from IP; current limit is {exchange.settings.limits.connections} per '5 MINUTE'.", 429
            )
        if len(exchange.connections) >= CONNECTIONS_MOST:
            raise ExchangeFault(-1034, f"Too many concurrent connections; current limit is '{CONNECTIONS_MOST}'.", 503)
        if len(names_asked) > exchange.settings.rules.streams:
            raise ExchangeFault(
                -1130, f"Data sent for parameter 'streams' is not valid: more than {exchange.settings.rules.streams} streams."
            )
    except ExchangeFault as error:
        return web.Response(body=error.body, status=error.status, content_type="application/json")
    unit = time_unit(request.query.get("timeUnit"))
    session = Session(combined=combined, streams=names_asked, unit=unit, opened_ms=now_ms, rules=exchange.settings.rules)
    connection = exchange.open(session)
    log.debug("connection opened", connection=connection.number, remote=request.remote, path=request.path, streams=len(names_asked))
    try:
        return await connection.serve(request, exchange.wall_ms, exchange.subscriptions_changed)
    finally:
        exchange.close(connection)
