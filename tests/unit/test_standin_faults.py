from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.standin.faults import Faults, Garbage, Lose, Reorder, Repeat, Withhold
from klinestream.standin.frames import Frame
from klinestream.standin.garbage import Form, garble
from klinestream.standin.streams import parse

START_MS = 1_700_000_000_000
KLINE = (
    b'{"e":"kline","E":1672515782136,"s":"BNBBTC","k":{"t":1672515780000,"T":1672515839999,"s":"BNBBTC","i":"1m","f":100,"L":200,'
    b'"o":"0.0010","c":"0.0020","h":"0.0025","l":"0.0015","v":"1000","n":100,"x":false,"q":"1.0000","V":"500","Q":"0.500","B":"123456"}}'
)


def frame(name: str) -> Frame:
    stream = parse(name)
    assert stream is not None
    return Frame(stream, lambda _unit: KLINE)


@given(st.lists(st.sampled_from(["btcusdt@trade", "ethusdt@trade"]), max_size=30), st.lists(st.integers(1, 7), max_size=8))
def test_reordering_loses_nothing(names: list[str], cuts: list[int]) -> None:
    """However frames are cut into batches, reordering swaps neighbours of a stream, and in the end each was sent once."""
    faults, held, sent = Faults(), dict[str, Frame](), list[Frame]()
    faults.start(Reorder(seconds=1), START_MS)
    frames = [frame(name) for name in names]
    batches, rest = [], frames
    for cut in cuts:
        batches.append(rest[:cut])
        rest = rest[cut:]
    for batch in [*batches, rest]:
        sent += faults.distort(batch, held, START_MS)
    assert all(len([1 for f in held.values() if f.stream.name == name]) <= 1 for name in names)
    sent += faults.distort([], held, START_MS + 1000)
    assert not held
    for name in set(names):
        before = [id(f) for f in frames if f.stream.name == name]
        after = [id(f) for f in sent if f.stream.name == name]
        pairs = [before[n : n + 2][::-1] for n in range(0, len(before), 2)]
        assert after == [f for pair in pairs for f in pair]


def test_faults_apply_to_matching_streams_while_they_last() -> None:
    """A fault distorts frames of matching streams, until its time."""
    faults = Faults()
    faults.start(Lose(streams="btcusdt@*", seconds=5), START_MS)
    faults.start(Repeat(streams="eth*", times=2, seconds=10), START_MS)
    btc, eth, bnb = frames = [frame(f"{symbol}usdt@trade") for symbol in ("btc", "eth", "bnb")]
    assert faults.distort(frames, {}, START_MS) == [eth, eth, bnb]
    assert faults.distort(frames, {}, START_MS + 5000) == [btc, eth, eth, bnb]
    assert faults.distort(frames, {}, START_MS + 10_000) == frames
    assert not faults.active(START_MS + 10_000)


def test_garbage_may_replace() -> None:
    """A broken frame comes before the real one, or in its place."""
    real = frame("btcusdt@trade")
    for replace, count in ((False, 2), (True, 1)):
        faults = Faults()
        faults.start(Garbage(replace=replace), START_MS)
        sent = faults.distort([real], {}, START_MS)
        assert len(sent) == count
        assert sent[0] is not real


def test_withheld_span() -> None:
    """What lies in the span of a matching symbol is withheld, its end not included."""
    faults = Faults()
    faults.start(Withhold(symbols="BTC*", from_ms=10, to_ms=20), START_MS)
    assert [faults.withheld("BTCUSDT", time_ms, START_MS) for time_ms in (9, 10, 19, 20)] == [False, True, True, False]
    assert not faults.withheld("ETHUSDT", 10, START_MS)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() if name not in "esi" for leaf in leaves(item)]
    return [value]


@pytest.mark.parametrize("form", [Form.MALFORMED, Form.TRUNCATED, Form.NOT_UTF8])
def test_unreadable_garbage(form: Form) -> None:
    """These forms are no JSON."""
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(garble(KLINE, form))


def test_readable_garbage() -> None:
    """These forms are JSON with every value wrong in its way."""
    assert set(leaves(orjson.loads(garble(KLINE, Form.NULL_FIELDS)))) == {None}
    real, other = leaves(orjson.loads(KLINE)), leaves(orjson.loads(garble(KLINE, Form.WRONG_TYPES)))
    assert all(type(was) is not type(now) for was, now in zip(real, other, strict=True))
    huge = garble(KLINE, Form.HUGE_NUMBERS)
    assert b'"t":1' + b"0" * 60 in huge
    assert b'"o":"' + b"9" * 60 in huge
    future = orjson.loads(garble(KLINE, Form.FAR_FUTURE))
    assert all(time_ms >= 4_102_444_800_000 for time_ms in (future["E"], future["k"]["t"], future["k"]["T"]))
    assert future["k"]["n"] == 100
