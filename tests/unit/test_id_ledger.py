"""The ledger of missing ids: whatever order its records are read in, and whoever wrote them, the furthest state counts."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import decode_id_gap, encode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import IdGap, IdGapState, id_gap_id
from klinestream.market.id_ledger import IdLedger

NOW_MS = 1_700_000_000_000


@st.composite
def records(draw: st.DrawFn) -> IdGap:
    """A record of one of a few gaps."""
    feed, symbol = draw(st.sampled_from(["trades", "books"])), draw(st.sampled_from(["BTCUSDT", "FINNHUB:AAPL"]))
    first = draw(st.integers(0, 3))
    end = first + draw(st.integers(1, 3))
    state, producer = draw(st.sampled_from(list(IdGapState))), draw(st.sampled_from(["east", "west"]))
    after_ms = draw(st.none() | st.just(NOW_MS))
    obtained, time_ms = draw(st.integers(0, end - first)), NOW_MS + draw(st.integers(0, 3))
    gap = id_gap_id(feed, symbol, first, end)
    return IdGap(gap, feed, symbol, state, producer, first, end, after_ms, NOW_MS + 1, obtained, "", time_ms)


def line(**changes: Any) -> bytes:
    gap = IdGap("trades:A:3-5", "trades", "A", IdGapState.DETECTED, "east", 3, 5, None, NOW_MS, 0, "", NOW_MS)
    return orjson.dumps(orjson.loads(encode_event(gap)) | changes)


@given(st.lists(records(), max_size=25), st.data())
def test_order_and_repeats_do_not_matter(written: list[IdGap], data: st.DataObject) -> None:
    """Any order, with any repeats, gives the same gaps; each has the furthest state that was told of it, and all who told."""
    one, other = IdLedger(), IdLedger()
    for record in written:
        one.add(record)
    for record in data.draw(st.permutations(written + written[: len(written) // 2])):
        other.read(encode_event(record))
    assert one.gaps() == other.gaps()
    states = list(IdGapState)
    for gap in one.gaps():
        told = [record for record in written if record.gap == gap.record.gap]
        assert gap.record.state is max((record.state for record in told), key=states.index)
        assert gap.producers == tuple(sorted({record.producer for record in told}))
        assert gap.open == (gap.record.state in {IdGapState.DETECTED, IdGapState.DEFERRED})
        assert gap.filled == (gap.record.state in {IdGapState.REFILLED, IdGapState.REPAIRED, IdGapState.RESYNCHRONISED})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "lost"}, "state: expected detected, deferred, unfillable, resynchronised, refilled, repaired"),
        ({"from": 5}, "from, to: expected ids, from before to"),
        ({"to": "5"}, "to: expected an integer from 0"),
        ({"gap": "trades:B:3-5"}, "gap: not feed:symbol:from-to"),
        ({"s": "two words"}, "s: expected up to 50 letters, digits or _ - . :"),
        ({"before": None}, "before: expected ms since 1970"),
    ],
)
def test_what_is_no_gap_is_refused(changes: dict[str, Any], reason: str) -> None:
    """A short reason that names the field; a field that is new is passed over."""
    assert decode_id_gap(line(new=1)).gap == "trades:A:3-5"
    with pytest.raises(RecordError) as raised:
        decode_id_gap(line(**changes))
    assert str(raised.value) == reason
