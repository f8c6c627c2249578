"""Bulk files, made by hand: what is taken, and all that isn't."""

import zipfile
from pathlib import Path

import pytest

from klinestream.archive.bulk.importing import Terms, import_file
from klinestream.archive.bulk.verify import missing_places, series
from klinestream.market.errors import ArchiveError
from klinestream.market.intervals import DAY_MS, HOUR_MS
from klinestream.standin.bulk import sign
from tests.bulk import DAY, DAY_START_MS, contents, hours, made, store, taken, trades

STEM = f"BTCUSDT-1h-{DAY}"
CANDLES = "crypto_candle_history/interval=1h/BTCUSDT-2024-05.parquet"
SECONDS = f"crypto_kline_data/date={DAY}/BTCUSDT.parquet"


def refused(path: Path, why: str, **terms: bool) -> None:
    """For this reason, and nothing of it is there."""
    empty = store()
    with pytest.raises(ArchiveError, match=why):
        taken(empty, path, **terms)
    assert contents(empty) == {}


def column(rows: list[str], place: int, value: str, row: int = 5) -> list[str]:
    """The rows with one value changed."""
    cells = rows[row].split(",")
    cells[place] = value
    return [*rows[:row], ",".join(cells), *rows[row + 1 :]]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "Empty CSV"),
        (hours()[:-1], r"lacks 1 1h klines \(2024-05-06 23:00:00 to 2024-05-06 23:59:59\)"),
        (hours()[3:], "lacks 3 1h klines"),
        ([*hours()[:7], *hours()[9:]], "lacks 2 1h klines"),
        ([*hours()[:-1], hours()[-1][:-12]], "column"),
        ([*hours()[:5], hours()[4], *hours()[5:]], "is there twice"),
        ([*hours()[:5], hours()[6], hours()[5], *hours()[7:]], "in order of time"),
        (hours(DAY_START_MS - HOUR_MS), "times within 2024-05-06"),
        (hours(DAY_START_MS, 25), "times within 2024-05-06"),
        (column(hours(), 0, str(DAY_START_MS + 5 * HOUR_MS + 1)), "whole 1h"),
        (column(hours(), 6, str(DAY_START_MS + 6 * HOUR_MS)), "close times"),
        (column(hours(), 1, "1.123456789"), "data loss"),
        (column(hours(), 1, "one"), "decimal"),
        (column(hours(), 1, ""), "decimal"),
        (column(hours(), 1, "-5.00000000"), "prices above 0"),
        (column(hours(), 4, "99.00000000"), "between low and high"),
        (column(hours(), 5, "-1.00000000"), "numbers from 0"),
        (column(hours(), 9, "6.00000000"), "taker_base_volume"),
        (column(hours(), 8, "-1"), "number of trades"),
        (column(hours(), 8, "0"), "no volume where there are no trades"),
        (column(hours(), 8, "1.5"), "int64"),
        ([*hours()[:5], "", *hours()[5:]], "columns|invalid value ''"),
        (["open_time,open,high", *hours()], "expected 12 columns, got the header"),
        ([f'"{hours()[0]}"', *hours()[1:]], "int64|columns"),
    ],
)
def test_rows_that_are_not_as_they_should_be_are_refused(tmp_path: Path, rows: list[str], why: str) -> None:
    """Whatever is wrong with one row, nothing of the file is taken, and the reason says what it was."""
    refused(made(tmp_path, STEM, rows), why)


@pytest.mark.parametrize(
    ("stem", "why"),
    [
        ("BTCUSDT-3m-2024-05-06", "expected klines of 1s, 1m"),
        ("BTCUSDT-1mo-2024-05", "expected klines of 1s, 1m"),
        ("BTCUSDT-1h-2024-02-30", "a day or a month of the calendar"),
        ("BTCUSDT-1h-2999-01-01", "that is over"),
        ("BTCUSDT-1h", "expected a name such as"),
        ("BTCUSDT-bookTicker-2024-05-06", "expected a name such as"),
    ],
)
def test_names_that_tell_of_something_else_are_refused(tmp_path: Path, stem: str, why: str) -> None:
    refused(made(tmp_path, stem, hours()), why)


def test_the_checksum_has_to_be_there_and_right(tmp_path: Path) -> None:
    """Without one only where that was asked for; a wrong one is refused even so, if it is looked at."""
    path = made(tmp_path, STEM, hours())
    beside = path.with_name(f"{path.name}.CHECKSUM")
    right = beside.read_text()
    for text, why in [
        (f"{'0' * 64}  {path.name}\n", "damaged"),
        (right.replace("1h", "1m"), "a line of sha256sum"),
        ("", "a line of sha256sum"),
    ]:
        beside.write_text(text)
        refused(path, why)
    beside.unlink()
    refused(path, "--without-checksum")
    assert taken(store(), path, checksum=False)[0].told.rows == 24


