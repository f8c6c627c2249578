"""The REST shell: weights, headers, faults and a thread around the endpoints."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from klinestream.market.events import SECOND_MS
from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.standin.endpoints import ENDPOINTS, Call, Endpoint, depth_weight
from klinestream.standin.exchange import Exchange
from klinestream.standin.faults import Refuse, Slow
from klinestream.standin.frames import Unit
from klinestream.standin.params import Params
from klinestream.standin.weights import Verdict

_MICROSECOND = ("MICROSECOND", "microsecond")


def routes(exchange: Exchange) -> list[web.RouteDef]:
    """A route an endpoint."""
    return [web.get(path, _handler(exchange, path, endpoint)) for path, endpoint in ENDPOINTS.items()]


def time_unit(asked: str | None) -> Unit:
    """The unit of time that a header or a query asks for."""
    return Unit.MICROSECOND if asked in _MICROSECOND else Unit.MILLISECOND


def raise_refusals(exchange: Exchange, *statuses: int) -> None:
    """Raise the ExchangeFault that a fault answers everything with; of these statuses only, where some are given."""
    now_ms = exchange.wall_ms()
    for active in exchange.faults.active(now_ms):
        if isinstance(active.fault, Refuse) and (not statuses or active.fault.status in statuses):
            raise _refused(exchange, active.fault.status, active.until_ms, now_ms)


def _handler(exchange: Exchange, path: str, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        now_ms = exchange.wall_ms()
        weight = depth_weight(request.query.get("limit")) if path.endswith("/depth") else endpoint.weight
        verdict = exchange.accounts.charge(request.remote or "", weight, now_ms)
        headers = {"X-MBX-USED-WEIGHT": str(verdict.used), "X-MBX-USED-WEIGHT-1M": str(verdict.used)}
        try:
            status, body = 200, await _answer(exchange, endpoint, request, verdict, now_ms)
        except ExchangeFault as error:
            status, body = error.status, error.body
            if error.retry_after_s is not None:
                headers["Retry-After"] = str(error.retry_after_s)
        exchange.metrics.requests.labels(path, status).inc()
        return web.Response(body=body, status=status, headers=headers, content_type="application/json", charset="UTF-8")

    return handle


async def _answer(exchange: Exchange, endpoint: Endpoint, request: web.Request, verdict: Verdict, now_ms: int) -> bytes:
    """The body of the answer. Raises ExchangeFault."""
    raise_refusals(exchange)
    if verdict.status != 200:
        raise _refused(exchange, verdict.status, now_ms + verdict.retry_after_s * SECOND_MS, now_ms)
    for slow in exchange.faults.of(Slow, now_ms):
        await asyncio.sleep(slow.delay_s)
    call = Call(
        market=exchange.market,
        params=Params(list(request.query.items()), endpoint.params),
        at_ms=exchange.market_ms(),
        wall_ms=exchange.wall_ms(),
        unit=time_unit(request.headers.get("X-MBX-TIME-UNIT")),
        faults=exchange.faults,
        weight_limit=exchange.settings.limits.weight_per_minute,
    )
    # A thousand candles take a while, and the second's burst must not wait for them.
    return await asyncio.to_thread(lambda: orjson.dumps(endpoint.answer(call)))


def _refused(exchange: Exchange, status: int, until_ms: int, now_ms: int) -> ExchangeFault:
    wait_s = -(-(until_ms - now_ms) // SECOND_MS)
    match status:
        case 429:
            limit = exchange.settings.limits.weight_per_minute
            used_up = f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."
            return ExchangeFault(-1003, f"{used_up} Please use WebSocket Streams for live updates to avoid polling the API.", 429, wait_s)
        case 418:
            banned = f"Way too much request weight used; IP banned until {until_ms}."
            return ExchangeFault(-1003, f"{banned} Please use WebSocket Streams for live updates to avoid bans.", 418, wait_s)
        case 451:
            return ExchangeFault(
                0, "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of use.", 451
            )
        case 403:
            return ExchangeFault(-1002, "You are not authorized to execute this request.", 403)
        case _:
            return ExchangeFault(-1008, "Server is currently overloaded with other requests. Please try again in a few minutes.", status)
