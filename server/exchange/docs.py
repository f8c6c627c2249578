"""What /api/openapi.json says of the exchange's own routes: their parameters, each bounded, and their answers."""

from collections.abc import Collection
from typing import Any

from klinestream.market.intervals import INTERVALS
from klinestream.runtime.exchange_params import FLAGS, INTEGER_RANGE, SYMBOL_STATUSES
from server.exchange.params import DEFAULT_LIMIT, LIMIT_MOST, PERMISSIONS_MOST_CHARS

# 2**63 is refused, and so is a sign.
_INTEGER: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
_TIME = _INTEGER | {"description": f"ms since 1970 UTC, or µs; {INTEGER_RANGE}"}
_NAMES = r"^\[.*\]$"
_SCHEMAS: dict[str, dict[str, Any]] = {
    "symbol": {"type": "string", "minLength": 1, "maxLength": 40, "examples": ["BTCUSDT"]},
    "interval": {"type": "string", "enum": list(INTERVALS)},
    "startTime": _TIME,
    "endTime": _TIME,
    "timeZone": {"type": "string", "pattern": "^[+-]?[0-9]{1,2}(:[0-5][0-9])?$", "maxLength": 6, "examples": ["0"]},
    "limit": _INTEGER | {"minimum": 1, "default": DEFAULT_LIMIT, "description": f"More than {LIMIT_MOST} is {LIMIT_MOST}."},
    "symbols": {"type": "string", "pattern": _NAMES, "description": "A JSON list.", "examples": ['["BTCUSDT"]']},
    "permissions": {"type": "string", "minLength": 1, "maxLength": PERMISSIONS_MOST_CHARS},
    "showPermissionSets": {"type": "string", "enum": list(FLAGS)},
    "symbolStatus": {"type": "string", "enum": list(SYMBOL_STATUSES)},
}
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_ROW = {"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 12, "maxItems": 12}
_OF_PATH: dict[str, dict[str, Any]] = {
    "/ping": {"type": "object", "maxProperties": 0},
    "/time": {"type": "object", "properties": {"serverTime": _NUMBER}, "required": ["serverTime"]},
    "/exchangeInfo": {
        "type": "object",
        "properties": {
            "timezone": _TEXT,
            "serverTime": _NUMBER,
            "symbols": {"type": "array", "items": {"type": "object", "properties": {"symbol": _TEXT}, "required": ["symbol"]}},
        },
        "required": ["timezone", "serverTime", "rateLimits", "exchangeFilters", "symbols"],
    },
    "/klines": {"type": "array", "maxItems": LIMIT_MOST, "items": _ROW},
    "/uiKlines": {"type": "array", "maxItems": LIMIT_MOST, "items": _ROW},
}


def parameters(path: str, known: Collection[str]) -> list[dict[str, Any]]:
    """The parameters of a route."""
    needed = ("symbol", "interval") if path.endswith("lines") else ()
    return [{"name": name, "in": "query", "required": name in needed, "schema": _SCHEMAS[name]} for name in known]


def responses(path: str) -> dict[int | str, Any]:
    """The answers of a route; those to what isn't let in are added to all routes alike."""
    content = {"application/json": {"schema": _OF_PATH[path]}}
    found: dict[int | str, Any] = {200: {"description": "As the exchange's own", "content": content}}
    found[400] = {"description": "A parameter that can't be used, with the exchange's code and text"}
    if path not in ("/ping", "/time"):
        found[503] = {"description": "Candles are still being read, or too many answers are in the making"}
    return found
