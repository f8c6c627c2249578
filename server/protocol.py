"""The websocket's messages, version 1. Pure: text in, text out.

Client: `{"op":"subscribe","symbol":"BTCUSDT","cursor":{"2":1234}}` (the cursor is optional), `{"op":"unsubscribe","symbol":…}`.

Server, each with `"v":1`; a window is the record of `crypto_data_aggregated` as it stands in the topic:
- `snapshot`: a symbol's history, which reaches `span_ms` back, and the cursor after it; replaces what the client holds;
- `update`: further windows of a symbol and the cursor after them; `conflated` says how many were left out because
  the client was too slow, a fresh subscribe gets them;
- `heartbeat`: the server's time and the end of its newest window, every two seconds, so that silence means a broken line;
- `error`: what was expected and what came.

A cursor maps partition → offset of the next record, and is good for any server that reads the same topic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from klinestream.market.errors import KlinestreamError

VERSION = 1
MESSAGE_MOST_BYTES = 4096
"""A subscribe with a cursor takes about 100 bytes."""
SYMBOL_MOST_CHARS = 40
PARTITIONS_MOST = 128


class MessageError(KlinestreamError):
    """A message that the protocol does not know; says what was expected and what came."""

    def __init__(self, expected: str, came: str, do: str = "see docs/websocket.md") -> None:
        """All go to the client as they are; `do` in version 2 only."""
        super().__init__(f"expected {expected}, got {came}")
        self.expected = expected
        self.came = came
        self.do = do


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client wants a symbol, from this cursor on if it has one."""

    symbol: str
    cursor: Mapping[int, int] | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client wants a symbol no more."""

    symbol: str


def parse(text: str) -> Subscribe | Unsubscribe:
    """A client's message of version 1; raises MessageError.

    >>> parse('{"op":"subscribe","symbol":"BTCUSDT","cursor":{"2":7}}')
    Subscribe(symbol='BTCUSDT', cursor={2: 7})
    """
    return read(object_of(text))


def object_of(text: str) -> dict[str, Any]:
    """A client's message of any version, as JSON; raises MessageError."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MessageError("JSON", shown(text), "send one JSON object a message, as text") from None
    if not isinstance(message, dict):
        raise MessageError("a JSON object", shown(message), "send one JSON object a message, as text")
    return message


def read(message: dict[str, Any]) -> Subscribe | Unsubscribe:
    """A client's message of version 1; raises MessageError."""
    match message.get("op"):
        case "subscribe":
            return Subscribe(_symbol(message), cursor_of(message.get("cursor")))
        case "unsubscribe":
            return Unsubscribe(_symbol(message))
        case op:
            raise MessageError('op "subscribe" or "unsubscribe"', shown(op))


def snapshot(symbol: str, values: Sequence[bytes], cursor: Mapping[int, int], *, now_ms: int, span_ms: int, stale_after_ms: int) -> str:
    """A symbol's whole history; also the terms that the page needs to draw it."""
    terms = {"server_time": now_ms, "span_ms": span_ms, "stale_after_ms": stale_after_ms}
    return _windows({"type": "snapshot", "v": VERSION, "symbol": symbol, **terms}, values, cursor)


def update(symbol: str, values: Sequence[bytes], cursor: Mapping[int, int], *, conflated: int = 0) -> str:
    """Further windows of a symbol."""
    head: dict[str, Any] = {"type": "update", "v": VERSION, "symbol": symbol}
    return _windows({**head, "conflated": conflated} if conflated else head, values, cursor)


def heartbeat(now_ms: int, newest_end_ms: int | None) -> str:
    """The server's time, and the end of its newest window of any symbol (null if it has none)."""
    return orjson.dumps({"type": "heartbeat", "v": VERSION, "server_time": now_ms, "newest_end": newest_end_ms}).decode()


def error(fault: MessageError) -> str:
    """What was expected and what came."""
    return orjson.dumps({"type": "error", "v": VERSION, "expected": fault.expected, "came": fault.came}).decode()


def _windows(head: dict[str, Any], values: Sequence[bytes], cursor: Mapping[int, int]) -> str:
    """The windows are JSON already: joined, not parsed and written again."""
    positions = orjson.dumps({str(partition): offset for partition, offset in cursor.items()})
    return b"".join((orjson.dumps(head)[:-1], b',"windows":[', b",".join(values), b'],"cursor":', positions, b"}")).decode()


def _symbol(message: dict[str, Any]) -> str:
    symbol = message.get("symbol")
    if isinstance(symbol, str) and 0 < len(symbol) <= SYMBOL_MOST_CHARS and symbol.isprintable() and symbol == symbol.upper():
        return symbol
    raise MessageError(f"a symbol in upper case of at most {SYMBOL_MOST_CHARS} characters", shown(symbol))


def cursor_of(cursor: Any) -> Mapping[int, int] | None:
    """Partition → next offset, as a client has sent it; raises MessageError."""
    if cursor is None:
        return None
    if isinstance(cursor, dict) and len(cursor) <= PARTITIONS_MOST:
        try:
            return {_whole(partition): _whole(offset) for partition, offset in cursor.items()}
        except ValueError:
            pass
    raise MessageError("a cursor, partition → next offset, or none", shown(cursor))


def _whole(value: Any) -> int:
    if type(value) is int and 0 <= value < 2**63:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    raise ValueError


def shown(value: Any) -> str:
    """What came, for a person: shortened."""
    return repr(value)[:80]
