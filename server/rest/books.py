"""/api/v1/books: order books as they stand, and what followed from them in the last minutes."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from klinestream.market.topics import ORDER_BOOK
from server.rest import tables
from server.rest.docs import BOOK_RESPONSES, BOOKS_RESPONSES, FEATURES_RESPONSES
from server.rest.errors import RestError
from server.rest.query import Span, Symbol
from server.rest.routes import answered, response_of
from server.rest.sources import RETRY_S, Sources

START_IT = "start the feed of order books: klinestream up --with books, and see books.symbols"


class NoQuery(BaseModel):
    """Nothing to choose."""

    model_config = ConfigDict(extra="forbid")


def routes(sources: Sources) -> APIRouter:
    """All three."""
    router = APIRouter(prefix="/api/v1", tags=["order books"])

    @router.get("/books", response_class=Response, responses=BOOKS_RESPONSES, summary="Symbols that have an order book, with its age")
    async def listed(_: Annotated[NoQuery, Query()]) -> Response:
        now_ms = sources.now_ms()
        found = [
            {"symbol": symbol, "time": time_ms, "age_s": (now_ms - time_ms) / 1000} for symbol, time_ms in sources.books.times().items()
        ]
        return response_of(orjson.dumps({"server_time": now_ms, "caught_up": sources.book_feed.state.caught_up, "books": found}))

    @router.get("/books/{symbol}", response_class=Response, responses=BOOK_RESPONSES, summary="A symbol's newest order book")
    async def newest(symbol: Annotated[Symbol, Path()], _: Annotated[NoQuery, Query()]) -> Response:
        book = sources.books.newest(symbol)
        if book is None:
            raise _none(sources, symbol)
        now_ms = sources.now_ms()
        head = {"symbol": symbol, "server_time": now_ms, "age_s": (now_ms - book.time_ms) / 1000}
        return response_of(orjson.dumps(head | {"book": orjson.Fragment(book.value)}))

    @router.get(
        "/books/{symbol}/features",
        response_class=Response,
        responses=FEATURES_RESPONSES,
        summary="A symbol's books without levels, by time",
    )
    async def features(symbol: Annotated[Symbol, Path()], query: Annotated[Span, Query()], request: Request) -> Response:
        held = sources.books.features(symbol, query.checked().from_ms, query.to_ms)
        if not held and sources.books.newest(symbol) is None:
            raise _none(sources, symbol)
        more = len(held) > query.limit
        values = held[-query.limit :] if query.from_ms is None else held[: query.limit]
        head = {"symbol": symbol, "more": more}
        return await answered(sources, (query, request), "features", head, lambda: tables.features(values))

    return router


def _none(sources: Sources, symbol: str) -> RestError:
    """What to say of a symbol without a book: there may be one soon."""
    state = sources.book_feed.state
    if state.caught_up or state.fault is not None:
        return RestError(404, "a symbol that has an order book", symbol, START_IT)
    return RestError(503, f"{ORDER_BOOK.name} read to its end", "the beginning of it", "try again", retry_after_s=RETRY_S)
