"""The application. `create_app` puts a replica together; nothing here decides anything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from starlette.exceptions import HTTPException

from klinestream import __version__
from klinestream.ingest.documents import complete
from klinestream.ingest.follower import Follower
from klinestream.ingest.gate import Gate, answer
from klinestream.ingest.intake import Intake, Kafka
from klinestream.ingest.metrics import Metrics
from klinestream.ingest.outlet import Outlet
from klinestream.ingest.refusals import READ_THE_DOCS, SHOWN_MOST, PostError, shown
from klinestream.ingest.routes import routes
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Publisher, Reader

STOP_S = 5.0


def create_app(
    config: IngestConfig,
    open_publisher: Callable[[], Publisher],
    open_reader: Callable[[], Reader],
    replica: str,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    *,
    broken: Callable[[Exception], None] = lambda _: None,
) -> FastAPI:
    """A replica that publishes and reads back in threads of its own, from the application's start to its end.

    `broken` is called, in whatever thread, if one of them ends by an error: the process is of no use then.
    """
    metrics = Metrics()
    outlet = Outlet(open_publisher, broken)
    follower = Follower(open_reader, now_ms, broken)
    intake = Intake(config, Kafka(outlet, follower), metrics, replica, now_ms)
    metrics.keys.set_function(lambda: intake.keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        outlet.start()
        follower.start()
        yield
        # What was taken is finished before the broker is left, keys included: a 202 that follows must be true everywhere.
        try:
            async with asyncio.timeout(config.answer_s):
                await intake.finish()
        except TimeoutError:
            pass  # each of them was answered with 503
        await asyncio.gather(asyncio.to_thread(outlet.stop, STOP_S), asyncio.to_thread(follower.stop, STOP_S))

    # Without pages of documentation: they load scripts from elsewhere.
    app = FastAPI(
        title="klinestream ingestion",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    # What the metrics' own address tells: it asks for no token, as this application does.
    app.state.registry, app.state.faults = metrics.registry, intake.faults
    app.add_middleware(Gate, config=config, metrics=metrics)
    _add_handlers(app, metrics)
    _add_status(app, intake)
    app.include_router(routes(config, intake, now_ms))
    complete(app)
    return app


def _add_status(app: FastAPI, intake: Intake) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        """The process answers; a line says ok, or what would keep it from taking a post."""
        return PlainTextResponse("\n".join(intake.faults() or ["ok"]) + "\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        """503 with the reasons where a post would be refused, or wait."""
        reasons = intake.faults()
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


def _add_handlers(app: FastAPI, metrics: Metrics) -> None:
    """Answer every error in the one form."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, PostError)  # noqa: S101  # it is registered for these
        return answer(error, metrics)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # it is registered for these
        return answer(_of_validation(error.errors()), metrics)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
        asked = f"{request.method} {request.url.path}"[:SHOWN_MOST]
        refusal = PostError(error.status_code, "route", "a route that there is", ascii(asked), READ_THE_DOCS)
        response = answer(refusal, metrics)
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(PostError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)


def _of_validation(errors: Sequence[Mapping[str, Any]]) -> PostError:
    first = errors[0]
    message = str(first["msg"]).removeprefix("Input should be ")
    return PostError(422, "parameter", f"{first['loc'][-1]}: {message}", shown(first.get("input")), f"send another value; {READ_THE_DOCS}")


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
