"""The REST routes under /api/v1: history as JSON, CSV or Arrow, gaps, symbols, status. See docs/rest.md."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from klinestream.market.intervals import INTERVALS
from klinestream.market.ledger import Gap
from server.rest import tables
from server.rest.columns import Table
from server.rest.docs import GAP_RESPONSES, SERIES_RESPONSES, STATUS_RESPONSES, SYMBOLS_RESPONSES, WINDOW_RESPONSES
from server.rest.query import Format, GapsQuery, SeriesQuery, SignalsQuery, Span, WindowsQuery, chosen
from server.rest.sources import Sources
from server.rest.symbols import overview

MORE = "klinestream-more"
"""Header: whether the limit left out some."""


def routes(sources: Sources) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/api/v1", tags=["history"])
    _add_series(router, sources)
    _add_now(router, sources)
    return router


def _add_series(router: APIRouter, sources: Sources) -> None:
    store, event = sources.store, sources.hub.history.topic.event

    @router.get("/windows", response_class=Response, responses=WINDOW_RESPONSES, summary="Windows of a symbol, by their end")
    async def windows(query: Annotated[WindowsQuery, Query()], request: Request) -> Response:
        held = sources.hub.history.between(query.symbol, query.checked().from_ms, query.to_ms)
        if held is None:
            raise sources.no_windows(query.symbol)
        more = len(held) > query.limit
        values = held[-query.limit :] if query.from_ms is None else held[: query.limit]
        return await answered(
            sources, (query, request), "windows", {"symbol": query.symbol, "more": more}, lambda: tables.windows(values, event)
        )

    @router.get("/candles", response_class=Response, responses=SERIES_RESPONSES["candles"], summary="Closed candles, by open time")
    async def candles(query: Annotated[SeriesQuery, Query()], request: Request) -> Response:
        return await of_series(query, request, "candles", store.candles.rows, tables.candles)

    @router.get("/indicators", response_class=Response, responses=SERIES_RESPONSES["indicators"], summary="Indicators of closed candles")
    async def indicators(query: Annotated[SeriesQuery, Query()], request: Request) -> Response:
        return await of_series(query, request, "indicators", store.indicators.rows, partial(tables.indicators, names=store.names.names))

    async def of_series(
        query: SeriesQuery, request: Request, name: str, held: Callable[[str, str], Any], table: Callable[[str, str, Any], Table]
    ) -> Response:
        symbol, interval = query.checked().symbol, query.interval
        sources.candles_read()
        sources.known(symbol)
        rows = held(symbol, interval)
        which, more = chosen(rows["t"], query)
        head = {"symbol": symbol, "interval": interval, "more": more}
        return await answered(sources, (query, request), name, head, lambda: table(symbol, interval, rows[which]))

    @router.get("/signals", response_class=Response, responses=SERIES_RESPONSES["signals"], summary="Signals, by their candle's open time")
    async def signals(query: Annotated[SignalsQuery, Query()], request: Request) -> Response:
        symbol = query.checked().symbol
        sources.candles_read()
        sources.known(symbol)
        intervals = INTERVALS if query.interval is None else (query.interval,)
        found = [(interval, row) for interval in intervals for row in store.signals.rows(symbol, interval)]
        found.sort(key=lambda signal: int(signal[1]["t"]))
        which, more = chosen([int(row["t"]) for _, row in found], query)
        return await answered(
            sources, (query, request), "signals", {"symbol": symbol, "more": more}, lambda: tables.signals(symbol, found[which])
        )


def _add_now(router: APIRouter, sources: Sources) -> None:
    @router.get("/gaps", response_class=Response, responses=GAP_RESPONSES, summary="Gaps of the feed that overlap a span")
    async def gaps(query: Annotated[GapsQuery, Query()], request: Request) -> Response:
        query.checked()
        ledger = await sources.gaps.ledger()
        found, more = await sources.encodings.run(lambda: _chosen_gaps(ledger.gaps(), query))
        return await answered(sources, (query, request), "gaps", {"more": more}, lambda: tables.gaps(found))

    @router.get("/symbols", response_class=Response, responses=SYMBOLS_RESPONSES, summary="Every symbol with price, change and age")
    async def symbols() -> Response:
        newest = sources.hub.history.newest()
        body = await sources.encodings.run(lambda: orjson.dumps({"symbols": overview(newest, sources.store, sources.now_ms())}))
        return response_of(body)

    @router.get("/status", response_class=Response, responses=STATUS_RESPONSES, summary="What is there, how old, how far behind")
    async def status() -> Response:
        return response_of(orjson.dumps(_status(sources)))


async def answered(
    sources: Sources, asked: tuple[Span, Request], name: str, head: Mapping[str, Any], table: Callable[[], Table]
) -> Response:
    """A table in the format that is asked for, made in its turn."""
    query, request = asked
    form = query.written_as(request.headers.get("accept"))
    body = await sources.encodings.run(lambda: tables.encoded(table(), form, head, name))
    return response_of(body, form, {MORE: "true" if head["more"] else "false", "vary": "accept"})


def response_of(body: bytes, form: Format = Format.JSON, headers: Mapping[str, str] | None = None) -> Response:
    """A body that nobody keeps."""
    return Response(body, 200, {"cache-control": "no-store", **(headers or {})}, form.media_type)


def _chosen_gaps(gaps: Sequence[Gap], query: GapsQuery) -> tuple[list[Gap], bool]:
    """The gaps asked for by the time of their beginning, oldest first."""
    found = [
        gap
        for gap in gaps
        if query.symbol in (None, gap.record.symbol)
        and query.state in (None, gap.record.state)
        and (query.from_ms is None or gap.record.to_ms > query.from_ms)
        and (query.to_ms is None or gap.record.from_ms < query.to_ms)
    ]
    found.sort(key=lambda gap: (gap.record.from_ms, gap.record.to_ms, gap.record.symbol))
    more = len(found) > query.limit
    return (found[-query.limit :] if query.from_ms is None else found[: query.limit]), more


def _status(sources: Sources) -> dict[str, Any]:
    history, store, now_ms = sources.hub.history, sources.store, sources.now_ms()
    newest = history.newest_end_ms
    windows = {
        "topic": history.topic.name,
        "caught_up": sources.feed.state.caught_up,
        "fault": sources.feed.state.fault,
        "newest_end": newest,
        "age_s": None if newest is None else (now_ms - newest) / 1000,
        "symbols": len(history.symbols()),
        **asdict(sources.feed.reached),
    }
    held = {"candles": store.candles, "indicators": store.indicators, "signals": store.signals}
    candles = {
        "complete": sources.candle_feed.complete,
        "caught_up": sources.candle_feed.state.caught_up,
        "fault": sources.candle_feed.state.fault,
        "symbols": len(store.candles.symbols()),
        "topics": {topic: asdict(reached) for topic, reached in sources.candle_feed.reached.items()},
        "held": {name: dict(zip(("rows", "bytes"), table.counts(), strict=True)) for name, table in held.items()},
    }
    newest_book, feed = sources.books.newest_ms, sources.book_feed
    books = {
        "caught_up": feed.state.caught_up,
        "fault": feed.state.fault,
        "newest": newest_book,
        "age_s": None if newest_book is None else (now_ms - newest_book) / 1000,
        "symbols": len(sources.books.times()),
        **asdict(feed.reached),
    }
    return {"server_time": now_ms, "windows": windows, "candles": candles, "books": books}
