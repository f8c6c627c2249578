"""Status, metrics and faults under /standin/, for this machine alone."""

import ipaddress

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import exposition

from klinestream.market.errors import ConfigError, KlinestreamError
from klinestream.standin.exchange import Exchange
from klinestream.standin.faults import read

PREFIX = "/standin/"
_JSON = "application/json"


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """The admin endpoint."""

    async def status(_request: web.Request) -> web.Response:
        return _json(exchange.status())

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=exposition.generate_latest(exchange.metrics.registry), headers={"Content-Type": exposition.CONTENT_TYPE_LATEST}
        )

    async def inject(request: web.Request) -> web.Response:
        if request.content_type != _JSON:
            # A web page can post text to any address without asking, but not JSON.
            return _json({"error": f"expected Content-Type {_JSON}, got {request.content_type}"}, 415)
        try:
            return _json(exchange.inject(read(orjson.loads(await request.read()))))
        except (orjson.JSONDecodeError, ConfigError) as error:
            return _json({"error": str(error)}, 422)
        except KlinestreamError as error:
            return _json({"error": str(error)}, 409)

    async def clear(_request: web.Request) -> web.Response:
        exchange.clear_faults()
        return _json({})

    return [
        web.get(f"{PREFIX}status", status),
        web.get(f"{PREFIX}metrics", metrics),
        web.post(f"{PREFIX}faults", inject),
        web.delete(f"{PREFIX}faults", clear),
    ]


@web.middleware
async def loopback_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whoever can reach the stand-in from outside may use it as an exchange, but not break it."""
    if request.path.startswith(PREFIX) and not _is_loopback(request.remote):
        return _json({"error": f"expected a request from this machine, got one from {request.remote}"}, 403)
    return await handler(request)


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type=_JSON)
