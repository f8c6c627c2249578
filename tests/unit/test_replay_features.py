"""Features are what the live engine gave: over holes, repeats, late klines, history and repairs, to the last bit."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from typer.testing import CliRunner

from klinestream.archive.files import Files
from klinestream.cli.main import app
from klinestream.market.batch import from_klines
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import decode_history
from klinestream.market.codec import encode_event
from klinestream.market.errors import ConfigError
from klinestream.market.events import SECOND_MS, CandleHistory, HistoryReason, Kline, Window
from klinestream.market.intervals import DAY_MS, MINUTE_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLE_HISTORY, KLINE_REPAIRS, PUBLISHED_HEADER
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.replay.features import reading
from klinestream.replay.features import run as runs
from klinestream.replay.features.candle_rows import history_of
from klinestream.replay.features.feed import Feed
from klinestream.replay.features.run import Request
from klinestream.replay.klines import KlineArchive
from klinestream.replay.repairs.windows import recomputations, republished
from klinestream.runtime.kafka import Record
from tests.archived import LATE_MS, archive, bring, put, record
from tests.candles import rows
from tests.klines import START_MS, kline

# Features are asked for from ten minutes before midnight to fourteen after it: two days, and two slices or more.
MIDNIGHT = START_MS - START_MS % DAY_MS
FROM, TO = MIDNIGHT - 10 * MINUTE_MS, MIDNIGHT + 14 * MINUTE_MS
SYMBOLS = ("BTCUSDT", "ETHUSDT", "NEWUSDT")
SETTINGS = WindowSettings()
CANDLES = CandleSettings(intervals=("1m", "5m"), history=5, provisional=False)


def second(symbol: str, time_ms: int, shift: int = 0) -> Kline:
    """A kline with a price of its own."""
    at = time_ms // SECOND_MS
    price = 10**8 * 50 + (at * at * 7919 + len(symbol) * at + shift) % 10**8
    none = {"first_trade_id": None, "last_trade_id_within": None, "last_trade_id": None}
    volumes = {"base_volume": 10**9 + at % 977, "quote_volume": 10**12 + at % 997, "taker_base_volume": at % 313}
    own = {"low": price - at % 3, "high": price + at % 5, "trades": 1 + at % 4}
    return kline(symbol, (time_ms - START_MS) // SECOND_MS, price, **none, **volumes, **own)


def feed() -> list[Kline]:
    """From before the warm-up on: a hole, repeats, one that comes late and one that contradicts, a symbol that is listed late."""
    found = []
    for time_ms in range(FROM - 4 * MINUTE_MS, TO, SECOND_MS):
        after = (time_ms - FROM) // SECOND_MS
        found.append(second("BTCUSDT", time_ms))
        if not 200 <= after < 290:
            found.append(second("ETHUSDT", time_ms))
        if after >= 130:
            found.append(second("NEWUSDT", time_ms))
        if after % 97 == 0:
            found.append(second("BTCUSDT", time_ms - 3 * SECOND_MS, after % 2))
        if after == 300:
            found.append(second("ETHUSDT", time_ms - 50 * SECOND_MS))
    return found


def request(folder: Path, as_of: str = "live", **fields: Any) -> Request:
    asked = Request(str(folder / "archive"), str(folder / "out"), SYMBOLS, FROM, TO, as_of, "basic", SETTINGS, CANDLES)
    return replace(asked, **fields)


def rows_of(windows: Sequence[Window]) -> dict[tuple[str, int], tuple[Any, ...]]:
    """(symbol, open time of the newest kline) → values; the windows of one kline have to agree."""
    found: dict[tuple[str, int], tuple[Any, ...]] = {}
    for one in windows:
        opened = (one.end_ms - SECOND_MS) // SECOND_MS * SECOND_MS
        values = (
            one.close,
            one.average_price,
            one.low,
            one.high,
            one.volume,
            one.points,
            one.rsi,
            one.rsi_ready,
            one.since_ms,
            one.revision,
        )
        assert found.setdefault((one.symbol, opened), values) == values
    return {key: values for key, values in found.items() if FROM <= key[1] < TO}


WINDOW_COLUMNS = ("close", "average_price", "low", "high", "volume", "points", "rsi", "rsi_ready", "since", "revision")


def read(folder: Path) -> dict[tuple[str, int], tuple[Any, ...]]:
    table = reading.windows(folder / "out").select("symbol", "open_time_ms", *WINDOW_COLUMNS).collect()
    return {(row[0], row[1]): row[2:] for row in table.iter_rows()}


def live_windows(klines: Sequence[Kline]) -> list[Window]:
    engine = WindowEngine(SETTINGS)
    read_from = (FROM - 153 * SECOND_MS) // MINUTE_MS * MINUTE_MS
    step = engine.step(from_klines([one for one in klines if one.open_time_ms >= read_from]))
    return [window for each in step.windows for window in each.events()]


def test_windows_are_the_live_engines(tmp_path: Path) -> None:
    """Every value, `since` included, to the last bit; known when the kline was published; the minute as it stood."""
    klines = feed()
    archive(Files(str(tmp_path / "archive")), klines, file_rows=1500)
    told = runs.features(request(tmp_path), 1)
    assert read(tmp_path) == rows_of(live_windows(klines))
    assert {each["file"].split("/")[1] for each in told["files"]} == {"date=2023-11-13", "date=2023-11-14"}
    table = reading.windows(tmp_path / "out").sort("symbol", "open_time_ms").collect()
    assert table["known_ms"].to_list() == [opened + 999 + LATE_MS for opened in table["open_time_ms"].to_list()]
    mine = table.filter(pl.col("symbol") == "BTCUSDT").group_by(pl.col("open_time_ms") // MINUTE_MS, maintain_order=True)
    held = {one.open_time_ms: one for one in reversed(klines) if one.symbol == "BTCUSDT"}
    for _, minute in mine:
        so_far = [held[opened] for opened in minute["open_time_ms"].to_list()]
        assert minute["minute_klines"].to_list() == list(range(1, 61))
        assert minute["minute_high"][-1] == max(one.high for one in so_far) / 1e8
        assert minute["minute_low"][-1] == min(one.low for one in so_far) / 1e8
        assert (minute["minute_open"][30], minute["minute_close"][30]) == (so_far[0].open / 1e8, so_far[30].close / 1e8)
        assert minute["minute_volume"][30] == sum(one.base_volume for one in so_far[:31]) / 1e8


def history(symbol: str, first_ms: int, count: int, reason: HistoryReason, at: tuple[int, int]) -> Record:
    """The exchange's own candles, published at `at` (time, offset)."""
    interval, length = "1m", MINUTE_MS
    klines = [second(symbol, time_ms) for time_ms in range(first_ms, first_ms + count * length, SECOND_MS)]
    entry = CandleHistory(symbol, interval, reason, tuple(map(tuple, rows(klines, length))))
    stamp = first_ms + count * length - 1
    header = (PUBLISHED_HEADER, b"%d" % at[0])
    partition = partition_of(symbol, CANDLE_HISTORY.partitions)
    return Record(CANDLE_HISTORY.name, symbol.encode(), encode_event(entry), stamp, (header,), partition, at[1])


