"""Archived klines come back as the columns that the jobs made of their lines, and those that count are those that the engine takes."""

from collections.abc import Sequence
from dataclasses import fields, replace
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.archive.files import Files
from klinestream.market.batch import UNKNOWN_ID, KlineBatch, decode, from_klines
from klinestream.market.errors import ArchiveError
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.intervals import DAY_MS
from klinestream.market.topics import KLINE_REPAIRS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.replay.kline_columns import NO_OFFSET, ArchivedKlines, counting, filled, joined
from klinestream.replay.klines import KlineArchive
from klinestream.replay.repairs.windows import accepted, symbols_of
from tests.archived import LATE_MS, archive, bring, put, record
from tests.klines import START_MS, SYMBOLS, feeds, kline, klines

EVER_MS = 4_000_000_000_000


def memory() -> Files:
    return Files(f"memory://{uuid4()}")


def read(files: Files, symbols: Sequence[str] = SYMBOLS, from_ms: int = 0, to_ms: int = EVER_MS, with_ids: bool = True) -> ArchivedKlines:
    return joined(list(KlineArchive(files, with_ids=with_ids).read(symbols, from_ms, to_ms)))


def same(one: KlineBatch, other: KlineBatch) -> bool:
    columns = (each.name for each in fields(KlineBatch) if each.name != "symbols")
    return one.symbols == other.symbols and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


@settings(max_examples=40)
@given(feed=st.lists(klines(), max_size=40), file_rows=st.integers(1, 40))
def test_columns_are_those_of_the_lines(feed: list[Kline], file_rows: int) -> None:
    """Whatever a kline holds, volumes beyond 64 bits and unknown ids included: Arrow's decimals and JSON's give the same integers."""
    files = memory()
    records = archive(files, feed, file_rows=file_rows)
    found = read(files)
    assert len(found) == len(feed)
    lines, _, bad = decode([one.value or b"" for one in records])
    assert not bad
    expected, places = symbols_of(lines), symbols_of(from_klines(feed))
    assert set(expected) == set(found.names) == set(places)
    for symbol, mine in expected.items():
        assert same(found.of(symbol).batch, mine)
        own = [one for one in records if one.key == symbol.encode()]
        assert found.of(symbol).offsets.tolist() == [one.offset for one in own]
        assert found.of(symbol).published_ms.tolist() == [one.timestamp_ms + LATE_MS for one in own]


@settings(max_examples=60)
@given(feed=feeds(), cut=st.integers(0, 60))
def test_what_counts_is_what_the_engine_takes(feed: list[Kline], cut: int) -> None:
    """In one go or in two: each symbol's own that are newer than all before."""
    files = memory()
    feed = [replace(one, first_trade_id=None, last_trade_id_within=None, last_trade_id=None) for one in feed]
    archive(files, feed)
    found = read(files)
    whole = found.take(counting(found))
    newest = np.full(len(found.names), -1, np.int64)
    first, then = np.arange(len(found)) < cut, np.arange(len(found)) >= cut
    parts = [part.take(counting(part, newest)) for part in (found.take(first), found.take(then))]
    assert same(joined(parts, found.names).batch, whole.batch)
    assert WindowEngine(WindowSettings()).step(from_klines(feed)).klines == len(whole)
    for symbol, mine in symbols_of(from_klines(feed)).items():
        assert same(whole.of(symbol).batch, accepted(mine))


def test_only_what_is_asked_for_is_read() -> None:
    """Symbols, and open times from the first to before the last; trade ids are unknown where they aren't wanted."""
    files = memory()
    archive(files, [kline(symbol, second) for second in range(10) for symbol in SYMBOLS])
    found = read(files, ["ETHUSDT", "NONEUSDT"], START_MS + 2000, START_MS + 5000, with_ids=False)
    assert found.names == ("ETHUSDT",)
    assert found.open_times.tolist() == [START_MS + at for at in (2000, 3000, 4000)]
    assert np.all(found.ids == UNKNOWN_ID)
    assert KlineArchive(files).symbols(0, EVER_MS) == sorted(SYMBOLS)
    assert KlineArchive(files).symbols(START_MS - 10 * DAY_MS, START_MS - 5 * DAY_MS) == []


