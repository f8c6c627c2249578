"""The websocket's messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server import protocol
from server.protocol import MessageError, Subscribe, Unsubscribe


@given(
    st.text("ABCXYZ0123456789币", min_size=1, max_size=protocol.SYMBOL_MOST_CHARS),
    st.none() | st.dictionaries(st.integers(0, 127), st.integers(0, 2**63 - 1), max_size=8),
)
def test_a_subscription_is_read_as_it_was_meant(symbol: str, cursor: dict[int, int] | None) -> None:
    """Any symbol and any cursor that the server can have given are understood."""
    message = {"op": "subscribe", "symbol": symbol, "cursor": cursor}
    assert protocol.parse(json.dumps(message)) == Subscribe(symbol, cursor)


def test_unsubscribing_is_understood() -> None:
    """The other operation."""
    assert protocol.parse('{"op":"unsubscribe","symbol":"BTCUSDT"}') == Unsubscribe("BTCUSDT")


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(json.dumps))
def test_anything_else_is_an_error_that_says_what_was_expected(text: str) -> None:
    """No message makes parse() fail in another way than MessageError."""
    with pytest.raises(MessageError, match=r"expected .*, got "):
        protocol.parse(text)


@pytest.mark.parametrize(
    "message",
    [
        {"op": "subscribe"},
        {"op": "subscribe", "symbol": ""},
        {"op": "subscribe", "symbol": "btcusdt"},
        {"op": "subscribe", "symbol": "B" * 41},
        {"op": "subscribe", "symbol": "BTC\nUSDT"},
        {"op": "subscribe", "symbol": 7},
        {"op": "subscribe", "symbol": "BTCUSDT", "cursor": 7},
        {"op": "subscribe", "symbol": "BTCUSDT", "cursor": {"x": 7}},
        {"op": "subscribe", "symbol": "BTCUSDT", "cursor": {"0": -1}},
        {"op": "subscribe", "symbol": "BTCUSDT", "cursor": {"0": True}},
        {"op": "subscribe", "symbol": "BTCUSDT", "cursor": {str(n): n for n in range(200)}},
        {"op": "publish", "symbol": "BTCUSDT"},
    ],
)
def test_values_out_of_bounds_are_refused(message: dict[str, object]) -> None:
    """Symbols and cursors have their bounds."""
    with pytest.raises(MessageError):
        protocol.parse(json.dumps(message))


def test_an_error_never_repeats_a_long_message() -> None:
    """What came is shown shortened."""
    with pytest.raises(MessageError) as caught:
        protocol.parse("x" * 4000)
    assert len(protocol.error(caught.value)) < 300


def test_windows_are_passed_on_as_they_are() -> None:
    """The bytes of the records stand in the message, whatever digits they have."""
    values = (b'{"average_price":0.10000000000000000555}', b'{"average_price":1e-08}')
    text = protocol.snapshot("BTCUSDT", values, {2: 9}, now_ms=5, span_ms=120_000, stale_after_ms=5000)
    assert all(value.decode() in text for value in values)
    message = json.loads(text)
    assert (message["type"], message["v"], message["cursor"], message["span_ms"]) == ("snapshot", 1, {"2": 9}, 120_000)


def test_an_update_says_what_it_leaves_out_only_if_it_does() -> None:
    """`conflated` stands only in conflated updates."""
    assert "conflated" not in json.loads(protocol.update("BTCUSDT", (), {}))
    assert json.loads(protocol.update("BTCUSDT", (b"{}",), {0: 1}, conflated=3))["conflated"] == 3
