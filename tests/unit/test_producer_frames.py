"""What the producer makes of a frame."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market import codec, decimals
from klinestream.market.continuity import Publish
from klinestream.market.errors import RecordError
from klinestream.market.events import Origin, Proof
from producer.frames import AHEAD_MOST_MS, ClosedKline, Passed, Reply, Shutdown, closed, decode
from producer.outlet import kline_value

STREAMS = {"btcusdt@kline_1s": "BTCUSDT"}
NOW_MS = 1_790_000_001_040
KLINE: dict[str, Any] = {
    "t": 1_790_000_000_000, "T": 1_790_000_000_999, "s": "BTCUSDT", "i": "1s", "f": 100, "L": 200,
    "o": "0.00100000", "c": "0.00200000", "h": "0.00250000", "l": "0.00080000", "v": "1000.00000000", "n": 101, "x": True,
    "q": "1.00000000", "V": "500.00000000", "Q": "0.50000000", "B": "0",
}  # fmt: skip  # as the exchange groups them


def frame(**changes: Any) -> bytes:
    """A frame with these fields of its kline changed; a field set to ... is left out."""
    kline = {name: value for name, value in (KLINE | changes).items() if value is not ...}
    return orjson.dumps({"stream": "btcusdt@kline_1s", "data": {"e": "kline", "E": NOW_MS, "s": "BTCUSDT", "k": kline}})


def reason(raw: bytes) -> str:
    """Why a frame is refused."""
    with pytest.raises(RecordError) as caught:
        decode(raw, STREAMS, NOW_MS)
    return str(caught.value)


def by_codec(raw: bytes, last_trade_id: int | None) -> bytes:
    """The record's value as the codec alone would make it."""
    kline = orjson.loads(raw)["data"]["k"]
    return codec.encode_kline(codec.kline_from(kline | {"last_trade_id": last_trade_id, "origin": Origin.LIVE}))


def value(raw: bytes, last_trade_id: int | None) -> bytes | None:
    """The record's value as the producer makes it; None if the frame is passed over."""
    kline = decode(raw, STREAMS, NOW_MS)
    if not isinstance(kline, ClosedKline):
        return None
    ids = (kline.first_trade_id, kline.last_trade_id_within)
    return kline_value(kline.symbol, Publish(kline.open_time_ms, kline, kline.close, Origin.LIVE, *ids, last_trade_id))


def outcome(attempt: Callable[[], object]) -> object:
    """What it returns, or the reason of its RecordError; any other error fails the test."""
    try:
        return attempt()
    except RecordError as error:
        return f"refused: {error}"


def test_closed_kline_is_what_the_codec_makes_of_it() -> None:
    """A closed kline's record is the codec's, byte by byte."""
    found = decode(frame(), STREAMS, NOW_MS)
    assert isinstance(found, ClosedKline)
    assert (found.symbol, found.open_time_ms, found.close_time_ms, found.last_trade_id_within) == (
        "BTCUSDT",
        KLINE["t"],
        KLINE["T"],
        200,
    )
    assert value(frame(), 200) == by_codec(frame(), 200)


def test_every_origin_gives_the_codecs_bytes() -> None:
    """A kline of REST, whose ids follow from those before, and a derived quiet second are written as the codec writes them."""
    plain = codec.kline_from(KLINE | {"f": None, "L": None, "last_trade_id": None, "origin": Origin.REST})
    found = kline_value("BTCUSDT", Publish(plain.open_time_ms, closed(plain), "0.00200000", Origin.REST, 100, 200, 200, counted=True))
    known = replace(plain, first_trade_id=100, last_trade_id_within=200, last_trade_id=200, proof=Proof.COUNT)
    assert found == codec.encode_kline(known)
    quiet = orjson.loads(found) | dict.fromkeys("ohl", "0.00200000") | dict.fromkeys("vqVQ", "0.00000000") | {"n": 0, "f": -1, "L": -1}
    derived: Publish[ClosedKline] = Publish(plain.open_time_ms, None, "0.00200000", Origin.DERIVED, -1, -1, 200)
    assert kline_value("BTCUSDT", derived) == codec.encode_kline(codec.kline_from(quiet | {"origin": Origin.DERIVED, "proof": "ids"}))
    unknown: Publish[ClosedKline] = replace(derived, first_trade_id=None, last_trade_id_within=None, last_trade_id=None)
    bare = quiet | {"f": None, "L": None, "last_trade_id": None, "origin": Origin.DERIVED, "proof": "none"}
    assert kline_value("BTCUSDT", unknown) == codec.encode_kline(codec.kline_from(bare))


prices = st.integers(1, 10**20).map(decimals.show)
volumes = st.integers(0, 10**23).map(decimals.show)


