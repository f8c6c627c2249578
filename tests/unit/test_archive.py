"""The archive's odds and ends, on files in memory."""

from uuid import uuid4

import pytest

from klinestream.archive import parquet
from klinestream.archive.compaction import Small, runs
from klinestream.archive.files import Files, Span, current
from klinestream.archive.keeper import expired
from klinestream.archive.manifest import make, parse, place
from klinestream.archive.verify import verify_manifests
from klinestream.market.errors import ArchiveError
from klinestream.market.topics import KLINES, PIPELINE_EVENTS
from klinestream.runtime.kafka import Record

TODAY = "2026-11-22"


def span(first: int, end: int, date: str = TODAY, partition: int = 0, topic: str = KLINES.name) -> Span:
    return Span(topic, partition, first, end, date)


def written(files: Files, *spans: Span) -> list[parquet.Content]:
    return [
        parquet.write(files, each, [Record(each.topic, b"k", b"{}", n, (), each.partition, n) for n in range(each.first, each.end)])
        for each in spans
    ]


def test_old_days_go_but_none_that_says_where_to_go_on() -> None:
    """A quiet partition's newest file may be of any age: without it a restart would begin anew."""
    files = Files(f"memory://{uuid4()}")
    written(files, span(0, 1, "2026-10-01"), span(1, 2, "2026-10-02"), span(2, 3, TODAY), *(span(0, 1, "2026-10-02", p) for p in (1, 2, 3)))
    written(files, span(0, 1, "2026-10-01", topic=PIPELINE_EVENTS.name))
    topics = (KLINES.name, PIPELINE_EVENTS.name)
    assert list(expired(files, topics, 0, TODAY)) == []
    assert list(expired(files, topics, 60, TODAY)) == []
    assert list(expired(files, topics, 7, TODAY)) == [(KLINES.name, "2026-10-01")]
    files.remove_day(KLINES.name, "2026-10-01")
    assert [each.first for each in files.spans(KLINES.name) if each.partition == 0] == [1, 2]


def test_files_that_others_cover_count_no_more() -> None:
    small, large, other = span(0, 5), span(0, 10), span(0, 5, partition=1)
    assert current([small, other, span(5, 10), large]) == [large, other]
    assert Span.of(large.path.replace("kafka_partition=0", "kafka_partition=1")) is None


def test_small_files_of_today_wait_until_they_are_many() -> None:
    """Those of a day that is over don't; none becomes larger than it may, and a hole parts them."""
    small = Small(bytes=100, most=3)
    today = [(span(n, n + 1), 10) for n in range(2)]
    assert list(runs(today, small, TODAY)) == []
    assert [len(run) for run in runs([*today, (span(2, 3), 10)], small, TODAY)] == [3]
    assert [len(run) for run in runs([*today, (span(5, 6), 10)], small, "2026-11-23")] == [2]
    large = [(span(n, n + 1), 40) for n in range(5)]
    assert [len(run) for run in runs(large, small, "2026-11-23")] == [2, 2]
    assert list(runs([(span(0, 1), 500), (span(1, 2), 500)], small, "2026-11-23")) == []


def test_a_manifest_says_again_what_it_was_made_from() -> None:
    files = Files(f"memory://{uuid4()}")
    contents = written(files, span(0, 3), span(3, 4), span(0, 1, partition=2))
    assert parse(make(KLINES.name, TODAY, contents), KLINES.name, TODAY) == {each.span: each for each in contents}
    assert [parquet.content(files, each.span) for each in contents] == contents
    for other in (b"", b"[]", b'{"version":2}', b'{"version":1,"partitions":{"0":{"files":[{}]}}}'):
        assert parse(other, KLINES.name, TODAY) == {}


def test_a_spoilt_manifest_is_a_fault_and_one_that_is_not_there_yet_is_none() -> None:
    files = Files(f"memory://{uuid4()}")
    contents = written(files, span(0, 3))
    assert verify_manifests(files, KLINES.name) == []
    files.put(place(KLINES.name, TODAY), b"{")
    assert "can't be read" in verify_manifests(files, KLINES.name)[0]
    files.put(place(KLINES.name, TODAY), make(KLINES.name, TODAY, contents))
    assert verify_manifests(files, KLINES.name) == []


def test_an_address_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ArchiveError, match=r"archive\.url: expected a folder, or an address that fsspec knows, got 'nowhere://x'"):
        Files("nowhere://x")
