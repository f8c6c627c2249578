"""The exchange's own REST, as far as its clients need it to read our candles from our server: /api/v3."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from klinestream.market.intervals import INTERVALS
from klinestream.runtime.exchange_params import ExchangeFault
from server.exchange.docs import parameters, responses
from server.exchange.params import Params, known_symbol
from server.exchange.rows import exchange_info, kline_rows
from server.rest.errors import RestError, answer_of
from server.rest.query import Span
from server.rest.sources import Sources

KLINE_PARAMS = ("symbol", "interval", "startTime", "endTime", "timeZone", "limit")
INFO_PARAMS = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
_UNAVAILABLE = -1008
_TRADING = "TRADING"
"""The status of every market here."""

Answer = Callable[[Sources, Params], Awaitable[bytes]]


def routes(sources: Sources, requests_per_s: float) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/api/v3", tags=["Binance-compatible"])

    async def ping(_: Sources, __: Params) -> bytes:
        return b"{}"

    async def time(of: Sources, _: Params) -> bytes:
        return orjson.dumps({"serverTime": of.now_ms()})

    async def info(of: Sources, params: Params) -> bytes:
        names = _asked_for(of, params)
        return await of.encodings.run(lambda: exchange_info(names, of.now_ms(), round(60 * requests_per_s)))

    _add(router, sources, "/ping", (), ping)
    _add(router, sources, "/time", (), time)
    _add(router, sources, "/exchangeInfo", INFO_PARAMS, info)
    _add(router, sources, "/klines", KLINE_PARAMS, _klines)
    _add(router, sources, "/uiKlines", KLINE_PARAMS, _klines)
    return router


def _add(router: APIRouter, sources: Sources, path: str, known: Collection[str], answer: Answer) -> None:
    documented: dict[str, Any] = {"responses": responses(path), "openapi_extra": {"parameters": parameters(path, known)}}

    @router.get(path, response_class=Response, summary="As the exchange's own", **documented)
    async def handle(request: Request) -> Response:
        try:
            body = await answer(sources, Params(request.query_params.multi_items(), known))
        except ExchangeFault as fault:
            return answer_of(fault.status, fault.body, fault.retry_after_s)
        except RestError as fault:
            told = ExchangeFault(_UNAVAILABLE, str(fault), fault.status)
            return answer_of(told.status, told.body, fault.retry_after_s)
        return Response(body, 200, {"cache-control": "no-store"}, "application/json;charset=UTF-8")


async def _klines(sources: Sources, params: Params) -> bytes:
    symbol, interval = params.mandatory("symbol"), params.interval()
    start_ms, end_ms, limit = params.time_ms("startTime"), params.time_ms("endTime"), params.rows()
    params.zone(INTERVALS[interval])
    sources.candles_read()
    known_symbol(symbol, sources.store.candles.knows)
    # Not checked: the exchange knows no time that is too far.
    span = Span.model_construct(from_ms=start_ms, to_ms=None if end_ms is None else end_ms + 1, limit=limit)
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        return b"[]"
    rows, provisional = sources.store.candles.rows(symbol, interval), sources.store.provisional(symbol)
    return await sources.encodings.run(lambda: orjson.dumps(kline_rows(symbol, interval, rows, provisional, span)))


def _asked_for(sources: Sources, params: Params) -> list[str]:
    sources.candles_read()
    single, several, status = params.text("symbol"), params.symbols("symbols"), params.symbol_status()
    params.permissions()
    params.flag("showPermissionSets", default=True)
    if single is not None and several is not None:
        raise ExchangeFault(-1128, "Combination of optional parameters invalid.")
    knows = sources.store.candles.knows
    if single is not None:
        return [known_symbol(single, knows)]
    if several is not None:
        return [known_symbol(name, knows) for name in several]
    return sources.store.candles.symbols() if status in (None, _TRADING) else []
