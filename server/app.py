"""The routes. `create_app` puts a server together; nothing here decides anything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import orjson
from fastapi import FastAPI, Response, WebSocket
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from klinestream import __version__
from klinestream.market.ledger import Ledger
from klinestream.market.topics import WINDOWS, Topic
from klinestream.runtime.kafka import Reader
from klinestream.runtime.server_sections import ServerConfig
from klinestream.runtime.watched import WatchedWriter
from server.access.guards import guard
from server.books.feed import BookFeed
from server.books.store import BookStore
from server.candles.feed import CandleFeed
from server.candles.store import CandleStore
from server.client import POLICY_VIOLATION
from server.clients import Hub, serve
from server.exchange import routes as exchange_rest
from server.feed import Feed
from server.health import reasons_not_ready
from server.history import History
from server.metrics import Metrics
from server.pages import add_pages
from server.pipeline import routes as pipeline_rest
from server.pipeline.pipeline import Pipeline
from server.pipeline.workflows import WorkflowFeed
from server.rest import books as rest_books
from server.rest import correlations as rest_correlations
from server.rest import market as rest_market
from server.rest import routes as rest
from server.rest.errors import add_handlers
from server.rest.limits import Encodings
from server.rest.openapi import complete
from server.rest.sources import Gaps, Sources
from server.stream.encoding import ENCODINGS
from server.stream.stream import Stream

HEARTBEAT_S = 2.0
FEED_STOP_S = 1.0
WATCHED_EVERY_S = 1.0
SYMBOLS_MOST = 10_000
WINDOWS_A_SECOND_MOST = 20  # the job makes two; a slide of 50 ms would make this many


def create_app(
    config: ServerConfig,
    open_reader: Callable[[], Reader],
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    *,
    windows: Topic = WINDOWS,
    writer: WatchedWriter | None = None,
    read_gaps: Callable[[], Ledger] = Ledger,
) -> FastAPI:
    """A server that reads by `open_reader`, in threads of its own from the application's start to its end.

    `windows` is where the windows come from: over klines, or over trades. `writer` is told what clients look at; it starts and ends
    with the application. `read_gaps` is called in a thread, when somebody asks for gaps.
    """
    metrics = Metrics(now_ms())
    span_ms = config.history_s * 1000
    history = History(span_ms, windows_most=config.history_s * WINDOWS_A_SECOND_MOST, symbols_most=SYMBOLS_MOST, topic=windows)
    store, books = CandleStore(config.history_candles), BookStore()
    streams = Stream(config, history, store, now_ms, books)
    hub = Hub(config, history, streams, metrics, now_ms)
    feed = Feed(open_reader, hub, metrics, now_ms, span_ms=span_ms, topic=windows)
    candle_feed = CandleFeed(open_reader, store, streams, metrics, now_ms)
    book_feed = BookFeed(open_reader, books, streams, metrics, now_ms)
    sources = Sources(hub, feed, store, candle_feed, books, book_feed, Gaps(read_gaps), now_ms, Encodings())
    workflows = WorkflowFeed(open_reader, metrics)
    pipeline = Pipeline(config, sources, workflows=workflows.newest)

    # Without pages of documentation: they load scripts from elsewhere.
    app = FastAPI(
        title="klinestream",
        version=__version__,
        lifespan=_lifespan(sources, pipeline, workflows, writer),
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    guard(app, config, metrics)
    add_handlers(app)
    add_pages(app)
    _add_status(app, config, hub, feed, now_ms)
    app.include_router(rest.routes(sources))
    app.include_router(pipeline_rest.routes(pipeline))
    app.include_router(rest_books.routes(sources))
    app.include_router(rest_market.routes(sources, config.stale_after_s))
    app.include_router(rest_correlations.routes(sources))
    app.include_router(exchange_rest.routes(sources, config.requests_per_s))
    complete(app)
    _add_websocket(app, config, hub)
    return app


def _lifespan(
    sources: Sources, pipeline: Pipeline, workflows: WorkflowFeed, writer: WatchedWriter | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    hub, feed, others = sources.hub, sources.feed, (sources.candle_feed, sources.book_feed, workflows)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        feed.start(asyncio.get_running_loop())
        for other in others:
            other.start(asyncio.get_running_loop(), after=lambda: feed.state.caught_up)
        tasks = [asyncio.create_task(_beat(hub))]
        if writer is not None:
            writer.start()
            tasks.append(asyncio.create_task(_tell_watched(hub, writer)))
        yield
        for task in tasks:
            task.cancel()
        stops = [feed.stop, *(other.stop for other in others), *([] if writer is None else [writer.stop])]
        await asyncio.gather(pipeline.close(), *(asyncio.to_thread(stop, FEED_STOP_S) for stop in stops))

    return lifespan


def _add_websocket(app: FastAPI, config: ServerConfig, hub: Hub) -> None:
    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        encoding = websocket.query_params.get("encoding")
        if encoding is not None and encoding not in ENCODINGS:
            hub.metrics.refused.labels("encoding").inc()
            await websocket.close(POLICY_VIOLATION, f"encoding: expected {' or '.join(ENCODINGS)}, got {ascii(encoding)[:40]}")
            return
        await serve(websocket, hub, config, None if encoding is None else ENCODINGS[encoding])


def _add_status(app: FastAPI, config: ServerConfig, hub: Hub, feed: Feed, now_ms: Callable[[], int]) -> None:
    history, metrics = hub.history, hub.metrics

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        """The process answers: nothing more."""
        return _json({"alive": True})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """503 with the reasons if a client would get stale data."""
        newest = history.newest_end_ms
        reasons = reasons_not_ready(feed.state, newest, now_ms(), config.stale_after_s)
        age_s = None if newest is None else (now_ms() - newest) / 1000
        return _json({"ready": not reasons, "reasons": reasons, "data_age_s": age_s}, 503 if reasons else 200)

    @app.get("/api/symbols", include_in_schema=False)
    async def symbols() -> Response:
        return _json({"symbols": history.symbols()})

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        metrics.show_history(history.newest_end_ms, len(history.symbols()), now_ms())
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _beat(hub: Hub) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        hub.heartbeat()


async def _tell_watched(hub: Hub, writer: WatchedWriter) -> None:
    told = 0
    while True:
        await asyncio.sleep(WATCHED_EVERY_S)
        if hub.changes != told:
            told = hub.changes
            writer.tell(hub.followers())


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json", headers={"cache-control": "no-store"})
