"""The ledger of gaps: what many producers wrote, in any order and more than once, is one story a gap."""

import itertools
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import decode_gap, encode_event
from klinestream.market.errors import ConfigError, RecordError
from klinestream.market.events import GAP_TEXT_MOST, SECOND_MS, FeedGap, GapState, gap_id
from klinestream.market.ledger import PRODUCERS_MOST, Ledger
from klinestream.runtime.times import time_of

START_MS = 1_700_000_000_000
ORDER = [GapState.DETECTED, GapState.DEFERRED, GapState.UNFILLABLE, GapState.REFILLED, GapState.REPAIRED]
FILLED = (GapState.REFILLED, GapState.REPAIRED)


def gap(
    first: int = 0, end: int = 3, state: GapState = GapState.DETECTED, producer: str = "a", symbol: str = "BTCUSDT", **fields: Any
) -> FeedGap:
    """A record of a gap from one second after START_MS to another."""
    from_ms, to_ms = START_MS + first * SECOND_MS, START_MS + end * SECOND_MS
    values: dict[str, Any] = {"klines": 0, "source": "none", "proved": False, "trades": None, "reason": "", "time_ms": to_ms}
    return FeedGap(
        gap=gap_id(symbol, from_ms, to_ms), symbol=symbol, state=state, producer=producer, from_ms=from_ms, to_ms=to_ms, **values | fields
    )


@st.composite
def records(draw: st.DrawFn) -> FeedGap:
    """One of few gaps, so that many records speak of the same one and spans overlap."""
    first = draw(st.integers(0, 12))
    return gap(
        first,
        first + draw(st.integers(1, 5)),
        draw(st.sampled_from(ORDER)),
        draw(st.sampled_from("abc")),
        draw(st.sampled_from(["BTCUSDT", "ETHUSDT"])),
        klines=draw(st.integers(0, 1)),
        source=draw(st.sampled_from(["none", "derived", "live+rest", "topic"])),
        proved=draw(st.booleans()),
        trades=draw(st.sampled_from([None, 0, 7])),
        reason=draw(st.sampled_from(["", "why [not]"])),
        time_ms=START_MS + draw(st.integers(0, 3)),
    )


def ledger_of(written: list[FeedGap], most: int = 1000) -> Ledger:
    ledger = Ledger(most)
    for record in written:
        ledger.add(record)
    return ledger


def seconds_of(spans: list[tuple[int, int]]) -> list[int]:
    return [second for start, end in spans for second in range(start, end, SECOND_MS)]


@given(st.lists(records(), max_size=25), st.data())
def test_order_and_repeats_do_not_matter(written: list[FeedGap], data: st.DataObject) -> None:
    """Shuffled and with repeats, the same records give the same gaps and the same holes."""
    repeats = data.draw(st.lists(st.sampled_from(written), max_size=10)) if written else []
    other = ledger_of(data.draw(st.permutations(written + repeats)))
    ledger = ledger_of(written)
    assert other.gaps() == ledger.gaps()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert other.holes(symbol) == ledger.holes(symbol)


@given(st.lists(records(), max_size=25))
def test_the_furthest_state_counts(written: list[FeedGap]) -> None:
    """Each gap is in the furthest state that anybody wrote, by whoever wrote it, and names all its producers."""
    ledger = ledger_of(written)
    by_gap = {record.gap: [other for other in written if other.gap == record.gap] for record in written}
    assert {held.record.gap: held.record.state for held in ledger.gaps()} == {
        name: max((record.state for record in told), key=ORDER.index) for name, told in by_gap.items()
    }
    for held in ledger.gaps():
        assert held.record in by_gap[held.record.gap]
        assert held.producers == tuple(sorted({record.producer for record in by_gap[held.record.gap]}))
    assert ledger.open_gaps() == [held for held in ledger.gaps() if held.record.state in (GapState.DETECTED, GapState.DEFERRED)]
    places = [(held.record.symbol, held.record.from_ms, held.record.to_ms) for held in ledger.gaps()]
    assert places == sorted(places)


@given(st.lists(records(), max_size=25))
def test_holes_are_the_seconds_that_no_filled_gap_has(written: list[FeedGap]) -> None:
    """Second by second: those of gaps less those of filled ones, in spans that neither overlap nor touch."""
    ledger = ledger_of(written)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        told = [record for record in written if record.symbol == symbol]
        missed = set(seconds_of([(record.from_ms, record.to_ms) for record in told]))
        filled = set(seconds_of([(record.from_ms, record.to_ms) for record in told if record.state in FILLED]))
        holes = ledger.holes(symbol)
        assert seconds_of(holes) == sorted(missed - filled)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(holes))


def test_who_filled_a_gap_is_told_and_not_who_found_it_filled() -> None:
    """Of two refills the earlier counts, of two deferrals the later, and both producers are named."""
    filled = gap(state=GapState.REFILLED, producer="b", klines=3, source="rest", proved=True, time_ms=START_MS + 4000)
    found = gap(state=GapState.REFILLED, producer="a", klines=3, source="topic", time_ms=START_MS + 5000)
    early, late = (gap(10, 20, GapState.DEFERRED, klines=count, time_ms=START_MS + count) for count in (2, 5))
    ledger = ledger_of([late, found, filled, early])
    assert [(held.record, held.producers) for held in ledger.gaps()] == [(filled, ("a", "b")), (late, ("a",))]
    assert ledger.holes("BTCUSDT") == [(late.from_ms, late.to_ms)]


