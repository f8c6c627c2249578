"""Klines survive the codec, and a whole batch is read as its lines are one by one."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market import batch, codec, decimals, partitions
from klinestream.market.errors import RecordError
from klinestream.market.events import Kline, Origin, Proof
from tests.klines import kline, klines

GOOD = codec.encode_kline
USUAL = b',"source":"binance","proof":"ids"}'


def spoilt(line: bytes, kind: int) -> bytes:
    """A line that is no kline, in one of many ways."""
    record = orjson.loads(line)
    ways = [
        lambda: b"",
        lambda: line[:-7],
        lambda: line + line,
        lambda: b"[" + line + b"]",
        lambda: b"null",
        lambda: b"\xff\xfe",
        lambda: orjson.dumps(record | {"c": None}),
        lambda: orjson.dumps(record | {"o": 1.5}),
        lambda: orjson.dumps(record | {"h": "0.00000000", "l": "0.00000000"}),
        lambda: orjson.dumps(record | {"v": "-1.00000000"}),
        lambda: orjson.dumps(record | {"v": "1e5"}),
        lambda: orjson.dumps(record | {"n": True}),
        lambda: orjson.dumps(record | {"n": 1.0}),
        lambda: orjson.dumps(record | {"t": record["t"] + 1}),
        lambda: orjson.dumps(record | {"t": str(record["t"])}),
        lambda: orjson.dumps(record | {"T": 4_200_000_000_999, "t": 4_200_000_000_000}),
        lambda: orjson.dumps(record | {"s": ""}),
        lambda: orjson.dumps(record | {"s": "A\tB"}),
        lambda: orjson.dumps(record | {"s": "A\nB"}),
        lambda: orjson.dumps(record | {"i": "1m"}),
        lambda: orjson.dumps(record | {"origin": "dreamt"}),
        lambda: orjson.dumps(record | {"L": -2}),
        lambda: orjson.dumps(record | {"source": "Not Mine"}),
        lambda: orjson.dumps(record | {"source": None}),
        lambda: orjson.dumps(record | {"proof": "hearsay"}),
        lambda: orjson.dumps({key: value for key, value in record.items() if key != "source"}),
        lambda: orjson.dumps({key: value for key, value in record.items() if key != "proof"}),
        lambda: orjson.dumps({key: value for key, value in record.items() if key != "Q"}),
        lambda: b'{"s":"' + b"x" * 100 + b'"',
    ]
    return ways[kind % len(ways)]()


@given(klines())
def test_a_kline_survives_the_codec(kline: Kline) -> None:
    """Encoded and decoded, a kline is the same."""
    assert codec.decode_kline(codec.encode_kline(kline)) == kline


@given(st.lists(st.tuples(klines(), st.one_of(st.none(), st.integers(0, 28))), max_size=12))
def test_a_batch_is_read_as_its_lines_are(rows: list[tuple[Kline, int | None]]) -> None:
    """Whatever stands beside a line, it is read, or refused, as it is alone."""
    lines = [GOOD(kline) if kind is None else spoilt(GOOD(kline), kind) for kline, kind in rows]
    read, places, bad = batch.decode(lines)
    one_by_one, reasons = {}, {}
    for place, line in enumerate(lines):
        try:
            one_by_one[place] = codec.decode_kline(line)
        except RecordError as error:
            reasons[place] = str(error)
    assert {place: read.kline(row) for row, place in enumerate(places.tolist())} == one_by_one
    assert {line.row: line.reason for line in bad} == reasons
    assert set(reasons) == {place for place, (_, kind) in enumerate(rows) if kind is not None}


def older(kline: Kline) -> bytes:
    """The kline as a record of the version before source and proof."""
    record = orjson.loads(GOOD(kline))
    return orjson.dumps({key: value for key, value in record.items() if key not in ("source", "proof")})


@given(st.lists(st.tuples(klines(), st.sampled_from(["as it is", "usual", "older"])), max_size=12))
def test_an_older_kline_is_binances_and_proved_by_its_ids_or_its_count(rows: list[tuple[Kline, str]]) -> None:
    """A record without source and proof, alone or beside others, reads as one that says what the rule of docs/topics.md says."""
    usual = {"source": "binance", "proof": Proof.IDS}
    given_ = [replace(one, **usual) if kind == "usual" else one for one, kind in rows]
    expected = []
    for one, (_, kind) in zip(given_, rows, strict=True):
        ruled = Proof.NONE if one.last_trade_id is None else Proof.COUNT if one.origin is Origin.REST else Proof.IDS
        expected.append(replace(one, source="binance", proof=ruled) if kind == "older" else one)
    lines = [older(one) if kind == "older" else GOOD(one) for one, (_, kind) in zip(given_, rows, strict=True)]
    assert [codec.decode_kline(line) for line in lines] == expected
    read, _, bad = batch.decode(lines)
    assert not bad
    assert [read.kline(row) for row in range(len(read))] == expected


def test_the_last_word_on_a_proof_counts() -> None:
    """A line that names its source and proof twice, or within another object, is read in a batch as it is alone."""
    line = GOOD(kline())
    assert line.endswith(USUAL)
    twice = line[:-1] + line[-len(USUAL) :]
    first = line.replace(USUAL, b',"source":"finnhub","proof":"none"' + USUAL)
    inner = older(kline())[:-1] + b',"x":{"y":1' + USUAL + b"}"
    open_ = older(kline())[:-1] + b',"x":{"y":1' + USUAL
    for lines in ([twice], [first], [inner], [twice, first], [first, inner], [inner, line], [older(kline()), line]):
        read, _, bad = batch.decode(lines)
        assert not bad
        assert [read.kline(row) for row in range(len(read))] == [codec.decode_kline(one) for one in lines]
    read, _, bad = batch.decode([open_, line])
    assert (len(read), [one.row for one in bad]) == (1, [0])


@given(st.lists(st.tuples(klines(), st.booleans()), max_size=8))
def test_a_line_must_close_at_its_records_time(rows: list[tuple[Kline, bool]]) -> None:
    """A line whose close time isn't its record's timestamp is bad, and no other."""
    lines = [GOOD(kline) for kline, _ in rows]
    times = [kline.close_time_ms + wrong for kline, wrong in rows]
    _, places, bad = batch.decode(lines, times)
    assert [line.row for line in bad] == [row for row, (_, wrong) in enumerate(rows) if wrong]
    assert places.tolist() == [row for row, (_, wrong) in enumerate(rows) if not wrong]


def test_lines_that_only_make_sense_together_are_bad() -> None:
    """An object, a string or an array that one line opens is not closed by the next."""
    for first, second in ((b'{"s":"A"', b'"t":1}'), (b'{"s":"A', b'B"}'), (b"[1", b"2]"), (b"{},0,{}", b"")):
        read, _, bad = batch.decode([first, second])
        assert (len(read), len(bad)) == (0, 2)


@given(st.integers(0, 10**23 - 1))
def test_decimals_are_exact(value: int) -> None:
    """A decimal shown and parsed, alone or in columns, is the same integer of 1e-8."""
    text = decimals.show(value)
    assert decimals.parse(text) == value
    whole, remainder = decimals.columns([text, text], 2)
    assert [int(w) * decimals.UNIT + int(r) for w, r in zip(whole[:, 0], remainder[:, 0], strict=True)] == [value, value]


@given(st.text(max_size=12))
def test_columns_refuse_what_parse_refuses(text: str) -> None:
    """Columns take canonical decimals alone: nothing that `parse` refuses gets in."""
    try:
        decimals.columns([text], 1)
    except ValueError:
        return
    assert decimals.show(decimals.parse(text)).lstrip("0") == text.lstrip("0")


@given(klines(), klines())
def test_content_tells_klines_apart(one: Kline, other: Kline) -> None:
    """Digests are equal where the market's fields are, whatever origin, trade ids, source and proof say."""
    market = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume", "trades")
    same = all(getattr(one, name) == getattr(other, name) for name in market)
    digests = batch.from_klines([one, other]).content()
    assert (digests[0] == digests[1]) == same


@given(st.text(min_size=1, max_size=20), st.integers(1, 64))
def test_partitions_agree_with_the_client(key: str, count: int) -> None:
    """A symbol's partition is the one that kafka-python chooses."""
    with pytest.MonkeyPatch.context():
        from kafka.partitioner.default import murmur2  # noqa: PLC0415  # its import warns, which conftest.py lets pass

    assert partitions.partition_of(key, count) == (murmur2(key.encode()) & 0x7FFFFFFF) % count
