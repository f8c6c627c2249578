"""Frames that no client should believe, made from ones that it should."""

import enum
from collections.abc import Callable
from typing import Any

import orjson

# Names and event types stay, so that the frame still looks like one of its kind.
_LABELS = frozenset({"e", "s", "i"})
_TIMES = frozenset({"E", "T", "t"})
_YEAR_2100_MS = 4_102_444_800_000


class Form(enum.StrEnum):
    """How a frame is broken."""

    MALFORMED = "malformed"
    TRUNCATED = "truncated"
    NOT_UTF8 = "not_utf8"
    WRONG_TYPES = "wrong_types"
    NULL_FIELDS = "null_fields"
    HUGE_NUMBERS = "huge_numbers"
    FAR_FUTURE = "far_future"


def garble(payload: bytes, form: Form) -> bytes:
    """A broken copy of a JSON payload.

    >>> garble(b'{"e":"trade","p":"1.5"}', Form.NULL_FIELDS)
    b'{"e":"trade","p":null}'
    """
    match form:
        case Form.MALFORMED:
            return payload.replace(b":", b"=", 1)
        case Form.TRUNCATED:
            return payload[: len(payload) // 2]
        case Form.NOT_UTF8:
            return payload.replace(b'"', b'"\xff\xfe', 1)
        case _:
            try:
                content = orjson.loads(payload)
            except orjson.JSONDecodeError:
                return payload  # another form broke it before: several may be active at once
            return orjson.dumps(_walk(content, _CHANGES[form]))


def _walk(value: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _walk(item, change, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, change, key) for item in value]
    return value if key in _LABELS else change(key, value)


def _other_type(_key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return [value] if isinstance(value, str) else str(value)


def _huge(_key: str, value: Any) -> Any:
    if isinstance(value, bool):
        return value
    # No JSON writer makes such a number from one of Python's, so it is written as text.
    return "9" * 60 if isinstance(value, str) else orjson.Fragment(b"1" + b"0" * 60)


def _in_2100(key: str, value: Any) -> Any:
    return _YEAR_2100_MS + value % 1000 if key in _TIMES and isinstance(value, int) and value > _YEAR_2100_MS // 10 else value


_CHANGES: dict[Form, Callable[[str, Any], Any]] = {
    Form.WRONG_TYPES: _other_type,
    Form.NULL_FIELDS: lambda _key, _value: None,
    Form.HUGE_NUMBERS: _huge,
    Form.FAR_FUTURE: _in_2100,
}