@given(
    st.lists(prices, min_size=4, max_size=4),
    volumes,
    volumes,
    st.sampled_from([str, lambda text: text.rstrip("0")]),
    st.integers(-1, 2**63 - 1),
)
def test_both_ways_give_the_same_bytes(found: list[str], base: str, quote: str, written: Callable[[str], str], trade_id: int) -> None:
    """Whatever the numbers and however they are written, a frame is accepted or refused as the codec does, with the same bytes."""
    low, first, second, high = found
    raw = frame(o=written(first), h=written(high), l=written(low), c=second, v=base, q=quote, V="0.00000000", f=trade_id, L=trade_id)
    assert outcome(lambda: value(raw, trade_id)) == outcome(lambda: by_codec(raw, trade_id))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(KLINE)), json_values)
def test_any_field_may_be_anything(name: str, found: Any) -> None:
    """Whatever stands in a field, a frame is taken as the codec takes it, passed over, or refused with a reason; never another error."""
    raw = frame(**{name: found})
    made = outcome(lambda: value(raw, 1))
    assert made is None or str(made).startswith("refused: ") or made == by_codec(raw, 1)


@given(json_values)
def test_any_json_may_come(found: Any) -> None:
    """Whatever JSON comes, it is understood or refused with a reason."""
    for wrapped in (found, {"data": found}, {"stream": found, "data": {"e": "kline", "k": found}}, {"id": found, "result": None}):
        outcome(partial(decode, orjson.dumps(wrapped), STREAMS, NOW_MS))


@given(st.binary(max_size=100))
def test_any_bytes_may_come(raw: bytes) -> None:
    """Whatever bytes come, they are understood or refused with a reason."""
    outcome(lambda: decode(raw, STREAMS, NOW_MS))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "neither a stream's frame nor a reply"),
        (b'{"stream":"btcusdt@kline_1s","data":{"e":"trade"}}', "e: expected kline"),
        (b'{"stream":"btcusdt@kline_1s","data":{"e":"kline"}}', "k: expected an object"),
        (frame(s="ETHUSDT"), "s: expected the symbol of a stream that was asked for"),
        (frame(s=None), "s: expected the symbol of a stream that was asked for"),
        (frame(i="7s"), "i: expected 1s"),
        (frame(i=...), "i: expected 1s"),
        (frame(x=1), "x: expected true or false"),
        (frame(c=None), "c: expected a decimal string such as 25.35190000, got 'None'"),
        (frame(c=...), "c: missing"),
        (frame(t=KLINE["t"] + 1), "t: not a whole second"),
        (frame(T=KLINE["T"] + 1), "T: not t + 999"),
        (frame(n=1.5), "n: expected an integer from 0"),
        (frame(f=None), "f: expected a trade id or -1"),
        (frame(L=None), "L: expected a trade id or -1"),
        (frame(l="0.00210000"), "l, h: open or close lies outside them"),
        (frame(o="0.00100000,", h="0.00250000"), "o: expected a decimal string such as 25.35190000, got '0.00100000,'"),
        (frame(Q="0.50000000,"), "Q: expected a decimal string such as 25.35190000, got '0.50000000,'"),
    ],
)
def test_garbage_has_a_reason(raw: bytes, expected: str) -> None:
    """What can't be used is refused with a short, stable reason."""
    assert reason(raw) == expected


def test_future_is_refused() -> None:
    """A close time too far ahead of our clock is refused, before it can poison the topic."""
    assert isinstance(decode(frame(), STREAMS, KLINE["T"] - AHEAD_MOST_MS), ClosedKline)
    with pytest.raises(RecordError, match="ahead of our clock"):
        decode(frame(), STREAMS, KLINE["T"] - AHEAD_MOST_MS - 1)


def test_open_klines_and_other_intervals_are_passed_over() -> None:
    """A kline that isn't closed yet and one of another interval are no faults and nothing to publish."""
    assert decode(frame(x=False), STREAMS, NOW_MS) is Passed.OPEN
    assert decode(frame(i="1m"), STREAMS, NOW_MS) is Passed.INTERVAL


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"result":null,"id":3}', Reply(3)),
        (b'{"error":{"code":2,"msg":"Invalid request: x"},"id":4}', Reply(4, "2: Invalid request: x")),
        (b'{"code":3,"msg":"Invalid JSON: x"}', Reply(None, "3: Invalid JSON: x")),
        (b'{"e":"serverShutdown","E":1}', Shutdown()),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', Shutdown()),
    ],
)
def test_control_messages(raw: bytes, expected: Reply | Shutdown) -> None:
    """Replies, errors with and without wrapping, and both forms of the shutdown are understood."""
    assert decode(raw, STREAMS, NOW_MS) == expected
