"""Frames of books: a diff of whatever levels comes out as it went in; what is none is told why."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market import decimals
from klinestream.market.errors import RecordError
from klinestream.market.order_book import Diff
from klinestream.runtime.config import Config
from producer.feeds.binance_books import BinanceBooks
from producer.feeds.interface import Entry
from producer.frames import Reply, Shutdown

NOW_MS = 1_700_000_000_000
UPDATE = {
    "e": "depthUpdate", "E": NOW_MS, "s": "BTCUSDT", "U": 40, "u": 42,
    "b": [["100.50000000", "1.00000000"], ["100.40000000", "0.00000000"]], "a": [["100.60000000", "2.50000000"]],
}  # fmt: skip  # as the exchange groups them
BOOKS = BinanceBooks(Config())


def frame(**changes: Any) -> bytes:
    told = UPDATE | changes
    return orjson.dumps({"stream": f"{str(UPDATE['s']).lower()}@depth@100ms", "data": told})


prices = st.integers(1, decimals.PRICE_MOST)
levels = st.lists(st.tuples(prices, st.integers(0, 10**20)), max_size=8)


def written(rows: list[tuple[int, int]], *, short: bool) -> list[list[str]]:
    """As the exchange writes them, or without the zeros at the end."""
    shown = [[decimals.show(number) for number in row] for row in rows]
    return [[text.rstrip("0").rstrip(".") for text in row] for row in shown] if short else shown


@given(levels, levels, st.integers(0, 2**62), st.integers(0, 100), st.booleans())
def test_a_diff_is_read_as_it_is(bids: list[tuple[int, int]], asks: list[tuple[int, int]], first: int, more: int, short: bool) -> None:
    """Whatever its levels, and however many decimals they are written with."""
    raw = frame(U=first, u=first + more, b=written(bids, short=short), a=written(asks, short=short))
    diff = Diff(first, first + more, NOW_MS, bids, asks)
    assert BOOKS.read(raw, NOW_MS) == [Entry("BTCUSDT", first, first + more, NOW_MS, diff)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"U": 43}, "U, u: expected ids, U not after u"),
        ({"U": -1}, "U, u: expected ids, U not after u"),
        ({"U": "40"}, "U, u: expected ids, U not after u"),
        ({"U": True}, "U, u: expected ids, U not after u"),
        ({"u": None}, "U, u: expected ids, U not after u"),
        ({"u": 2**63}, "U, u: expected ids, U not after u"),
        ({"E": NOW_MS + 60_000}, "E: lies ahead of our clock"),
        ({"E": -1}, "E: expected ms since 1970"),
        ({"E": 1.5}, "E: expected ms since 1970"),
        ({"E": 2**62}, "E: expected ms since 1970"),
        ({"b": None}, "b: expected rows of price and quantity"),
        ({"b": {}}, "b: expected rows of price and quantity"),
        ({"b": [["1.00000000"]]}, "b: expected rows of price and quantity"),
        ({"a": [["1.00000000", "1.00000000", "1"]]}, "a: expected rows of price and quantity"),
        ({"a": ["12"]}, "a: expected rows of price and quantity"),
        ({"a": [["1.00000000", 1]]}, "a: expected prices and quantities as text"),
        ({"a": [[None, "1.00000000"]]}, "a: expected prices and quantities as text"),
        ({"b": [["1e5", "1.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["1.00000000", "-1.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["1,2", "1.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["1.00000000,2.00000000", "1.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["1.00000000,2.00000000", "1.00000000,2.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["", "1.00000000"]]}, "b: expected a decimal string"),
        ({"b": [["0.00000000", "1.00000000"]]}, "b: expected prices above 0"),
        ({"a": [["92233720369.00000000", "1.00000000"]]}, "a: expected prices above 0"),
        ({"s": "ETHUSDT"}, "s: expected the symbol of a stream that was asked for"),
        ({"s": ["BTCUSDT"]}, "s: expected the symbol of a stream that was asked for"),
        ({"e": "trade"}, "e: expected depthUpdate"),
    ],
)
def test_what_is_no_diff_is_told_why(changes: dict[str, Any], reason: str) -> None:
    """The reason names the field, fits a dead letter, and holds nothing of what came that could be long."""
    with pytest.raises(RecordError) as raised:
        BOOKS.read(frame(**changes), NOW_MS)
    assert str(raised.value).startswith(reason)
    assert len(str(raised.value)) < 100


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["e", "E", "s", "U", "u", "b", "a"]), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(UPDATE)), JUNK)
def test_whatever_stands_in_a_field_it_is_a_diff_or_told(name: str, junk: Any) -> None:
    """No other error ends the feed."""
    found: Any = None
    with suppress(RecordError):
        found = BOOKS.read(frame(**{name: junk}), NOW_MS)
    assert found is None or isinstance(found[0].content, Diff)


@given(st.binary(max_size=40) | JUNK.map(lambda junk: orjson.dumps({"stream": "btcusdt@depth@100ms", "data": junk})))
def test_whatever_bytes_come_they_are_told(raw: bytes) -> None:
    """Nothing of it is a diff."""
    with pytest.raises(RecordError):
        BOOKS.read(raw, NOW_MS)


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"5", b'{"data":3}', b'{"stream":"x","data":[]}', b"{", frame()[:-1]])
def test_other_bytes_are_told_too(raw: bytes) -> None:
    """Half a frame among them."""
    with pytest.raises(RecordError):
        BOOKS.read(raw, NOW_MS)


def test_replies_and_the_shutdown_are_for_the_connection() -> None:
    """As the exchange's other streams have them."""
    assert BOOKS.read(b'{"result":null,"id":7}', NOW_MS) == Reply(7)
    assert BOOKS.read(b'{"stream":"!x","data":{"e":"serverShutdown","E":1}}', NOW_MS) == Shutdown()