def test_the_zip_holds_the_one_file_of_its_name(tmp_path: Path) -> None:
    """A second member, another symbol's or day's, none, or no zip at all."""
    text = "\n".join(hours())
    for members, why in [
        ([f"{STEM}.csv", "more.csv"], "and nothing else"),
        ([f"ETHUSDT-1h-{DAY}.csv"], "and nothing else, got ETHUSDT"),
        (["BTCUSDT-1h-2024-05-07.csv"], "and nothing else"),
        ([], "got nothing"),
    ]:
        path = tmp_path / f"{STEM}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.writestr(member, text)
        sign(path)
        refused(path, why)
    path.write_text(text)
    sign(path)
    refused(path, "the zip is damaged")


def test_a_member_that_no_such_file_can_be_is_refused_unread(tmp_path: Path) -> None:
    """A gigabyte of zeros has a megabyte as a zip."""
    path = tmp_path / f"{STEM}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{STEM}.csv", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    sign(path)
    refused(path, "expected at most 12,800 bytes in it, got 67,108,864")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [[], ["open_time,open,high,low,close,volume,close_time,quote_volume,count,taker,taker_quote,ignore"]])
def test_headers_and_ends_of_lines_don_t_matter(tmp_path: Path, end: str, header: list[str]) -> None:
    path = tmp_path / f"{STEM}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{STEM}.csv", end.join([*header, *hours(), ""]))
    into = store()
    taken(into, path, checksum=False)
    plain = store()
    taken(plain, made(tmp_path / "plain", STEM, hours()))
    ours, theirs = into.read(CANDLES), plain.read(CANDLES)
    assert ours is not None
    assert theirs is not None
    assert ours.table == theirs.table


def test_microseconds_are_milliseconds_once_imported(tmp_path: Path) -> None:
    """And both in one file are refused: the first row tells what all are."""
    in_us = store()
    taken(in_us, made(tmp_path / "us", STEM, hours(unit=1000)))
    in_ms = store()
    taken(in_ms, made(tmp_path / "ms", STEM, hours()))
    ours, theirs = in_us.read(CANDLES), in_ms.read(CANDLES)
    assert ours is not None
    assert theirs is not None
    assert ours.table == theirs.table
    refused(made(tmp_path, STEM, [*hours()[:12], *hours(unit=1000)[12:]]), "times within 2024-05-06, got .* ms")
    refused(made(tmp_path, STEM, [*hours(unit=1000)[:12], *hours()[12:]]), "times within 2024-05-06, got .* µs")


def test_candles_are_the_exchange_s_own(tmp_path: Path) -> None:
    """In the columns of a candle; what nobody told is null."""
    into = store()
    taken(into, made(tmp_path, STEM, hours()))
    kept = into.read(CANDLES)
    assert kept is not None
    first = kept.table.slice(0, 1).to_pylist()[0]
    unknown = {"first_trade_id": None, "last_trade_id": None, "revision": None}
    assert first.items() >= {"symbol": "BTCUSDT", "interval": "1h", "klines": 0, "complete": True, "origin": "history", **unknown}.items()
    assert (first["open_time_ms"], first["close_time_ms"]) == (DAY_START_MS, DAY_START_MS + HOUR_MS - 1)
    assert [str(first[name]) for name in ("open", "high", "low", "close")] == ["1.10000000", "1.30000000", "1.00000000", "1.20000000"]


def test_a_file_that_was_imported_is_passed_over(tmp_path: Path) -> None:
    """Unless what came of it is gone: then it is imported again."""
    into = store()
    path = made(tmp_path, STEM, hours())
    assert [outcome.passed_over for outcome in taken(into, path, path)] == [False, True]
    before = contents(into)
    into.files.system.rm_file(into.files.path(CANDLES))
    assert [CANDLES in fault for fault in missing_places(into)] == [True]
    assert not taken(into, path)[0].passed_over
    assert contents(into) == before
    assert missing_places(into) == []


def test_days_and_months_may_overlap_if_they_agree(tmp_path: Path) -> None:
    """In either order they come to the same; where they differ the second is refused, and its first difference named."""
    month_rows = hours(DAY_START_MS - 5 * DAY_MS, 31 * 24)
    day_rows = month_rows[5 * 24 : 6 * 24]
    day, month = made(tmp_path, STEM, day_rows), made(tmp_path, "BTCUSDT-1h-2024-05", month_rows)
    one, other = store(), store()
    taken(one, day, month)
    taken(other, month, day)
    assert contents(one)[CANDLES] == contents(other)[CANDLES]
    wrong = made(tmp_path / "wrong", STEM, column(day_rows, 5, "5.00000001"))
    before = contents(one)
    with pytest.raises(
        ArchiveError, match=r"tells other than .*BTCUSDT-1h-2024-05\.zip.*05:00:00: base_volume is 5\.00000001, was 5\.00000000"
    ):
        taken(one, wrong)
    assert contents(one) == before