def told_of(files: Files) -> list[Record]:
    """Before the first kline, and after the hole."""
    began = FROM - 3 * MINUTE_MS
    found = [history("ETHUSDT", began - 200 * MINUTE_MS, 200, HistoryReason.START, (began + 1500, 0))]
    gap = FROM + 3 * MINUTE_MS
    found.append(history("ETHUSDT", gap, 2, HistoryReason.GAP, (gap + 5 * MINUTE_MS, 1)))
    put(files, found)
    return found


CANDLE_COLUMNS = ("close", "base_volume", "klines", "complete", "since")


def live_candles(klines: Sequence[Kline], told: Sequence[Record]) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """(symbol, interval, open time) → what the live engine said of it first: it gets each record when it was published."""
    engine, found = CandleEngine(CANDLES), dict[tuple[str, str, int], tuple[Any, ...]]()
    read_from = (FROM - 153 * SECOND_MS) // MINUTE_MS * MINUTE_MS
    mine = [one for one in klines if one.open_time_ms >= read_from]
    events: list[tuple[int, Kline | Record]] = [
        (max(each.close_time_ms for each in mine[: n + 1][-9:]) + LATE_MS, one) for n, one in enumerate(mine)
    ]
    events += [(int(one.headers[0][1] or 0), one) for one in told]
    for _, event in sorted(events, key=lambda each: each[0]):
        if isinstance(event, Record):
            entry = decode_history(event.value or b"", event.offset)
            step = engine.take([entry])
            closed = [(entry.symbol, entry.interval, int(t), (None, 0, True)) for t in entry.table[0]]
        else:
            step = engine.step(from_klines([event]))
            closed = []
            for rows_ in step.closed:
                names, counts = engine.symbols(rows_.columns), rows_.table[1].tolist()
                times, whole = rows_.open_times.tolist(), rows_.complete.tolist()
                closed += [(s, rows_.interval, t, (None, n, w)) for s, t, n, w in zip(names, times, counts, whole, strict=True)]
        studies = {}
        for each in step.studies:
            for row, key in enumerate(zip(each.symbols, each.intervals, each.open_times.tolist(), strict=True)):
                values = [None if np.isnan(v) else float(v) for v in each.values[:, row]]
                studies[key] = (int(each.since[row]), values, each.ready[:, row].tolist())
        for symbol, interval, opened, own in closed:
            found.setdefault((symbol, interval, opened), (*own[1:], studies.get((symbol, interval, opened))))
    return {key: value for key, value in found.items() if FROM <= key[2] < TO}


