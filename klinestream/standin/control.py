"""Control messages of the websocket, parsed; what can't be used is refused with the exchange's own codes and texts."""

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

ID_CHARACTERS = 36

Id = int | str | None


class Code(enum.IntEnum):
    """What is wrong with a request; TOO_MANY_SUBSCRIPTIONS is seen in practice, the others are documented."""

    UNKNOWN_PROPERTY = 0
    INVALID_VALUE_TYPE = 1
    INVALID_REQUEST = 2
    INVALID_JSON = 3
    TOO_MANY_SUBSCRIPTIONS = 4


class Method(enum.StrEnum):
    """The methods that a connection understands, in the order in which the exchange lists them."""

    SUBSCRIBE = "SUBSCRIBE"
    UNSUBSCRIBE = "UNSUBSCRIBE"
    LIST_SUBSCRIPTIONS = "LIST_SUBSCRIPTIONS"
    SET_PROPERTY = "SET_PROPERTY"
    GET_PROPERTY = "GET_PROPERTY"


class Refusal(Exception):  # noqa: N818  # an answer to the client, not a fault of ours
    """A request that can't be carried out."""

    def __init__(self, code: Code, msg: str, id_: Id = None) -> None:
        """`id_` is the request's, as far as it could be read."""
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.id = id_

    def answer(self) -> dict[str, Any]:
        """The reply, wrapped as the exchange sends it; broken JSON has no id."""
        answer: dict[str, Any] = {"error": {"code": int(self.code), "msg": self.msg}}
        return answer if self.code is Code.INVALID_JSON else answer | {"id": self.id}


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Add these streams."""

    id: Id
    streams: Sequence[str]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Remove these streams."""

    id: Id
    streams: Sequence[str]


@dataclass(frozen=True, slots=True)
class ListSubscriptions:
    """Name the streams."""

    id: Id


@dataclass(frozen=True, slots=True)
class SetCombined:
    """Wrap frames with their stream's name, or don't."""

    id: Id
    combined: bool


@dataclass(frozen=True, slots=True)
class GetCombined:
    """Are frames wrapped?"""

    id: Id


Request = Subscribe | Unsubscribe | ListSubscriptions | SetCombined | GetCombined


def parse(raw: bytes) -> Request:
    """Read a control message.

    >>> parse(b'{"method":"SUBSCRIBE","params":["btcusdt@kline_1s"],"id":1}')
    Subscribe(id=1, streams=['btcusdt@kline_1s'])

    Raises Refusal.
    """
    try:
        message = orjson.loads(raw)
    except json.JSONDecodeError as error:
        raise Refusal(Code.INVALID_JSON, f"Invalid JSON: expected value at line {error.lineno} column {error.colno}") from None
    fields = message if isinstance(message, dict) else {}
    id_ = fields.get("id")
    known_id = id_ if _usable(id_) else None
    method = _method(raw, fields, known_id)
    if "id" not in fields or not _usable(id_):
        raise _invalid("request ID must be an unsigned integer", None)
    params = fields.get("params")
    match method:
        case Method.SUBSCRIBE:
            return Subscribe(id_, _streams(params, id_))
        case Method.UNSUBSCRIBE:
            return Unsubscribe(id_, _streams(params, id_))
        case Method.LIST_SUBSCRIPTIONS:
            if params:
                raise _invalid("too many parameters", id_)
            return ListSubscriptions(id_)
        case Method.SET_PROPERTY:
            return SetCombined(id_, _property(params, id_, takes_value=True))
        case Method.GET_PROPERTY:
            _property(params, id_, takes_value=False)
            return GetCombined(id_)


def _method(raw: bytes, fields: dict[str, Any], id_: Id) -> Method:
    if "method" not in fields:
        raise _invalid(f"missing field `method` at {_place(raw, len(raw))}", id_)
    try:
        return Method(fields["method"])
    except ValueError:
        expected = ", ".join(f"`{method}`" for method in Method)
        found = re.search(rb'"method"\s*:\s*"(?:[^"\\]|\\.)*"', raw)
        place = _place(raw, found.end() if found else len(raw))
        raise _invalid(f"unknown variant `{fields['method']}`, expected one of {expected} at {place}", id_) from None


def _streams(params: Any, id_: Id) -> Sequence[str]:
    if params is None:
        raise _invalid("missing field `params`", id_)
    if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
        raise _invalid("stream names must be an array of strings", id_)
    return params


def _property(params: Any, id_: Id, *, takes_value: bool) -> bool:
    """The value that `params` give to the only property there is; True where none is asked for."""
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise _invalid("property name must be a string", id_)
    if len(params) > 1 + takes_value:
        raise _invalid("too many parameters", id_)
    if params[0] != "combined":
        raise Refusal(Code.UNKNOWN_PROPERTY, "Unknown property", id_)
    value = params[-1] if takes_value else True
    if not isinstance(value, bool):
        raise Refusal(Code.INVALID_VALUE_TYPE, "Invalid value type: expected Boolean", id_)
    return value


def _invalid(why: str, id_: Id) -> Refusal:
    return Refusal(Code.INVALID_REQUEST, f"Invalid request: {why}", id_)


def _usable(id_: Any) -> bool:
    """int64, a string of at most 36 characters (hyphens included, as UUIDs have them) or null."""
    if isinstance(id_, str):
        return len(id_) <= ID_CHARACTERS
    return id_ is None or (type(id_) is int and -(2**63) <= id_ < 2**63)


def _place(raw: bytes, end: int) -> str:
    before = raw[:end]
    return f"line {before.count(10) + 1} column {len(before) - before.rfind(10) - 1}"
