"""The archive's laws: a table gives back its records, whatever they hold; files lose and repeat nothing, however they came about."""

from collections import defaultdict
from uuid import uuid4

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.archive import parquet
from klinestream.archive.columns import OFFSET, RAW, records_of, table_of
from klinestream.archive.compaction import Small, compact
from klinestream.archive.digest import digest, joined
from klinestream.archive.files import Files, Span, current
from klinestream.archive.pending import Pending, Place
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.decimals import PRICE_MOST, show
from klinestream.market.events import (
    DeadLetter,
    IdGap,
    IdGapState,
    LateKline,
    LateReason,
    OrderBook,
    Origin,
    PipelineEvent,
    Proof,
    Trade,
    TradeWindow,
)
from klinestream.market.topics import (
    BY_NAME,
    DEAD_LETTERS,
    ID_GAPS,
    KLINES,
    LATE_DATA,
    ORDER_BOOK,
    PIPELINE_EVENTS,
    PUBLISHED_HEADER,
    SCHEMA_HEADER,
    TOPICS,
    TRADE_REPAIRS,
    TRADE_WINDOWS,
    TRADES,
    Topic,
)
from klinestream.runtime.kafka import Record
from tests.klines import klines

DAY_MS = 86_400_000
NOON_MS = 1_790_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.lists(
    st.tuples(st.sampled_from([PUBLISHED_HEADER, SCHEMA_HEADER, "trace"]), st.sampled_from([b"1", b"01", b"", b"\xff", b"9" * 20])),
    max_size=4,
)
IDS = st.integers(0, 2**63 - 1)
TIMES_MS = st.integers(0, 2**50)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
MAYBE = st.none() | NUMBERS
PRICES = st.integers(1, PRICE_MOST)
VOLUMES = st.integers(0, 10**30)
SIDES = st.lists(st.tuples(PRICES.map(show), VOLUMES.map(show)), max_size=4).map(tuple)
TRADES_MADE = st.builds(
    Trade,
    symbol=TEXTS,
    aggregate_id=st.none() | IDS,
    first_id=IDS,
    last_id=IDS,
    price=PRICES,
    quantity=VOLUMES,
    time_ms=TIMES_MS,
    buyer_is_maker=st.none() | st.booleans(),
    conditions=st.none() | st.lists(TEXTS, max_size=3).map(tuple),
    origin=st.sampled_from(Origin),
    source=TEXTS,
    proof=st.sampled_from(Proof),
)
BOOKS = st.builds(
    OrderBook,
    symbol=TEXTS,
    time_ms=TIMES_MS,
    last_update_id=IDS,
    bids=SIDES,
    asks=SIDES,
    **dict.fromkeys(("spread", "mid", "microprice", "imbalance", "imbalance_20"), MAYBE),  # type: ignore[arg-type]  # each a field
    depth=st.dictionaries(st.integers(1, 10_000).map(str), st.tuples(MAYBE, MAYBE), max_size=3),
    since_id=IDS,
    source=TEXTS,
    proof=st.sampled_from(Proof),
)
WINDOWS_MADE = st.builds(
    TradeWindow,
    symbol=TEXTS,
    start_ms=TIMES_MS,
    end_ms=TIMES_MS,
    close=NUMBERS,
    **dict.fromkeys(("average_price", "average_by_volume", "low", "high", "buy_volume", "sell_volume", "rsi"), MAYBE),  # type: ignore[arg-type]
    volume=NUMBERS,
    points=IDS,
    whole=st.booleans(),
    rsi_ready=st.booleans(),
    since_ms=TIMES_MS,
    since_id=IDS,
    source=TEXTS,
    proof=st.sampled_from(Proof),
    revision=IDS,
)
ID_GAPS_TOLD = st.builds(
    IdGap,
    gap=TEXTS,
    feed=TEXTS,
    symbol=TEXTS,
    state=st.sampled_from(IdGapState),
    producer=TEXTS,
    from_id=IDS,
    to_id=IDS,
    after_ms=st.none() | TIMES_MS,
    before_ms=TIMES_MS,
    obtained=IDS,
    reason=TEXTS,
    time_ms=TIMES_MS,
)
GOOD = {
    KLINES.name: klines().map(encode_kline),
    LATE_DATA.name: klines().map(lambda k: encode_event(LateKline(LateReason.STALE, 1, 2, k))),
    DEAD_LETTERS.name: st.binary(max_size=20).map(lambda raw: encode_event(DeadLetter("why", "from", None, 3, 4, raw))),
    PIPELINE_EVENTS.name: TEXTS.map(lambda text: encode_event(PipelineEvent("part", "started", 5, text))),
    TRADES.name: TRADES_MADE.map(encode_event),
    TRADE_REPAIRS.name: TRADES_MADE.map(encode_event),
    TRADE_WINDOWS.name: WINDOWS_MADE.map(encode_event),
    ORDER_BOOK.name: BOOKS.map(encode_event),
    ID_GAPS.name: ID_GAPS_TOLD.map(encode_event),
}


@st.composite
def values(draw: st.DrawFn, topic: Topic) -> bytes | None:
    """Mostly what belongs into the topic; the same with a field changed, left out or added; JSON; bytes; nothing."""
    good = GOOD.get(topic.name)
    kinds = ["json", "bytes"] if good is None else ["good"] * 4 + ["changed", "json", "bytes", "none"]
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return None
    if kind == "bytes":
        return draw(st.binary(max_size=30))
    if kind == "json" or good is None:
        try:
            return orjson.dumps(draw(JSON))
        except TypeError:  # an integer beyond 64 bits
            return b"12345678901234567890123"
    line = draw(good)
    if kind == "good":
        return line
    record = orjson.loads(line)
    name = draw(st.sampled_from([*record, "another"]))
    if draw(st.booleans()):
        record.pop(name, None)
    else:
        record[name] = draw(st.sampled_from([None, True, 0, -1, 1.5, "", "1.5", "01.00000000", "-1.00000000", [], {}, {"s": 1}]))
    return orjson.dumps(record)