def candle_rows(folder: Path) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    table = reading.candles(folder / "out").collect()
    names = [name.removesuffix("_ready") for name in table.columns if name.endswith("_ready")]
    found = {}
    for row in table.iter_rows(named=True):
        study = None if row["since"] is None else (row["since"], [row[n] for n in names], [row[f"{n}_ready"] for n in names])
        key = (row["symbol"], row["interval"], row["open_time_ms"])
        assert key not in found
        found[key] = (row["klines"], row["complete"], study)
    return found


def test_candles_are_the_live_engines(tmp_path: Path) -> None:
    """What it said of each first, with the exchange's own candles from their publishing on: values, readiness and `since`."""
    files, klines = Files(str(tmp_path / "archive")), feed()
    archive(files, klines)
    told = told_of(files)
    runs.features(request(tmp_path), 1)
    assert candle_rows(tmp_path) == live_candles(klines, told)
    ready = reading.candles(tmp_path / "out", "1m").filter(pl.col("symbol") == "ETHUSDT", pl.col("rsi_14_ready")).collect()
    assert ready["open_time_ms"].min() == FROM, "expected history to have warmed it"


def test_final_candles_hold_what_the_exchange_says(tmp_path: Path) -> None:
    """A hole is filled by the exchange's own candles, and the run goes on: its values are those of the whole series."""
    files = Files(str(tmp_path / "archive"))
    archive(files, feed())
    told_of(files)
    put(files, [history("BTCUSDT", FROM + 2 * MINUTE_MS, 1, HistoryReason.CORRECTION, (TO, 0))])
    runs.features(request(tmp_path, "final"), 1)
    table = reading.candles(tmp_path / "out", "1m").sort("symbol", "open_time_ms").collect()
    mine = table.filter(pl.col("symbol") == "ETHUSDT")
    assert mine.height == 24
    assert mine["complete"].all()
    assert mine["since"].n_unique() == 1
    assert mine.filter(pl.col("revision") > 0)["open_time_ms"].to_list() == [FROM + 3 * MINUTE_MS, FROM + 4 * MINUTE_MS]
    late = mine.filter(pl.col("open_time_ms") >= FROM + 3 * MINUTE_MS)["known_ms"].to_list()
    assert late == sorted(late)
    assert late[0] == FROM + 8 * MINUTE_MS
    corrected = table.filter(pl.col("symbol") == "BTCUSDT", pl.col("open_time_ms") >= FROM + 2 * MINUTE_MS)
    assert corrected["revision"].to_list()[:2] == [1, 0]
    assert min(corrected["known_ms"].to_list()) >= TO