@given(st.lists(records(), max_size=60), st.integers(1, 8))
def test_it_never_holds_more_than_it_may(written: list[FeedGap], most: int) -> None:
    """With room for some gaps it holds no more than these, and counts what it forgets."""
    ledger = ledger_of(written, most)
    assert len(ledger.gaps()) <= most
    assert (ledger.forgotten > 0) == (len({record.gap for record in written}) > most)


def test_filled_gaps_are_forgotten_first_and_the_oldest_of_them() -> None:
    """Without room the oldest filled gap goes, however old the open and unfillable ones are."""
    kept = [gap(0, 1), gap(1, 2, GapState.UNFILLABLE), gap(4, 5, GapState.REPAIRED), gap(6, 7, GapState.DEFERRED)]
    ledger = ledger_of([kept[2], gap(2, 3, GapState.REFILLED), *kept[:2], kept[3]], most=4)
    assert [held.record for held in ledger.gaps()] == kept
    assert ledger.forgotten == 1


def test_producers_without_end_take_no_room_without_end() -> None:
    """However many producers speak of a gap, it names a bounded number, the same in any order."""
    written = [gap(producer=f"p{number:03}") for number in range(50)]
    (forwards,), (backwards,) = ledger_of(written).gaps(), ledger_of(written[::-1]).gaps()
    assert forwards == backwards
    assert len(forwards.producers) == PRODUCERS_MOST


@given(records())
def test_a_record_survives_the_codec(record: FeedGap) -> None:
    """Encoded and decoded, a record is the same, its reason empty or not."""
    read = decode_gap(encode_event(record))
    assert read == record
    assert isinstance(read.state, GapState)


def test_a_long_reason_is_cut_and_the_rest_read() -> None:
    """A reason of any length loses no record."""
    assert decode_gap(encode_event(gap(reason="x" * 10_000))) == gap(reason="x" * GAP_TEXT_MOST)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"state": "lost"}, "state: expected detected"),
        ({"producer": ""}, "producer: expected text"),
        ({"producer": "x" * 301}, "producer: expected up to 300"),
        ({"s": "two words"}, "s: expected up to 50"),
        ({"s": "ETHUSDT"}, "gap: not symbol:from-to"),
        ({"to": START_MS}, "from, to: expected"),
        ({"from": START_MS + 1}, "from, to: expected"),
        ({"klines": 4}, "klines: more than"),
        ({"klines": True}, "klines: expected an integer"),
        ({"source": ""}, "source: expected text"),
        ({"source": "rest+derived"}, "source: expected derived, live"),
        ({"source": "rest+rest"}, "source: expected derived, live"),
        ({"source": "none+rest"}, "source: expected derived, live"),
        ({"proved": 1}, "proved: expected true or false"),
        ({"proved": None}, "proved: expected true or false"),
        ({"trades": -1}, "trades: expected an integer"),
        ({"reason": None}, "reason: expected text"),
        ({"time": "now"}, "time: expected ms"),
    ],
)
def test_what_is_no_gap_is_refused_and_counted(changed: dict[str, Any], reason: str) -> None:
    """A field that is wrong, or contradicts another, is a RecordError that names it; the ledger counts it."""
    line = orjson.dumps(orjson.loads(encode_event(gap())) | changed)
    ledger = Ledger()
    with pytest.raises(RecordError, match=reason):
        ledger.read(line)
    assert (ledger.unusable, ledger.gaps()) == (1, [])


@pytest.mark.parametrize("line", [None, b"", b"{", b"[]", b"\xff", b"{}"])
def test_garbage_is_refused_and_counted(line: bytes | None) -> None:
    """What isn't even an object with the fields of a gap is refused as well."""
    ledger = Ledger()
    with pytest.raises(RecordError):
        ledger.read(line)
    assert ledger.unusable == 1


def test_a_field_may_be_added_and_none_may_lack() -> None:
    """A field of a later schema is passed over; a missing one is named."""
    told = orjson.loads(encode_event(gap()))
    assert decode_gap(orjson.dumps(told | {"colour": "red"})) == gap()
    for name in told:
        with pytest.raises(RecordError, match=f"^{name}: missing"):
            decode_gap(orjson.dumps({key: value for key, value in told.items() if key != name}))


def test_the_same_seconds_are_the_same_gap_whoever_misses_them() -> None:
    """Two producers' records of the same seconds share the id; another second or symbol is another gap."""
    assert len({gap(producer="a").gap, gap(producer="b", state=GapState.DEFERRED).gap}) == 1
    assert len({gap().gap, gap(end=4).gap, gap(symbol="ETHUSDT").gap, replace(gap(1, 3)).gap}) == 4


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("90s", START_MS - 90_000),
        ("15m", START_MS - 900_000),
        ("2h", START_MS - 7_200_000),
        ("30d", START_MS - 30 * 86_400_000),
        ("2023-11-14T22:13:20", START_MS),
        ("2023-11-14T22:13:20Z", START_MS),
        ("2023-11-14 23:13:20+01:00", START_MS),
        ("2023-11-14", 1_699_920_000_000),
    ],
)
def test_since_takes_times_and_spans(text: str, time_ms: int) -> None:
    """`--since` takes a span before now, or a time: UTC if it names no zone."""
    assert time_of(text, START_MS) == time_ms


@pytest.mark.parametrize("text", ["yesterday", "2", "h", "-2h", "2h30m", "2w", "2023-13-01"])
def test_since_refuses_what_is_no_time(text: str) -> None:
    """Anything else is an error that says what was expected and what came."""
    with pytest.raises(ConfigError, match=f"--since: expected a time .* got '{text}'"):
        time_of(text, START_MS)
