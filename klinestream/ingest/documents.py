"""What /api/openapi.json says of bodies and answers, which the routes read and write themselves."""

from typing import Any

from fastapi import FastAPI

from klinestream.ingest.bodies import JSON, NDJSON
from klinestream.ingest.models import BarPost, KlinePost, Post, TradePost

_TIME_MS = {"type": "integer", "description": "ms since 1970, UTC"}
_LATE = {"type": ["integer", "null"], "description": "How many stand behind a newer one of their symbol in the topic; null where not known"}
_ACCEPTED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "accepted": {"type": "integer", "description": "Records that the broker has: all of the request"},
        "source": {"type": "string"},
        "topic": {"type": "string"},
        "late": _LATE,
        "symbols_in_all": {"type": "integer"},
        "symbols": {
            "type": "array",
            "description": "Where each symbol's records stand; of more than 100 symbols those with late records first",
            "items": {
                "type": "object",
                "properties": {
                    "symbol": {"type": "string"},
                    "records": {"type": "integer"},
                    "partition": {"type": "integer"},
                    "first_offset": {"type": "integer"},
                    "last_offset": {"type": "integer"},
                    "newest": _TIME_MS,
                    "late": _LATE,
                },
                "required": ["symbol", "records", "partition", "first_offset", "last_offset", "newest", "late"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["accepted", "source", "topic", "late", "symbols_in_all", "symbols"],
    "additionalProperties": False,
}
_FAULT = {
    "type": "object",
    "properties": {
        "record": {"type": "integer", "description": "Which record of the request, from 0"},
        "field": {"type": "string", "description": "Which of its fields; empty for the record as a whole"},
        "expected": {"type": "string"},
        "came": {"type": "string"},
    },
    "required": ["record", "field", "expected", "came"],
    "additionalProperties": False,
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "status": {"type": "integer"},
                "expected": {"type": "string"},
                "came": {"type": "string"},
                "do": {"type": "string"},
                "faults": {"type": "array", "items": _FAULT},
            },
            "required": ["status", "expected", "came", "do"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_ERRORS = {
    400: "The request can't be read",
    401: "A token is missing or wrong, where there are tokens",
    403: "A browser's page, a name that isn't this machine's where there are no tokens, or a source that the token isn't for",
    409: "The Idempotency-Key is of another request; nothing was published",
    413: "The body or the batch is too large; nothing was published",
    415: "Neither JSON nor NDJSON; nothing was published",
    422: "Something in it can't be used, and what: nothing was published",
    429: "Too many requests, records or bytes at once, or too many records wait: wait as Retry-After says; nothing was published",
    503: "The broker hasn't all of it yet, or the body waited too long to be checked: send the same again",
}
_RETRY_AFTER = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
_EXAMPLES: dict[type[Post], dict[str, Any]] = {
    BarPost: {
        "stock_symbol": "AAPL",
        "opening_price": 271.2,
        "closing_price": 275.92,
        "high": 277.32,
        "low": 270.9,
        "volume": 46914200,
        "timestamp": 1764028800,
    },
    KlinePost: {
        "s": "AAPL",
        "t": 1764081000000,
        "T": 1764081000999,
        "o": "271.20000000",
        "h": "271.25000000",
        "l": "271.19000000",
        "c": "271.22000000",
        "v": "1200.00000000",
        "q": "325464.00000000",
        "V": "700.00000000",
        "Q": "189854.00000000",
        "n": 31,
    },
    TradePost: {"s": "AAPL", "f": 1001, "p": "271.22000000", "q": "100.00000000", "T": 1764081000123, "m": False},
}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and request get the same answer, at any replica, and publish nothing again: for a day.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,100}$"},
}


def body_of(model: type[Post]) -> dict[str, Any]:
    """A route's body: one record, an array, or one a line; and the header that names a request."""
    one = {"$ref": f"#/components/schemas/{model.__name__}"}
    example = _EXAMPLES[model]
    schema = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    examples = {"single": {"summary": "One record", "value": example}, "batch": {"summary": "A batch", "value": [example]}}
    lines = {"schema": {"type": "string", "description": "A record a line"}}
    return {
        "requestBody": {"required": True, "content": {JSON: {"schema": schema, "examples": examples}, NDJSON: lines}},
        "parameters": [_KEY],
    }


def answers() -> dict[int | str, dict[str, Any]]:
    """Every answer of a route that takes records."""
    error = {"$ref": "#/components/schemas/Error"}
    told: dict[int | str, dict[str, Any]] = {
        202: {
            "description": "The broker has every record",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Accepted"}}},
            "headers": {"Idempotency-Replayed": {"schema": {"type": "string"}, "description": "true where it was given before"}},
        }
    }
    for status, description in _ERRORS.items():
        told[status] = {"description": description, "content": {JSON: {"schema": error}}}
        if status in (429, 503):
            told[status]["headers"] = _RETRY_AFTER
    return told


def complete(app: FastAPI) -> None:
    """Let an application describe itself with the schemas that the routes refer to."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made()
            assert app.openapi_schema is not None  # noqa: S101  # it is made now
            _add(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _add(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = {"Error": _ERROR, "Accepted": _ACCEPTED}
    for model, example in _EXAMPLES.items():
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}") | {"examples": [example]}
    components["schemas"] = schemas
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "One of KLINESTREAM_INGEST__TOKENS, where there are any."}
    }
    # The empty one: on this machine without tokens everybody may post.
    document["security"] = [{"token": []}, {}]