def repairs() -> list[Kline]:
    """Most of the hole, a correction, and one of what nobody doubts."""
    hole = [second("ETHUSDT", FROM + at * SECOND_MS) for at in range(200, 280)]
    return [*hole, second("BTCUSDT", FROM + 100 * SECOND_MS, 5), second("BTCUSDT", FROM + 400 * SECOND_MS)]


def test_final_windows_are_the_topics_highest_revisions(tmp_path: Path) -> None:
    """Live rows, and over them what the repair process publishes: values, `since` and `revision`, to the last bit."""
    files, klines, late = Files(str(tmp_path / "archive")), feed(), repairs()
    archive(files, klines)
    records = archive(files, late, KLINE_REPAIRS)
    runs.features(request(tmp_path, "final"), 1)
    expected = rows_of(live_windows(klines))
    for symbol in SYMBOLS:
        mine = from_klines([one for one in klines if one.symbol == symbol])
        own = [(one, each.offset) for one, each in zip(late, records, strict=True) if one.symbol == symbol]
        parts = recomputations(mine, from_klines([one for one, _ in own]), np.array([o for _, o in own], np.int64), SETTINGS)
        expected |= rows_of([one.window for one in republished(parts, SETTINGS)])
    found = read(tmp_path)
    assert found == expected
    assert sum(row[-1] > 0 for row in found.values()) == 80 + 153
    filled = (
        reading.windows(tmp_path / "out").filter(pl.col("symbol") == "ETHUSDT", pl.col("open_time_ms") == FROM + 230 * SECOND_MS).collect()
    )
    assert filled["minute_klines"].to_list() == [51]


def test_what_came_weeks_later_counts_as_of_final(tmp_path: Path) -> None:
    """Repairs and corrections of the span, whenever they were published; and none of it as of live."""
    whole, weeks_later = feed(), TO + 21 * DAY_MS
    hole = [one for one in repairs() if one.symbol == "ETHUSDT"]
    for folder in (tmp_path / "before", tmp_path / "after"):
        archive(Files(str(folder / "archive")), whole)
    files = Files(str(tmp_path / "after" / "archive"))
    put(files, [record(one, offset, weeks_later, KLINE_REPAIRS) for offset, one in enumerate(hole)])
    put(files, [history("BTCUSDT", FROM + 2 * MINUTE_MS, 1, HistoryReason.CORRECTION, (weeks_later, 0))])
    put(files, [history("ETHUSDT", weeks_later - 9 * MINUTE_MS, 9, HistoryReason.START, (weeks_later, 0))])
    assert [told.history.symbol for told in history_of(files, SYMBOLS, FROM, TO, live=False)] == ["BTCUSDT"]
    runs.features(request(tmp_path / "after", "final"), 1)
    assert sum(row[-1] > 0 for row in read(tmp_path / "after").values()) == 80
    corrected = reading.candles(tmp_path / "after" / "out", "1m").filter(pl.col("revision") > 0).collect()
    assert (corrected["symbol"].to_list(), corrected["open_time_ms"].to_list()) == (["BTCUSDT"], [FROM + 2 * MINUTE_MS])
    runs.features(request(tmp_path / "after", out=str(tmp_path / "live" / "out")), 1)
    runs.features(request(tmp_path / "before", out=str(tmp_path / "once" / "out")), 1)
    assert read(tmp_path / "live") == read(tmp_path / "once")
    assert candle_rows(tmp_path / "live") == candle_rows(tmp_path / "once")


