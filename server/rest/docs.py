"""What /api/openapi.json says of the answers: their fields, from the events that they come from, and examples."""

from typing import Any

from klinestream.market.events import Candle, FeedGap, Indicators, Kind, OrderBook, Signal, TradeWindow, Window, wire_fields
from server.rest.query import MEDIA_TYPES, Format

_KINDS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {"type": "string"},
    Kind.NOTE: {"type": "string"},
    Kind.TIME_MS: {"type": "integer"},
    Kind.COUNT: {"type": "integer"},
    Kind.TRADE_ID: {"type": ["integer", "null"]},
    Kind.PRICE: {"type": "string"},
    Kind.VOLUME: {"type": "string"},
    Kind.NUMBER: {"type": "number"},
    Kind.FLAG: {"type": "boolean"},
    Kind.NAMES: {"type": "array", "items": {"type": "string"}},
    Kind.NUMBERS: {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
    Kind.ROWS: {"type": "array", "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}},
    Kind.ROWS_BY_NAME: {"type": "object", "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}}},
}
_SYMBOL, _OPENED = "BTCUSDT", 1_790_000_000_000 // 60_000 * 60_000
_KEY = {"s": _SYMBOL, "i": "1m", "t": _OPENED, "T": _OPENED + 59_999}
WINDOW = {
    "symbol": _SYMBOL,
    "window_start": _OPENED,
    "window_end": _OPENED + 3000,
    "close": 61250.01,
    "average_price": 61234.5,
    "low": 61200.0,
    "high": 61300.0,
    "volume": 3.25,
    "points": 3,
    "rsi": 53.02,
    "rsi_ready": True,
    "since": _OPENED - 600_000,
    "revision": 0,
}
CANDLE = {
    **_KEY,
    **{"o": "61234.50000000", "h": "61300.00000000", "l": "61200.00000000", "c": "61250.01000000"},
    **{"v": "12.50000000", "q": "765432.10000000", "V": "6.25000000", "Q": "382716.05000000"},
    **{"n": 321, "f": 1000, "L": 1320, "klines": 60, "complete": True, "origin": "built", "revision": 0},
}
INDICATOR = {
    **_KEY,
    **{"c": 61250.01, "values": {"rsi_14": 53.02, "sma_50": None}, "unready": ["sma_50"]},
    **{"since": _OPENED - 600_000, "revision": 0},
}
SIGNAL = {
    "id": f"{_SYMBOL}:1m:rsi:buy:{_OPENED}",
    **_KEY,
    **{"side": "buy", "rule": "rsi", "state": "fired", "price": 61250.01, "value": 29.4, "limit": 30.0},
    **{"reason": "RSI 14 fell to 29.4, below 30", "since": _OPENED - 600_000, "revision": 0},
}
GAP = {
    "gap": f"{_SYMBOL}:{_OPENED}-{_OPENED + 3000}",
    **{"s": _SYMBOL, "state": "refilled", "from": _OPENED, "to": _OPENED + 3000, "klines": 3, "source": "rest", "proved": True},
    **{"trades": 42, "reason": "", "time": _OPENED + 3500, "seconds": 3, "producers": ["producer-1"]},
}
FEATURES = {
    **{"s": _SYMBOL, "E": _OPENED + 100, "u": 70_800_000_321, "spread": 0.01, "mid": 61250.005, "microprice": 61250.0079},
    **{"imbalance": 0.58, "imbalance_20": -0.1204, "depth": {"10": [12.5, 14.25]}, "since": 70_800_000_000},
    **{"source": "binance", "proof": "ids"},
}
BOOK = FEATURES | {"bids": [["61250.00000000", "7.90000000"]], "asks": [["61250.01000000", "2.10000000"]]}
REACHED = {"read": 480, "behind": 0, "per_s": 2.0}


def _schema(event: type[Any], *, leave_out: tuple[str, ...] = (), **further: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, field in wire_fields(event).items():
        kind = dict(_KINDS[field.metadata["kind"]])
        if field.metadata["nullable"] and isinstance(kind["type"], str):
            kind["type"] = [kind["type"], "null"]
        properties[name] = kind | {"description": field.metadata["meaning"]}
    for name in leave_out:
        del properties[name]
    properties |= further
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error(status: int, expected: str, came: str, todo: str) -> dict[str, Any]:
    example = {"error": {"status": status, "expected": expected, "came": came, "do": todo}}
    return {"description": f"{expected}, and it was otherwise", "content": {"application/json": {"example": example}}}


_ERRORS: dict[int | str, Any] = {
    400: _error(400, "from not after to", "from=2 and to=1", "swap them"),
    422: _error(422, "limit: less than or equal to 1000", "'5000'", "send another value; see /api/openapi.json"),
    429: _error(429, "fewer requests", "more than server.requests_per_s", "wait, then ask again"),
}
_UNKNOWN = _error(404, "a symbol that has candles", "NOTHING", "see /api/v1/symbols")
_EARLY = _error(503, "crypto_candles read to its end", "120000 records so far", "try again")


def _table(name: str, row: dict[str, Any], schema: dict[str, Any], head: dict[str, Any], **errors: dict[str, Any]) -> dict[int | str, Any]:
    """The answers of a route: rows under a name, or as a table."""
    properties = {key: {"type": "boolean" if key == "more" else "string"} for key in head}
    whole = {"type": "object", "properties": properties | {name: {"type": "array", "items": schema}}, "required": [*head, name]}
    content: dict[str, Any] = {MEDIA_TYPES[Format.JSON]: {"schema": whole, "example": {**head, name: [row]}}}
    content |= {MEDIA_TYPES[form]: {"schema": {"type": "string"}} for form in (Format.CSV, Format.ARROW)}
    return {
        200: {"description": f"The {name}, oldest first", "content": content},
        **_ERRORS,
        **{int(code): told for code, told in errors.items()},
    }


def _object(example: dict[str, Any]) -> dict[int | str, Any]:
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {200: {"description": "As it is now", "content": content}, 429: _ERRORS[429]}


def _columns(head: dict[str, Any], columns: dict[str, tuple[str, Any]]) -> dict[int | str, Any]:
    """The answers of a route that gives columns: what each of them is, and a value of it."""
    about = {name: {"type": "array", "description": meaning} for name, (meaning, _) in columns.items()}
    kinds = {bool: "boolean", int: "integer", str: "string"}
    properties: dict[str, Any] = {name: {"type": kinds[type(value)]} for name, value in head.items()} | about
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    example = {**head, **{name: [value] for name, (_, value) in columns.items()}}
    content = {MEDIA_TYPES[Format.JSON]: {"schema": schema, "example": example}}
    return {
        200: {"description": "A place for each symbol in every column, in order of name", "content": content},
        304: {"description": "As the tag of If-None-Match says, nothing has changed"},
        **{code: _ERRORS[code] for code in (422, 429)},
        503: _error(503, "at most 66 answers in the making", "one more", "wait, then ask again"),
    }


_SERIES_HEAD = {"symbol": _SYMBOL, "interval": "1m", "more": False}
_SYMBOL_HEAD = {"symbol": _SYMBOL, "more": False}
_WINDOWS = {"anyOf": [_schema(Window), _schema(TradeWindow)], "description": "Over klines, or over trades where windows.source says so."}
WINDOW_RESPONSES = _table("windows", WINDOW, _WINDOWS, _SYMBOL_HEAD, **{"404": _UNKNOWN})
SERIES_RESPONSES = {
    name: _table(name, row, _schema(event), head, **{"404": _UNKNOWN, "503": _EARLY})
    for name, row, event, head in (
        ("candles", CANDLE, Candle, _SERIES_HEAD),
        ("indicators", INDICATOR, Indicators, _SERIES_HEAD),
        ("signals", SIGNAL, Signal, _SYMBOL_HEAD),
    )
}
_PRODUCERS = {"type": "array", "items": {"type": "string"}, "description": "all producers that spoke of it"}
_GAP = _schema(FeedGap, leave_out=("producer",), seconds={"type": "integer", "description": "how many seconds"}, producers=_PRODUCERS)
GAP_RESPONSES = _table("gaps", GAP, _GAP, {"more": False}, **{"503": _EARLY})
_BOOK = _schema(OrderBook)
_NO_BOOK = {
    "404": _error(404, "a symbol that has an order book", "NOTHING", "start the feed of order books"),
    "503": _error(503, "crypto_order_book read to its end", "the beginning of it", "try again"),
}
FEATURES_RESPONSES = _table("features", FEATURES, _schema(OrderBook, leave_out=("bids", "asks")), _SYMBOL_HEAD, **_NO_BOOK)
BOOK_RESPONSES: dict[int | str, Any] = {
    200: {
        "description": "The newest book, and how old it is",
        "content": {
            MEDIA_TYPES[Format.JSON]: {
                "schema": {
                    "type": "object",
                    "properties": {
                        **{"symbol": {"type": "string"}, "server_time": {"type": "integer"}, "age_s": {"type": "number"}},
                        "book": _BOOK,
                    },
                    "required": ["symbol", "server_time", "age_s", "book"],
                },
                "example": {"symbol": _SYMBOL, "server_time": _OPENED + 510, "age_s": 0.41, "book": BOOK},
            }
        },
    },
    **{code: _ERRORS[code] for code in (422, 429)},
    **{int(code): told for code, told in _NO_BOOK.items()},
}
BOOKS_RESPONSES = _object(
    {"server_time": _OPENED + 510, "caught_up": True, "books": [{"symbol": _SYMBOL, "time": _OPENED + 100, "age_s": 0.41}]}
)
SYMBOLS_RESPONSES = _object(
    {
        "symbols": [
            {
                **{"symbol": _SYMBOL, "price": 61250.01, "time": _OPENED, "age_s": 0.4, "change_24h_percent": 1.25},
                "intervals": ["1m", "5m"],
            }
        ]
    }
)
STATUS_RESPONSES = _object(
    {
        "server_time": _OPENED,
        "windows": {
            "topic": "crypto_data_aggregated",
            "caught_up": True,
            "fault": None,
            "newest_end": _OPENED,
            "age_s": 0.4,
            "symbols": 2,
            **REACHED,
        },
        "candles": {
            **{"complete": True, "caught_up": True, "fault": None, "symbols": 2, "topics": {"crypto_candles": REACHED}},
            "held": {"candles": {"rows": 480, "bytes": 60480}},
        },
        "books": {"caught_up": True, "fault": None, "newest": _OPENED, "age_s": 0.4, "symbols": 2, **REACHED},
    }
)
MARKET_RESPONSES = _columns(
    {"server_time": _OPENED + 410, "interval": "1h", "rsi_name": "rsi_14", "candles_read": True, "stale_after_ms": 5000},
    {
        "symbol": ("upper case", _SYMBOL),
        "quote": ("quote asset, as the symbol's name tells", "USDT"),
        "price": ("close of the newest window, else of the newest minute", 61250.01),
        "time": ("end of that, ms since 1970 UTC", _OPENED),
        "change_24h_percent": ("from the price 24 hours before; null where it isn't known", 1.25),
        "low_24h": ("least price of the day: 24 hours, and up to the length of the candle more that holds their beginning", 60110.0),
        "high_24h": ("greatest price of the day", 61900.5),
        "volume_24h": ("base volume of the day, up to the newest closed minute", 20123.5),
        "quote_volume_24h": ("quote volume of the day, up to the newest closed minute", 1232561234.25),
        "whole_24h": ("whether no candle of the day is missing or incomplete", True),
        "rsi": ("of the newest closed candle of the interval", 53.02),
        "rsi_ready": ("whether it has converged", True),
        "rsi_time": ("when its candle closed: its end, ms since 1970 UTC", _OPENED),
    },
)
LINES_RESPONSES = _columns(
    {"server_time": _OPENED + 410, "interval": "30m", "from": _OPENED - 86_400_000, "candles_read": True},
    {
        "symbol": ("upper case", _SYMBOL),
        "line": ("48 closes from `from` on, 0 the least of them, 100 the greatest, null where there is none", [0, 40, 100, None]),
    },
)
_NODES: dict[str, tuple[Any, str, Any]] = {
    "symbol": ("string", "upper case, in order of name", _SYMBOL),
    "group": (["string", "null"], "the symbol at the heart of those that move with it; null where none does", _SYMBOL),
    "x": (["number", "null"], "place in a plane, near to those that move with it; null where no correlation is known", 0.412345),
    "y": (["number", "null"], "the other coordinate", -0.103456),
    "volatility": (["number", "null"], "standard deviation of a candle's log return", 0.000812),
    "degree": ("integer", "how many edges it has", 1),
    "candles": ("integer", "how many whole candles of the window are there", 120),
    "returns": ("integer", "how many returns from one candle to the next", 119),
}
_EDGES: dict[str, tuple[Any, str, Any]] = {
    "a": ("string", "one end", _SYMBOL),
    "b": ("string", "the other one, later by name", "ETHBTC"),
    "r": ("number", "Pearson's correlation of the log returns that both have", 0.8125),
    "observations": ("integer", "how many returns both have", 119),
    "z": ("number", "Fisher's z: how many standard errors r is from zero", 12.2172),
}


def _as_columns(columns: dict[str, tuple[Any, str, Any]]) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": {"type": kind}, "description": meaning} for name, (kind, meaning, _) in columns.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


_GRAPH_HEAD: dict[str, tuple[Any, str, Any]] = {
    "server_time": ("integer", "when the graph was made, ms since 1970 UTC", _OPENED + 60_410),
    "interval": ("string", "as asked for, like candles, least and most", "1m"),
    "candles": ("integer", "of the window", 120),
    "least": ("number", "the weakest correlation of an edge, whatever its sign", 0.6),
    "most": ("integer", "edges that a symbol may call its own", 5),
    "common_least": ("integer", "how many common returns a correlation needs", 30),
    "candles_read": ("boolean", "false until the server has read all candles", True),
    "from": (["integer", "null"], "when the window begins, ms since 1970 UTC; null where no candle has closed", _OPENED - 7_140_000),
    "time": (["integer", "null"], "when it ends: the end of the newest closed candle", _OPENED + 60_000),
}
_GRAPH = {
    "type": "object",
    "properties": {name: {"type": kind, "description": meaning} for name, (kind, meaning, _) in _GRAPH_HEAD.items()}
    | {"nodes": _as_columns(_NODES), "edges": _as_columns(_EDGES)},
    "required": [*_GRAPH_HEAD, "nodes", "edges"],
}
_GRAPH_EXAMPLE = {name: value for name, (_, _, value) in _GRAPH_HEAD.items()} | {
    name: {column: [value] for column, (_, _, value) in columns.items()} for name, columns in (("nodes", _NODES), ("edges", _EDGES))
}
CORRELATION_RESPONSES: dict[int | str, Any] = {
    200: {
        "description": "The graph as columns, edges strongest first; in CSV and Arrow its edges",
        "content": {MEDIA_TYPES[Format.JSON]: {"schema": _GRAPH, "example": _GRAPH_EXAMPLE}}
        | {MEDIA_TYPES[form]: {"schema": {"type": "string"}} for form in (Format.CSV, Format.ARROW)},
    },
    304: {"description": "As the tag of If-None-Match says, nothing has changed"},
    **{code: _ERRORS[code] for code in (422, 429)},
    404: _UNKNOWN,
    503: _EARLY,
}