def test_a_kline_is_found_in_the_folder_of_the_next_day() -> None:
    """Published after midnight, it stands with the day after its own."""
    files = memory()
    midnight = START_MS - START_MS % DAY_MS
    second = (midnight - START_MS) // SECOND_MS - 1
    put(files, [record(kline(second=second, first_trade_id=None, last_trade_id_within=None, last_trade_id=None), 0, midnight + 5)])
    assert read(files, to_ms=midnight).open_times.tolist() == [midnight - SECOND_MS]
    assert read(files, from_ms=midnight).open_times.tolist() == []


def test_what_the_jobs_would_not_take_is_left_out_and_counted() -> None:
    """Tombstones, other values, klines that contradict themselves or their record's time, and other partitions' symbols."""
    files = memory()
    archived = KlineArchive(files)
    good = [record(kline(second=second), second) for second in range(3)]
    odd = [
        replace(good[0], value=None, offset=3),
        replace(good[0], value=b'{"s":', offset=4),
        record(kline(second=5, low=200 * 10**8), 5),
        replace(record(kline(second=6), 6), timestamp_ms=START_MS),
        record(kline(second=7, last_trade_id=-2), 7),
        record(kline(second=8, origin="elsewhere"), 8),
        record(kline(second=9, base_volume=10**23), 9),
        replace(record(kline("ETHUSDT", 10), 10), partition=good[0].partition),
    ]
    put(files, [*good, *odd])
    found = joined(list(archived.read(SYMBOLS, 0, EVER_MS)))
    assert found.offsets.tolist() == [0, 1, 2]
    left = archived.left
    assert (left.without_value, left.raw, left.unsound) == (1, 1, 5)
    lines = [one.value or b"" for one in (*good, *odd[:-1])]
    taken, _, _ = decode(lines, [one.timestamp_ms for one in (*good, *odd[:-1])])
    assert taken.open_times.tolist() == found.open_times.tolist()


def test_repairs_are_read_as_klines_are() -> None:
    files = memory()
    archive(files, [kline(second=second) for second in (4, 2)], KLINE_REPAIRS)
    found = joined(list(KlineArchive(files, KLINE_REPAIRS).read(SYMBOLS, 0, EVER_MS)))
    assert found.open_times.tolist() == [START_MS + 4000, START_MS + 2000]
    assert found.offsets.tolist() == [0, 1]


def test_imported_klines_are_known_at_their_close() -> None:
    files = memory()
    bring(files, [kline(symbol, second) for symbol in ("BTCUSDT", "ETHUSDT") for second in range(5)])
    archived = KlineArchive(files)
    found = archived.imported(["BTCUSDT", "NONEUSDT"], START_MS + 1000, START_MS + 3000)
    assert found.open_times.tolist() == [START_MS + 1000, START_MS + 2000]
    assert found.published_ms.tolist() == [START_MS + 1999, START_MS + 2999]
    assert set(found.offsets.tolist()) == {NO_OFFSET}
    assert archived.symbols(0, EVER_MS) == ["BTCUSDT", "ETHUSDT"]


def test_imported_klines_fill_what_the_feed_lacks() -> None:
    """The feed wins where both are there."""
    files = memory()
    archive(files, [kline(second=second) for second in (2, 3, 7)])
    bring(files, [kline("ETHUSDT"), *(kline(second=second, price=10**8) for second in range(6))])
    whole = filled(read(files), KlineArchive(files).imported(SYMBOLS, 0, EVER_MS))
    mine = whole.of("BTCUSDT")
    assert ((mine.open_times - START_MS) // SECOND_MS).tolist() == [0, 1, 2, 3, 4, 5, 7]
    assert (mine.prices[0] // 10**8).tolist() == [1, 1, 100, 100, 1, 1, 100]
    assert len(whole.of("ETHUSDT")) == 1


def test_a_spoilt_file_is_a_clear_error() -> None:
    files = memory()
    archive(files, [kline()])
    (span,) = files.spans("crypto_kline_data")
    files.put(span.path, b"PAR1")
    with pytest.raises(ArchiveError, match="can't be read"):
        read(files)