def test_imported_klines_come_before_the_feed_and_fill_it_as_of_final(tmp_path: Path) -> None:
    klines = [one for one in feed() if one.symbol == "ETHUSDT"]
    early = [second("ETHUSDT", FROM + at * SECOND_MS) for at in range(-240, 300)]
    files = Files(str(tmp_path / "archive"))
    archive(files, [one for one in klines if one.open_time_ms >= FROM + 100 * SECOND_MS])
    bring(files, early)
    runs.features(request(tmp_path), 1)
    table = reading.windows(tmp_path / "out").sort("open_time_ms").collect()
    assert table["open_time_ms"][0] == FROM
    assert table.filter(pl.col("open_time_ms") < FROM + 100 * SECOND_MS)["known_ms"].to_list() == [
        FROM + at * SECOND_MS + 999 for at in range(100)
    ]
    assert table.height == 24 * 60 - 90
    runs.features(request(tmp_path, "final", out=str(tmp_path / "final")), 1)
    assert reading.windows(tmp_path / "final").collect().height == 24 * 60


def test_nothing_of_the_future_changes_a_row(tmp_path: Path) -> None:
    """With all that was published after a time changed or gone, the rows known by then are the same."""
    at, klines = MIDNIGHT + 90 * SECOND_MS, feed()
    past = [one for one in klines if one.close_time_ms + LATE_MS <= at]
    changed = [second(one.symbol, one.open_time_ms, 999) for one in klines[len(past) :] if one.open_time_ms % 7000]
    for name, mine in (("one", klines), ("other", [*past, *changed])):
        files = Files(str(tmp_path / name / "archive"))
        archive(files, mine)
        told_of(files)
        runs.features(request(tmp_path / name), 1)

    def known(name: str, table: Callable[[Path], pl.LazyFrame]) -> pl.DataFrame:
        return table(tmp_path / name / "out").filter(pl.col("known_ms") <= at).sort(pl.all()).collect()

    for table in (reading.windows, reading.candles, lambda out: reading.known(out, "1m")):
        one, other = known("one", table), known("other", table)
        assert one.height > 0
        assert one.equals(other)


