"""Files and records from before klines had a source and a proof: read, compacted and given back as they were."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.archive import parquet
from klinestream.archive.bulk.store import Kept
from klinestream.archive.columns import LATER, RAW, records_of, table_of
from klinestream.archive.compaction import Small, compact
from klinestream.archive.files import Files, Span, current
from klinestream.archive.verify import verify
from klinestream.market.codec import decode_kline, encode_event, encode_kline
from klinestream.market.events import Kline, LateKline, LateReason
from klinestream.market.intervals import DAY_MS
from klinestream.market.topics import KLINES, LATE_DATA, Topic
from klinestream.replay.kline_columns import joined
from klinestream.replay.klines import IMPORTED, KlineArchive
from klinestream.runtime.kafka import Record
from tests.archived import bring, record
from tests.bulk import DAY, made, store, taken, trades
from tests.klines import SYMBOLS, kline, klines

EVER_MS = 4_000_000_000_000
DATE = "2023-11-14"


def older(topic: Topic, value: bytes) -> bytes:
    """The record's value as the version before wrote it."""
    found = orjson.loads(value)
    kline = found["kline"] if topic is LATE_DATA else found
    for name in LATER:
        del kline[name]
    return orjson.dumps(found)


def with_columns_of_before(files: Files, place: str) -> None:
    """Write a file again as the version before had it: without the columns that it did not know, and with all that it said of itself."""
    with files.open(place) as opened:
        table = pq.ParquetFile(opened).read()
    said = {name: value for name, value in (table.schema.metadata or {}).items() if name.startswith(b"klinestream")}
    if "kline" in table.column_names:
        nested = table.column("kline").combine_chunks()
        kept = [number for number, field in enumerate(nested.type) if field.name not in LATER]
        arrays, fields = [nested.flatten()[number] for number in kept], [nested.type[number] for number in kept]
        struct = pa.StructArray.from_arrays(arrays, fields=fields, mask=nested.is_null())
        table = table.set_column(table.schema.get_field_index("kline"), "kline", struct)
    sink = pa.BufferOutputStream()
    before = table.select([name for name in table.column_names if name not in LATER or "kline" in table.column_names])
    pq.write_table(before.replace_schema_metadata(said), sink, compression="zstd", store_schema=True, write_page_checksum=True)
    files.put(place, sink.getvalue().to_pybytes())


def values(topic: Topic, feed: Sequence[Kline], of_before: int) -> list[Record]:
    """Records of one partition; the first ones as the version before wrote them."""
    found = []
    for offset, one in enumerate(feed):
        made = replace(record(one, offset), topic=topic.name, partition=0, headers=())
        if topic is LATE_DATA:
            made = replace(made, value=encode_event(LateKline(LateReason.STALE, 1, 2, one)))
        found.append(replace(made, value=older(topic, made.value or b"")) if offset < of_before else made)
    return found


@given(st.lists(klines(), max_size=8), st.integers(0, 8), st.sampled_from([KLINES, LATE_DATA]))
def test_older_records_stand_in_columns_and_come_back_as_they_were(feed: list[Kline], of_before: int, topic: Topic) -> None:
    """Beside those of today, byte for byte, and none of them is kept as raw bytes."""
    given_ = values(topic, feed, of_before)
    table = table_of(topic, given_)
    assert table.column(RAW).null_count == len(feed)
    assert records_of(topic, 0, table) == given_


def test_half_an_answer_is_kept_as_it_came() -> None:
    """A record that tells only its source, or null, is none of any version: its bytes stay."""
    line = orjson.loads(encode_kline(kline()))
    halves = [
        {key: value for key, value in line.items() if key != "proof"},
        line | {"source": None},
        line | {"source": None, "proof": None},
    ]
    given_ = [replace(record(kline(), offset), value=orjson.dumps(half), headers=()) for offset, half in enumerate(halves)]
    table = table_of(KLINES, given_)
    assert table.column(RAW).null_count == 0
    assert records_of(KLINES, given_[0].partition, table) == given_