def test_holes_are_let_pass_where_that_was_asked_for(tmp_path: Path) -> None:
    """And are counted. A fuller file that agrees fills them."""
    into = store()
    [outcome] = taken(into, made(tmp_path / "some", STEM, [*hours()[:7], *hours()[9:]]), allow_holes=True)
    assert (outcome.told.missing, outcome.told.holes) == (2, [(DAY_START_MS + 7 * HOUR_MS, DAY_START_MS + 9 * HOUR_MS)])
    assert into.rows_of(CANDLES) == 22
    odd = column(column(hours(), 6, str(DAY_START_MS + 6 * HOUR_MS - 1000)), 0, str(DAY_START_MS + 9 * HOUR_MS + 1), 9)
    [outcome] = taken(store(), made(tmp_path / "odd", STEM, odd), allow_holes=True)
    assert (outcome.told.rows, outcome.told.missing) == (22, 2)  # those that are cut short count as missing
    taken(into, made(tmp_path, STEM, hours()))
    assert into.rows_of(CANDLES) == 24


def test_seconds_around_missing_trades_are_no_klines(tmp_path: Path) -> None:
    """Ids that don't continue say that trades are missing: refused, or left out with all that may lack them."""
    rows = [*trades([2500, 5000]), *trades([9100, 12_000], 105)]
    refused(
        made(tmp_path, f"BTCUSDT-trades-{DAY}", rows), r"lacks 5 1s klines \(2024-05-06 00:00:05 to 2024-05-06 00:00:09\), since trade ids"
    )
    into = store()
    [outcome] = taken(into, made(tmp_path, f"BTCUSDT-trades-{DAY}", rows), allow_holes=True)
    kept = into.read(SECONDS)
    assert kept is not None
    opened = [(time - DAY_START_MS) // 1000 for time in kept.table.column("open_time_ms").to_pylist()]
    assert opened == [2, 3, 4, *range(10, 86_400)]
    assert (outcome.told.rows, outcome.told.missing, outcome.told.unknown, outcome.told.quiet) == (4, 5, 2, 86_391)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*trades([1, 2]), *trades([3], 101)], "ids that ascend"),
        ([*trades([5, 4])], "in order of time"),
        (column(trades([1, 2]), 5, "Tru", 1), "bool"),
        (column(trades([1, 2]), 1, "0.00000000", 1), "prices above 0"),
        (trades([1, DAY_MS]), "times within"),
    ],
)
def test_trades_that_are_not_as_they_should_be_are_refused(tmp_path: Path, rows: list[str], why: str) -> None:
    refused(made(tmp_path, f"BTCUSDT-trades-{DAY}", rows), why)


def test_the_day_before_tells_what_was_before_the_first_trade(tmp_path: Path) -> None:
    """Also where it is imported later; and trades that are missing between two days are noticed."""
    before = DAY_START_MS - DAY_MS
    first = made(tmp_path, "BTCUSDT-trades-2024-05-05", [f"99,7.00000000,1.00000000,7.00000000,{before},True,True"])
    second = made(tmp_path, f"BTCUSDT-trades-{DAY}", trades([3000]))
    into = store()
    assert taken(into, second)[0].told.unknown == 3
    taken(into, first)
    assert taken(into, second)[0].told.unknown == 0
    kept = into.read(SECONDS)
    assert kept is not None
    [midnight] = kept.table.slice(0, 1).to_pylist()
    assert (str(midnight["close"]), midnight["trades"], midnight["first_trade_id"], midnight["last_trade_id"]) == ("7.00000000", 0, -1, 99)
    assert taken(into, second)[0].passed_over
    other = store()
    taken(other, first)
    with pytest.raises(ArchiveError, match="since trade ids are missing there"):
        taken(other, made(tmp_path / "later", f"BTCUSDT-trades-{DAY}", trades([3000], 101)))


def test_the_archive_proves_what_was_imported(tmp_path: Path) -> None:
    """A changed value, even one with good checksums of its own, and a table at another's place are named."""
    into = store()
    taken(into, made(tmp_path, STEM, hours()), made(tmp_path, f"ETHUSDT-1h-{DAY}", hours()))
    assert [(each.symbol, each.rows, each.faults) for each in series(into, check=True)] == [("BTCUSDT", 24, []), ("ETHUSDT", 24, [])]
    files = into.files
    whole = files.read(CANDLES)
    assert whole is not None
    files.put(CANDLES, files.read(CANDLES.replace("BTC", "ETH")) or b"")
    assert [each.faults[0].partition(": ")[2] for each in series(into, check=True) if each.faults] == ["expected BTCUSDT only"]
    files.put(CANDLES, whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    assert [each.symbol for each in series(into, check=True) if each.faults] == ["BTCUSDT"]
    files.put(CANDLES, whole[:100])
    assert [each.symbol for each in series(into, check=True) if each.faults] == ["BTCUSDT"]


def test_progress_ends_at_one(tmp_path: Path) -> None:
    told: list[float] = []
    import_file(store(), made(tmp_path, STEM, hours()), Terms(), DAY_START_MS + 2 * DAY_MS, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
