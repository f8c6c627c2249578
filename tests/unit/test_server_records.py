"""Records of the topic as entries of the history."""

from dataclasses import fields, replace
from typing import Any

import orjson
import pytest

from klinestream.market.codec import encode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import Window, wire_fields
from klinestream.market.topics import PUBLISHED_HEADER, WINDOWS
from klinestream.runtime.kafka import Record
from server.history import Entry
from server.records import AHEAD_MOST_MS, VALUE_MOST_BYTES, entry_from

NOW_MS = 1_790_000_000_000
WINDOW = Window("BTCUSDT", NOW_MS - 3000, NOW_MS, 61_250.0, 61_234.5, 61_200.0, 61_300.0, 3.25, 3, None, False, NOW_MS - 60_000)


def record(value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record(WINDOWS.name, b"BTCUSDT", value, NOW_MS - 1, headers, partition=2, offset=7)


def test_a_window_becomes_an_entry_with_its_bytes() -> None:
    """An entry has the window's identity, its place in the topic, when it was published, and its very bytes."""
    value = encode_event(WINDOW)
    found = entry_from(record(value, ((PUBLISHED_HEADER, b"1790000000123"),)), NOW_MS)
    assert found == Entry("BTCUSDT", NOW_MS, NOW_MS - 60_000, 0, 2, 7, value, 1_790_000_000_123)
    assert found.value is value


@pytest.mark.parametrize("name", list(wire_fields(Window)))
@pytest.mark.parametrize("bad", ["missing", {}, [], "", "text", -1.5, True])
def test_a_missing_or_wrong_field_is_refused_by_name(name: str, bad: Any) -> None:
    """Each field of a window is checked."""
    window = orjson.loads(encode_event(WINDOW))
    if bad == "missing":
        del window[name]
    elif fits_by_chance(name, bad):
        return
    else:
        window[name] = bad
    with pytest.raises(RecordError, match=f"^{name}: "):
        entry_from(record(orjson.dumps(window)), NOW_MS)


def fits_by_chance(name: str, bad: Any) -> bool:
    return (name == "symbol" and bad == "text") or (name == "rsi_ready" and bad is True) or (bad == -1.5 and number(name))


def number(name: str) -> bool:
    return name in ("close", "average_price", "low", "high", "volume", "rsi")


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"null", b"x" * (VALUE_MOST_BYTES + 1)])
def test_what_is_no_window_at_all_is_refused(value: bytes | None) -> None:
    """Tombstones, garbage and giants are RecordErrors."""
    with pytest.raises(RecordError):
        entry_from(record(value), NOW_MS)


def test_a_window_from_the_future_is_refused() -> None:
    """It would push all others out of the history."""
    future = replace(WINDOW, end_ms=NOW_MS + AHEAD_MOST_MS + 1)
    with pytest.raises(RecordError, match="future"):
        entry_from(record(encode_event(future)), NOW_MS)


def test_later_fields_are_passed_on() -> None:
    """A field that this version doesn't know reaches the client."""
    value = encode_event(WINDOW)[:-1] + b',"later":1}'
    assert entry_from(record(value), NOW_MS).value == value
    assert "later" not in {field.name for field in fields(Window)}