def test_a_window_meets_the_newest_candle_that_was_known(tmp_path: Path) -> None:
    archive(Files(str(tmp_path / "archive")), feed())
    runs.features(request(tmp_path), 1)
    joined = reading.known(tmp_path / "out", "1m").filter(pl.col("symbol") == "BTCUSDT").sort("open_time_ms").collect()
    opened, candle = joined["open_time_ms"].to_list(), joined["1m_open_time_ms"].to_list()
    # The window of a minute's last second is known with the candle that it closes.
    assert candle == [None] * 59 + [(each + SECOND_MS) // MINUTE_MS * MINUTE_MS - MINUTE_MS for each in opened[59:]]
    assert (joined["1m_known_ms"].drop_nulls() <= joined["known_ms"][59:]).all()
    assert reading.dataset(tmp_path / "out", "windows").count_rows() == reading.windows(tmp_path / "out").collect().height


RUN = """
import os
import signal
import sys
from pathlib import Path
from klinestream.market.intervals import MINUTE_MS
from klinestream.replay.features import run as runs
from tests.unit.test_replay_features import request
runs._SLICES_MS = (MINUTE_MS,)

def told(done, of):
    print(done, flush=True)
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

runs.features(request(Path(sys.argv[1]), "final"), 1, told)
"""
KILLED_AT, NEVER = "30", "-1"


def test_a_killed_run_goes_on_and_gives_the_same_files(tmp_path: Path) -> None:
    """Killed in the middle of it, the same command does what is left: the same files, byte for byte, as in one go."""
    for name in ("killed", "whole"):
        files = Files(str(tmp_path / name / "archive"))
        archive(files, feed())
        archive(files, repairs(), KLINE_REPAIRS)
        told_of(files)

    def run(name: str, until: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", RUN, str(tmp_path / name), until], capture_output=True, text=True, check=False)

    # By itself, so that it is never quicker than who kills it.
    assert run("killed", KILLED_AT).returncode == -signal.SIGKILL
    with pytest.raises(ConfigError, match="aren't finished"):
        reading.windows(tmp_path / "killed" / "out")
    again = run("killed", NEVER)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.split()[0]) >= int(KILLED_AT)
    assert run("whole", NEVER).returncode == 0
    one, other = (orjson.loads((tmp_path / name / "out" / "_features.json").read_bytes()) for name in ("killed", "whole"))
    assert one["files"] == other["files"]
    assert one["complete"]
    for each in one["files"]:
        assert (tmp_path / "killed" / "out" / each["file"]).read_bytes() == (tmp_path / "whole" / "out" / each["file"]).read_bytes()


def test_processes_do_not_matter(tmp_path: Path) -> None:
    """Two processes give the rows that one gives; a finished folder isn't computed again."""
    archive(Files(str(tmp_path / "archive")), feed())
    one = request(tmp_path)
    two = request(tmp_path, out=str(tmp_path / "two"))
    runs.features(one, 1)
    told = runs.features(two, 2)
    for table in (reading.windows, reading.candles):
        mine, theirs = (table(folder).sort("symbol", "open_time_ms", "known_ms").collect() for folder in (one.out, two.out))
        assert mine.equals(theirs)
    assert runs.features(two, 2, lambda *_: pytest.fail("computed again")) == told


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    """Each with what was expected."""
    archive(Files(str(tmp_path / "archive")), feed()[:100])
    runs.features(request(tmp_path, to_ms=FROM + MINUTE_MS), 1)
    with pytest.raises(ConfigError, match=r"holds features of another request \(as_of differs\)"):
        runs.features(request(tmp_path, "final", to_ms=FROM + MINUTE_MS), 1)
    with pytest.raises(ConfigError, match="settings, fingerprint differs"):
        runs.features(request(tmp_path, to_ms=FROM + MINUTE_MS, windows=WindowSettings(rsi_period=7)), 1)
    for wrong, said in (
        ({"set": "all"}, "--set: expected basic"),
        ({"as_of": "now"}, "--as-of: expected live or final"),
        ({"to_ms": FROM}, "from an earlier to a later time"),
        ({"from_ms": FROM + 1}, "whole seconds"),
        ({"symbols": ()}, "--symbols: expected symbols that the archive has"),
        ({"windows": WindowSettings(2500, 500)}, "hold the same klines"),
    ):
        with pytest.raises(ConfigError, match=said):
            request(tmp_path, **wrong)
    with pytest.raises(ConfigError, match=r"found no _features\.json"):
        reading.windows(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--jobs: expected 1 or more"):
        runs.jobs_of(0)


def test_the_command_computes_what_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns of symbols, times as people write them; an error of ours where there is nothing."""
    archive(Files(str(tmp_path / "archive")), feed()[:2000])
    monkeypatch.setenv("KLINESTREAM_ARCHIVE__URL", str(tmp_path / "archive"))
    monkeypatch.chdir(tmp_path)
    span = ["--from", "2023-11-13T23:50", "--to", "2023-11-13T23:53", "--out", "out", "--jobs", "1"]
    said = CliRunner().invoke(app, ["replay", "features", "--symbols", "btc*,ETHUSDT", *span])
    assert said.exit_code == 0, said.output
    assert "360 seconds and 6 candles of 2 symbols in out" in said.stdout
    assert reading.manifest("out")["symbols"] == ["BTCUSDT", "ETHUSDT"]
    nothing = CliRunner().invoke(app, ["replay", "features", "--symbols", "DOGE*", *span])
    assert isinstance(nothing.exception, ConfigError)


def test_no_more_is_held_than_a_slice_and_a_file(tmp_path: Path) -> None:
    """However long the span is: what waits for the next slice is no more than one file of each partition gave."""
    files = Files(str(tmp_path / "archive"))
    archive(files, [one for one in feed() if one.open_time_ms >= FROM], file_rows=100)
    reading = Feed(KlineArchive(files, with_ids=False), SYMBOLS, FROM, TO)
    held = 0
    for from_ms in range(FROM, TO, MINUTE_MS):
        held += len(reading.until(from_ms, from_ms + MINUTE_MS))
        assert reading.waiting <= 100 * 3
    assert held == len(rows_of(live_windows([one for one in feed() if one.open_time_ms >= FROM])))
