"""The routes. `create_app` puts a server together; nothing here decides anything."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import orjson
import plotly
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Scope

from klinestream.market.ledger import Ledger
from klinestream.runtime.config import ServerConfig
from klinestream.runtime.kafka import Reader
from klinestream.runtime.watched import WatchedWriter
from server import exchange_rest, rest
from server.candle_feed import CandleFeed
from server.candle_store import CandleStore
from server.client import POLICY_VIOLATION
from server.clients import Hub, serve
from server.feed import Feed
from server.health import reasons_not_ready
from server.history import History
from server.metrics import Metrics
from server.rest_errors import add_handlers
from server.rest_limits import Encodings, RestGate
from server.rest_sources import Gaps, Sources
from server.security import SecurityHeaders, origin_allowed
from server.stream import Stream
from server.stream_encoding import ENCODINGS

HEARTBEAT_S = 2.0
FEED_STOP_S = 1.0
WATCHED_EVERY_S = 1.0
SYMBOLS_MOST = 10_000
WINDOWS_A_SECOND_MOST = 20  # the job makes two; a slide of 50 ms would make this many
DAY_S = 86_400
_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


class RevalidatedFiles(StaticFiles):
    """Static files that a browser asks for again by ETag: page and modules always fit each other after an update."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, to be revalidated at each use."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response


def create_app(
    config: ServerConfig,
    open_reader: Callable[[], Reader],
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    *,
    writer: WatchedWriter | None = None,
    read_gaps: Callable[[], Ledger] = Ledger,
) -> FastAPI:
    """A server that reads by `open_reader`, in threads of its own from the application's start to its end.

    `writer` is told what clients look at; it starts and ends with the application. `read_gaps` is called in a thread, when
    somebody asks for gaps.
    """
    metrics = Metrics()
    span_ms = config.history_s * 1000
    history = History(span_ms, windows_most=config.history_s * WINDOWS_A_SECOND_MOST, symbols_most=SYMBOLS_MOST)
    store = CandleStore(config.history_candles)
    streams = Stream(config, history, store, now_ms)
    hub = Hub(config, history, streams, metrics, now_ms)
    feed = Feed(open_reader, hub, metrics, now_ms, span_ms=span_ms)
    candle_feed = CandleFeed(open_reader, store, streams, metrics, now_ms)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        feed.start(asyncio.get_running_loop())
        candle_feed.start(asyncio.get_running_loop(), after=lambda: feed.state.caught_up)
        tasks = [asyncio.create_task(_beat(hub))]
        if writer is not None:
            writer.start()
            tasks.append(asyncio.create_task(_tell_watched(hub, writer)))
        yield
        for task in tasks:
            task.cancel()
        stops = [feed.stop, candle_feed.stop] if writer is None else [feed.stop, candle_feed.stop, writer.stop]
        await asyncio.gather(*(asyncio.to_thread(stop, FEED_STOP_S) for stop in stops))

    # Without pages of documentation: they load scripts from elsewhere.
    app = FastAPI(title="klinestream", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.add_middleware(RestGate, metrics=metrics, per_s=config.requests_per_s)
    app.add_middleware(SecurityHeaders)
    add_handlers(app)
    _add_page(app)
    _add_status(app, config, hub, feed, now_ms)
    sources = Sources(hub, feed, store, candle_feed, Gaps(read_gaps), now_ms, Encodings())
    app.include_router(rest.routes(sources))
    app.include_router(exchange_rest.routes(sources, config.requests_per_s))

    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        headers = websocket.headers
        if not origin_allowed(headers.get("origin"), headers.get("host"), config.allowed_origins):
            metrics.refused.labels("origin").inc()
            await websocket.close()  # before it is accepted: the handshake is answered with 403
            return
        await websocket.accept()
        encoding = websocket.query_params.get("encoding")
        if encoding is not None and encoding not in ENCODINGS:
            metrics.refused.labels("encoding").inc()
            await websocket.close(POLICY_VIOLATION, f"encoding: expected {' or '.join(ENCODINGS)}, got {ascii(encoding)[:40]}")
            return
        await serve(websocket, hub, config, None if encoding is None else ENCODINGS[encoding])

    return app


def _add_page(app: FastAPI) -> None:
    static = _static_folder()

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/chart")

    @app.get("/chart", include_in_schema=False)
    async def chart() -> FileResponse:
        return FileResponse(static / "chart.html", headers={"cache-control": "no-cache"})

    @app.get("/vendor/plotly.min.js", include_in_schema=False)
    def plotly_js(request: Request) -> Response:
        """The library from the installed package, with the package's version as its tag."""
        tag = f'"plotly-{plotly.__version__}"'
        headers = {"etag": tag, "cache-control": f"public, max-age={DAY_S}", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(_plotly(packed), media_type="text/javascript", headers=headers)

    app.mount("/static", RevalidatedFiles(directory=static))


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
        if history.newest_end_ms is not None:
            metrics.data_age_seconds.set((now_ms() - history.newest_end_ms) / 1000)
        metrics.symbols.set(len(history.symbols()))
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


@cache
def _plotly(packed: bool) -> bytes:
    """plotly.js, 4.8 MB, as it is or packed to a third: once a process, not once a request."""
    content = _PLOTLY.read_bytes()
    return gzip.compress(content, compresslevel=6) if packed else content


def _static_folder() -> Path:
    """Beside the package in a checkout, inside it once installed."""
    here = Path(__file__).parent
    installed = here / "static"
    return installed if installed.is_dir() else here.parent / "static"
