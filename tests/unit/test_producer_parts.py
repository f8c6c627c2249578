"""The producer's pure parts: requests, back-off, the clocks' offset."""

import random
from itertools import islice

import orjson
from hypothesis import given
from hypothesis import strategies as st

from producer.backoff import pauses
from producer.clock import Sample, offset_ms
from producer.streams import REQUEST_BYTES_MOST, requests, stream_name

names = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=20), max_size=300, unique=True)


@given(names)
def test_subscriptions_ask_for_each_stream_once(symbols: list[str]) -> None:
    """Each stream is asked for once, in requests short enough to be answered."""
    streams = [stream_name(symbol) for symbol in symbols]
    found = requests("SUBSCRIBE", streams, 7)
    assert all(len(text) <= REQUEST_BYTES_MOST for _, text in found)
    asked = [orjson.loads(text) for _, text in found]
    assert [stream for request in asked for stream in request["params"]] == streams
    assert [request["id"] for request in asked] == [number for number, _ in found] == list(range(7, 7 + len(found)))


def test_a_full_market_fits_the_exchange_limits() -> None:
    """1,400 symbols take few requests, each nearly full."""
    streams = [stream_name(f"SYMBOL{number:04}USDT") for number in range(1400)]
    assert len(requests("SUBSCRIBE", streams)) <= 14


def test_pauses_grow_to_their_cap() -> None:
    """Each pause lies between half and all of a bound that doubles up to the cap."""
    found = list(islice(pauses(0.25, 4.0, random.Random(1).uniform), 50))
    bounds = [0.25, 0.5, 1.0, 2.0] + [4.0] * 46
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(found, bounds, strict=True))
    assert len(set(found)) == 50


@given(st.floats(-1e6, 1e6), st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500)), min_size=1, max_size=5))
def test_offset_is_right_to_half_a_round_trip(true_ms: float, ways: list[tuple[float, float]]) -> None:
    """However long the ways there and back take, the offset is off by half the quickest round trip at most."""
    samples = [Sample(1e6, round(1e6 + there + true_ms), 1e6 + there + back) for there, back in ways]
    quickest = min(there + back for there, back in ways)
    assert abs(offset_ms(samples) - true_ms) <= quickest / 2 + 1
