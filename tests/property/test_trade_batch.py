"""Whole batches of trades and single ones are judged alike, and nothing changes on the way."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.codec import decode_trade, encode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import Trade
from klinestream.market.trade_batch import decode, from_trades
from tests.trades import trade, trades

_FAULTS: list[dict[str, Any]] = [
    {"p": "0.00000000"},
    {"p": "92233720368.54775807"},
    {"p": "92233720368.54775808"},
    {"p": "1e5"},
    {"p": 1},
    {"q": "1.5"},
    {"q": None},
    {"q": "0.00000000"},
    {"T": True},
    {"T": 4_102_444_800_000},
    {"f": -1},
    {"f": 5},
    {"l": 1_000_000},
    {"l": 2.0},
    {"a": None},
    {"a": None, "l": 1},
    {"a": -1},
    {"a": True},
    {"m": 1},
    {"m": None},
    {"c": ["1", "12"]},
    {"c": "1"},
    {"c": [1]},
    {"c": []},
    {"origin": "built"},
    {"origin": "guessed"},
    {"source": ""},
    {"source": 3},
    {"proof": "faith"},
    {"s": "two words"},
    {"s": None},
    {"further": [1, 2]},
]


@given(held=st.lists(trades(), max_size=12))
def test_trades_come_back_as_they_went(held: list[Trade]) -> None:
    """Lines of trades give the same trades, in their places."""
    batch, places, bad = decode([encode_event(each) for each in held], [each.time_ms for each in held])
    assert [batch.trade(row) for row in range(len(batch))] == held
    assert places.tolist() == list(range(len(held)))
    assert not bad
    assert from_trades(held).take(places).symbols == batch.symbols


@given(held=st.lists(st.tuples(trades(), st.none() | st.sampled_from(_FAULTS)), min_size=1, max_size=12))
def test_a_batch_judges_as_the_strict_decoder_does(held: list[tuple[Trade, dict[str, Any] | None]]) -> None:
    """Of a batch just those lines are bad that the decoder of single ones refuses, for the same reasons; the others are the same."""
    lines = [orjson.dumps(orjson.loads(encode_event(each)) | (fault or {})) for each, fault in held]
    batch, places, bad = decode(lines)
    good, reasons = {}, {}
    for row, line in enumerate(lines):
        try:
            good[row] = decode_trade(line)
        except RecordError as error:
            reasons[row] = str(error)
    assert {line.row: line.reason for line in bad} == reasons
    assert {row: batch.trade(i) for i, row in enumerate(places.tolist())} == good


def test_lines_that_are_no_trades_are_told_apart() -> None:
    """Garbage, other JSON and a foreign time each have their reason, and the trades among them stay."""
    good = encode_event(trade())
    lines = [good, b"", b"[]", good[:-3], b"1,\n0,\n2", good]
    batch, places, bad = decode(lines, [trade().time_ms] * 5 + [7])
    assert len(batch) == 1
    assert places.tolist() == [0]
    assert [line.reason for line in bad] == ["not JSON", "not a JSON object", "not JSON", "not JSON", "T: not the record's timestamp"]