@settings(max_examples=30)
@given(st.lists(klines(), min_size=2, max_size=12), st.data(), st.sampled_from([KLINES, LATE_DATA]))
def test_files_of_before_go_on_working(feed: list[Kline], data: st.DataObject, topic: Topic) -> None:
    """Read, verified, and compacted together with a file of today; the records are what they were, to the last byte."""
    files = Files(f"memory://{uuid4()}")
    cut = data.draw(st.integers(1, len(feed) - 1))
    given_ = values(topic, feed, cut)
    spans = [Span(topic.name, 0, 0, cut, DATE), Span(topic.name, 0, cut, len(feed), DATE)]
    for span in spans:
        parquet.write(files, span, given_[span.first : span.end])
    with_columns_of_before(files, spans[0].path)
    assert [one for span in spans for one in parquet.records(files, span)] == given_
    assert [checked.faults for checked in verify(files, [topic.name])] == [[]]
    list(compact(files, topic.name, DATE, Small(10**9, 2), "2099-01-01"))
    (together,) = current(files.spans(topic.name))
    assert list(parquet.records(files, together)) == given_
    for checked in verify(files, [topic.name]):
        assert (checked.faults, checked.rows) == ([], len(feed))


@settings(max_examples=30)
@given(st.lists(klines(), min_size=1, max_size=12), st.sampled_from(["old file", "old records", "imported"]))
def test_a_replay_reads_what_is_of_before_by_the_rule(feed: list[Kline], kept_as: str) -> None:
    """Columns of old files and of old records in new ones are those of the lines, source and proof included; imported ones likewise."""
    files = Files(f"memory://{uuid4()}")
    if kept_as == "imported":
        feed = list({(one.symbol, one.open_time_ms): one for one in feed}.values())
        bring(files, feed)
        for place in files.system.glob(files.path(f"{IMPORTED}/*/*/*.parquet")):
            with_columns_of_before(files, str(place)[len(files.root) + 1 :])
        found = KlineArchive(files).imported(SYMBOLS, 0, EVER_MS)
    else:
        for partition in sorted({record(one, 0).partition for one in feed}):
            mine = [one for one in feed if record(one, 0).partition == partition]
            span = Span(KLINES.name, partition, 0, len(mine), DATE)
            parquet.write(files, span, [replace(one, partition=partition) for one in values(KLINES, mine, len(mine))])
            if kept_as == "old file":
                with_columns_of_before(files, span.path)
        found = joined(list(KlineArchive(files).read(SYMBOLS, 0, EVER_MS)), SYMBOLS)
    told = [decode_kline(older(KLINES, encode_kline(one))) for one in feed]
    for symbol in SYMBOLS:
        mine = [one for one in told if one.symbol == symbol]
        batch = found.of(symbol).batch
        expected = sorted(mine, key=lambda one: one.open_time_ms) if kept_as == "imported" else mine
        assert [batch.kline(row) for row in range(len(batch))] == expected


def test_an_import_over_one_of_before_agrees_with_it(tmp_path: Path) -> None:
    """The same trades once more, in another file: the klines that were made of them before count as what they would be today."""
    into, rows = store(), trades(range(0, DAY_MS, 30_000))
    taken(into, made(tmp_path, f"BTCUSDT-trades-{DAY}", rows))
    place = f"crypto_kline_data/date={DAY}/BTCUSDT.parquet"
    today = into.read(place)
    assert today is not None
    into.put_aside(place, Kept(today.table.drop_columns(list(LATER)), today.about))
    into.settle([place])
    assert into.read(place) == today
    header = "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch"
    taken(into, made(tmp_path / "again", f"BTCUSDT-trades-{DAY}", [header, *rows]))
    again = into.read(place)
    assert again is not None
    assert again.table == today.table
    assert len(again.about.sources) == 2
