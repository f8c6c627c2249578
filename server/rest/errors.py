"""What a REST request that can't be answered is told: what was expected, what came, what to do. One form for all.

`{"error": {"status": 422, "expected": "limit: from 1 to 1000", "came": "5000", "do": "send another value"}}`
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from klinestream.market.errors import KlinestreamError

API = "/api/"
SHOWN_MOST = 80
READ_THE_DOCS = "see /api/openapi.json"


class RestError(KlinestreamError):
    """A request that is not answered as it was meant. 400: contradicts itself; 404: no such thing; 422: a bad value; 503: not yet."""

    def __init__(self, status: int, expected: str, came: str, todo: str, *, retry_after_s: int | None = None) -> None:
        """All of it goes to the client as it is."""
        super().__init__(f"expected {expected}, got {came}: {todo}")
        self.status = status
        self.expected = expected
        self.came = came
        self.todo = todo
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        told = {"status": self.status, "expected": self.expected, "came": self.came, "do": self.todo}
        return orjson.dumps({"error": told})

    def response(self) -> Response:
        """The answer."""
        return answer_of(self.status, self.body, self.retry_after_s)


def answer_of(status: int, body: bytes, retry_after_s: int | None) -> Response:
    """An error's answer."""
    headers = {"cache-control": "no-store"}
    if retry_after_s is not None:
        headers["retry-after"] = str(retry_after_s)
    return Response(body, status, headers, "application/json")


def add_handlers(app: FastAPI) -> None:
    """Answer every error under /api/ in the one form."""

    async def fault(_: Request, error: Exception) -> Response:
        assert isinstance(error, RestError)  # noqa: S101  # it is registered for these
        return error.response()

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101  # it is registered for these
        if not request.url.path.startswith(API):
            return await request_validation_exception_handler(request, error)
        return _of_validation(error.errors()).response()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
        if not request.url.path.startswith(API):
            return await http_exception_handler(request, error)
        asked = f"{request.method} {request.url.path}"[:SHOWN_MOST]
        response = RestError(error.status_code, "a route that there is, asked with GET", asked, READ_THE_DOCS).response()
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(RestError, fault)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)


def _of_validation(errors: Sequence[Mapping[str, Any]]) -> RestError:
    first = errors[0]
    name = str(first["loc"][-1])[:SHOWN_MOST]
    if first["type"] == "missing":
        return RestError(422, f"the parameter {name}", "none", f"send it; {READ_THE_DOCS}")
    if first["type"] == "extra_forbidden":
        return RestError(422, "parameters that the route has", repr(name), f"leave it out; {READ_THE_DOCS}")
    message = str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return RestError(422, f"{name}: {message}", repr(first.get("input"))[:SHOWN_MOST], f"send another value; {READ_THE_DOCS}")
