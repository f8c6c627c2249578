"""/api/openapi.json, completed by what all routes have in common: the form of an error, and what is said to who isn't let in."""

from typing import Any

from fastapi import FastAPI

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
            },
            "required": ["status", "expected", "came", "do"],
            "additionalProperties": False,
        }
    },
    "required": ["error"],
    "additionalProperties": False,
}
_EXCHANGE_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "msg": {"type": "string"}},
    "required": ["code", "msg"],
    "additionalProperties": False,
}
_EXCHANGE = "/api/v3/"
_COMMON = {
    "401": "A token is missing or wrong, where the server asks for one",
    "403": "The server asks for no token, and was asked under a name that isn't this machine's",
    "429": "More than server.requests_per_s from one address, or too many wrong tokens: wait as Retry-After says",
}
_TOKEN = {"type": "http", "scheme": "bearer", "description": "One of KLINESTREAM_SERVER__TOKENS, where the server has any."}


def complete(app: FastAPI) -> None:
    """Let an application describe itself so."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made()
            assert app.openapi_schema is not None  # noqa: S101  # it is made now
            _add_common(app.openapi_schema)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def _add_common(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update({"Error": _ERROR, "ExchangeError": _EXCHANGE_ERROR})
    components["securitySchemes"] = {"token": _TOKEN}
    # The empty one: without tokens everybody may read.
    document["security"] = [{"token": []}, {}]
    for path, route in document["paths"].items():
        schema = {"$ref": f"#/components/schemas/{'ExchangeError' if path.startswith(_EXCHANGE) else 'Error'}"}
        for operation in route.values():
            responses = operation["responses"]
            for status, told in _COMMON.items():
                responses.setdefault(status, {"description": told})
            for status, response in responses.items():
                if status >= "4":
                    response.setdefault("content", {}).setdefault("application/json", {})["schema"] = schema
