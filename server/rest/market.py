"""/api/v1/market: the whole market for a table of it. Made and encoded once a second at most, however many ask."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, get_args

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from server.rest.docs import LINES_RESPONSES, MARKET_RESPONSES
from server.rest.kept import Body, Kept, answered, body_of
from server.rest.market_table import LINE_INTERVAL, Columns, Days, Listing, line_columns, market_columns, rsi_columns, usual_rsi
from server.rest.query import Interval
from server.rest.sources import Sources
from server.rest.symbols import known_names

KEPT_S = 1.0
LINES_KEPT_S = 30.0


class MarketQuery(BaseModel):
    """Which RSI."""

    model_config = ConfigDict(extra="forbid")

    interval: Interval = Field("1h", description="Of the RSI.")


class LinesQuery(BaseModel):
    """Nothing to choose."""

    model_config = ConfigDict(extra="forbid")


def routes(sources: Sources, stale_after_s: float) -> APIRouter:
    """Both routes."""
    router = APIRouter(prefix="/api/v1", tags=["now"])
    market = _Market(sources, stale_after_s)
    bodies = {interval: Kept(partial(market.body, interval), KEPT_S) for interval in get_args(Interval)}
    lines = Kept(market.lines, LINES_KEPT_S)
    # While candles are read there are more of them each second.
    early = Kept(market.lines, KEPT_S)

    @router.get("/market", response_class=Response, responses=MARKET_RESPONSES, summary="Every symbol: price, day and RSI, as columns")
    async def of_interval(query: Annotated[MarketQuery, Query()], request: Request) -> Response:
        return answered(await bodies[query.interval].get(), request)

    @router.get("/market/lines", response_class=Response, responses=LINES_RESPONSES, summary="Every symbol's day as a small line")
    async def of_day(_: Annotated[LinesQuery, Query()], request: Request) -> Response:
        return answered(await (lines if sources.candle_feed.complete else early).get(), request)

    return router


@dataclass(frozen=True, slots=True)
class _Common:
    """What doesn't depend on the interval."""

    candles_read: bool
    symbols: list[str]
    encoded: dict[str, bytes]


class _Market:
    """Makes the bodies; what doesn't depend on the interval is made once for all of them."""

    def __init__(self, sources: Sources, stale_after_s: float) -> None:
        self._sources = sources
        self._stale_after_ms = round(stale_after_s * 1000)
        self._days = Days(sources.store)
        self._listing = Listing()
        self._common = Kept(self._make_common, KEPT_S)

    async def body(self, interval: str) -> Body:
        common = await self._common.get()
        return await self._sources.encodings.run(lambda: self._with_rsi(interval, common))

    async def lines(self) -> Body:
        windows, read = self._sources.hub.history.newest(), self._sources.candle_feed.complete
        return await self._sources.encodings.run(lambda: self._lines(known_names(windows, self._sources.store), read))

    async def _make_common(self) -> _Common:
        # Only this thread may look into the history; what it gives is nobody's but ours.
        windows = self._sources.hub.history.newest()
        # Before the candles are looked at: what is said to be read is in the columns.
        read = self._sources.candle_feed.complete

        def make() -> _Common:
            columns = market_columns(windows, self._sources.store, self._days, self._listing)
            return _Common(read, columns["symbol"], _encoded(columns))

        return await self._sources.encodings.run(make)

    def _with_rsi(self, interval: str, common: _Common) -> Body:
        store = self._sources.store
        head = {
            "interval": interval,
            "rsi_name": usual_rsi(store.names.names),
            "candles_read": common.candles_read,
            "stale_after_ms": self._stale_after_ms,
        }
        return body_of(self._sources.now_ms(), head, common.encoded | _encoded(rsi_columns(common.symbols, interval, store)))

    def _lines(self, symbols: list[str], candles_read: bool) -> Body:
        now_ms = self._sources.now_ms()
        first_ms, columns = line_columns(symbols, now_ms, self._sources.store)
        return body_of(now_ms, {"interval": LINE_INTERVAL, "from": first_ms, "candles_read": candles_read}, _encoded(columns))


def _encoded(columns: Columns) -> dict[str, bytes]:
    return {name: orjson.dumps(column) for name, column in columns.items()}