@st.composite
def records(draw: st.DrawFn, topic: Topic, most: int = 6) -> list[Record]:
    found = []
    offset = draw(st.integers(0, 2**40))
    for value in draw(st.lists(values(topic), max_size=most)):
        key = draw(st.none() | st.binary(max_size=6))
        time_ms = NOON_MS + draw(st.integers(-DAY_MS, DAY_MS))
        found.append(Record(topic.name, key, value, time_ms, tuple(draw(HEADERS)), 2, offset))
        offset += draw(st.sampled_from([1, 1, 1, 3]))  # markers of transactions take offsets
    return found


def in_order(record: Record) -> Record:
    """With its headers in order of name, in which they do not matter."""
    headers = tuple(sorted(record.headers))
    return Record(record.topic, record.key, record.value, record.timestamp_ms, headers, record.partition, record.offset)


@given(st.data())
def test_a_table_gives_back_its_records(data: st.DataObject) -> None:
    """Key, value, time, headers, place: byte for byte, of any topic, garbage included."""
    topic = data.draw(st.sampled_from([*map(BY_NAME.__getitem__, GOOD), *TOPICS]))
    given_ = data.draw(records(topic))
    assert records_of(topic, 2, table_of(topic, given_)) == [in_order(record) for record in given_]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_table_of_nothing_gives_nothing(topic: Topic) -> None:
    assert records_of(topic, 0, table_of(topic, [])) == []


@given(records(KLINES), records(KLINES))
def test_digests_add_up_and_do_not_know_order(some: list[Record], others: list[Record]) -> None:
    for record in others:
        record.partition = 3
    assert digest([*others, *reversed(some)]) == joined([digest(some), digest(others)])
    for record in some:
        again = in_order(record)
        again.value = (record.value or b"") + b" "
        assert digest([again]) != digest([record])


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=25)  # a topic
@given(st.data())
def test_good_records_stand_in_columns(name: str, data: st.DataObject) -> None:
    """None of them is kept as raw bytes: a table of raw bytes would give back its records too."""
    lines = data.draw(st.lists(GOOD[name], min_size=1, max_size=8))
    topic = BY_NAME[name]
    table = table_of(topic, [Record(name, b"k", line, 1, (), 0, n) for n, line in enumerate(lines)])
    assert table.column(RAW).null_count == len(lines)
    assert table.column(OFFSET).to_pylist() == list(range(len(lines)))
    assert [record.value for record in records_of(topic, 0, table)] == lines


@st.composite
def lives(draw: st.DrawFn) -> list[list[tuple[str, int]]]:
    """Lives of an archive, each ended by a kill: steps are some records, a while, a midnight, or a kill in the middle of a file."""
    step = st.tuples(st.sampled_from(["read", "read", "wait", "midnight", "compact", "write aside"]), st.integers(1, 5))
    return draw(st.lists(st.lists(step, max_size=8), min_size=1, max_size=4))


@given(lives(), st.integers(1, 400))
def test_however_often_it_is_killed_each_record_is_there_once(told: list[list[tuple[str, int]]], file_bytes: int) -> None:
    """Files follow each other without hole or overlap, each of one day; after a last life they hold all that was read."""
    files = Files(f"memory://{uuid4()}")
    topic, days = PIPELINE_EVENTS, 0
    line = encode_event(PipelineEvent("part", "started", 5, ""))

    def record(offset: int) -> Record:
        return Record(topic.name, b"part", line, NOON_MS, ((PUBLISHED_HEADER, b"%d" % (NOON_MS + days * DAY_MS)),), 0, offset)

    log = [record(offset) for offset in range(3)]
    for life in [*told, [("read", 0), ("finish", 0)]]:
        list(files.sweep())
        spans = current(files.spans(topic.name))
        position = spans[-1].end if spans else 0
        newest: dict[Place, str] = {(topic.name, 0): spans[-1].date} if spans else {}
        held: dict[Place, int] = {(topic.name, 0): position} if spans else {}
        pending = Pending(held, newest, file_bytes=file_bytes, all_bytes=1000, file_s=10)
        now_s = 0.0
        for what, number in life:
            today = f"2026-09-{21 + days:02}"
            match what:
                case "read":
                    log += [record(len(log) + n) for n in range(number)]
                    pending.add(log[position:], now_s)
                    position = len(log)
                case "wait":
                    now_s += 5 * number
                case "midnight":
                    days += 1
                case "compact":
                    for date in files.dates(topic.name):
                        list(compact(files, topic.name, date, Small(100_000, 2), today))
                case "write aside":
                    files.system.pipe_file(files.path(Span(topic.name, 0, position, position + 1, today).path) + ".aside", b"half")
            for span, found in pending.rest() if what == "finish" else pending.due(now_s, today):
                parquet.write(files, span, found)
    spans = files.spans(topic.name)
    assert [span.first for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert [span.date for span in spans] == sorted(span.date for span in spans)
    by_day = defaultdict(list)
    for span in spans:
        for record in parquet.records(files, span):
            by_day[span.date].append(record)
    assert [record for day in by_day.values() for record in day] == log
