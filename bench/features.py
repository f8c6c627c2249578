"""Features from an archive: windows a second on all cores, memory, how cost grows, and what pandas and polars take for the same columns.

The archive holds an hour of 1 s klines of 1,400 symbols of the seeded market, written straight as files. Everything that is timed is a
process of its own, from its start to its end.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psutil

from bench import features_archive
from bench.market import SEED, SYMBOLS
from bench.report import Report
from klinestream.replay.features import reading

_START_MS = 1_790_000_000_000 // 3_600_000 * 3_600_000
_HOUR_S = 3600
_SLICE_S = 900
_FEWER = (100, 400)
_ROUNDS = 3
_WATCHED_S = 0.05
_AGREES = 1e-6  # of all but one in a thousand: running sums of floats carry rounding along
_SHARES = {"rsi": 0.98}  # which is all that an RSI is made of where the price stands still
_WINDOWS_A_KLINE = 2


@dataclass(frozen=True)
class _Taken:
    """What a command took."""

    seconds: float
    cpu_s: float
    peak_mb: float


def measure(report: Report, folder: Path) -> None:
    """Windows a second over an hour and less, few symbols and many; then next to pandas and polars."""
    for name, seconds in (("hour", _HOUR_S), ("quarter", _SLICE_S)):
        features_archive.write(folder / name, SEED, SYMBOLS, _START_MS, seconds)
    hour = [_features(folder, "hour", _HOUR_S) for _ in range(_ROUNDS)]
    quarter = [_features(folder, "quarter", _SLICE_S) for _ in range(_ROUNDS)]
    _told(report, f"{SYMBOLS:,} symbols, an hour", hour, SYMBOLS * _HOUR_S)
    _told(report, f"{SYMBOLS:,} symbols, a quarter of an hour", quarter, SYMBOLS * _SLICE_S)
    long, short = _median(hour).seconds, _median(quarter).seconds
    rate = _WINDOWS_A_KLINE * SYMBOLS * (_HOUR_S - _SLICE_S) / (long - short)
    report.row("each further hour", s=round((long - short) * _HOUR_S / (_HOUR_S - _SLICE_S), 2), million_windows_s=round(rate / 1e6, 2))
    for symbols in _FEWER:
        features_archive.write(folder / f"few-{symbols}", SEED, symbols, _START_MS, _HOUR_S)
        _told(report, f"{symbols:,} symbols, an hour", [_features(folder, f"few-{symbols}", _HOUR_S)], symbols * _HOUR_S)
    _rivals(report, folder)
    report.note("everything from a process's start to its end; peak is the sum over all processes, sampled every 50 ms")


def _rivals(report: Report, folder: Path) -> None:
    taken: dict[str, list[_Taken]] = {"klinestream": [], "pandas": [], "polars": []}
    for turn in range(_ROUNDS):
        for name, found in taken.items():
            out = folder / f"{name}.parquet"
            command = [sys.executable, "-m", "bench.features_rivals", name, str(folder / "quarter"), str(out)]
            found.append(_features(folder, "quarter", _SLICE_S) if name == "klinestream" else _run(command, {}))
            if turn == 0 and name != "klinestream":
                _agree(folder / "out", out)
    ours = _median(taken["klinestream"])
    for name, found in taken.items():
        median = _median(found)
        ratios = [theirs.seconds / mine.seconds for theirs, mine in zip(found, taken["klinestream"], strict=True)]
        report.row(
            f"a quarter of an hour, {name}",
            s=round(median.seconds, 2),
            cpu_s=round(median.cpu_s, 2),
            peak_mb=round(median.peak_mb),
            ratio=round(median.seconds / ours.seconds, 2),
            least=round(min(ratios), 2),
            most=round(max(ratios), 2),
        )


def _agree(ours: Path, theirs: Path) -> None:
    """The same rows with the same values, RSI in points."""
    keys, values = ["symbol", "open_time_ms"], ["close", "average_price", "low", "high", "volume", "points", "rsi"]
    mine = reading.windows(ours).select(*keys, *values).sort(keys).collect()
    other = pl.read_parquet(theirs).select(*keys, *values).fill_nan(None).sort(keys)
    assert mine.select(keys).equals(other.select(keys)), "expected the same rows"
    for name in values:
        both = pl.DataFrame({"mine": mine[name], "other": other[name]}).drop_nulls()
        off = (both["mine"] - both["other"]).abs()
        if name == "rsi":
            off = off.filter(both["mine"] != 50)  # a flat series: TA-Lib says 0
        else:
            off /= both["mine"].abs().clip(lower_bound=1e-3)
        assert float(off.quantile(_SHARES.get(name, 0.999)) or 0) < _AGREES, f"{name} differs: {off.max()}"


def _features(folder: Path, archive: str, seconds: int) -> _Taken:
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    span = [datetime.fromtimestamp(_START_MS // 1000 + at, UTC).strftime("%Y-%m-%dT%H:%M:%S") for at in (0, seconds)]
    command = [sys.executable, "-m", "klinestream.cli.main", "replay", "features", "--from", span[0], "--to", span[1], "--out", str(out)]
    return _run(command, {"KLINESTREAM_ARCHIVE__URL": str(folder / archive)})


def _run(command: list[str], environment: dict[str, str]) -> _Taken:
    began = time.perf_counter()
    running = psutil.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak, spent = 0.0, dict[int, float]()
    while running.poll() is None:
        held = 0.0
        for process in (running, *_children(running)):
            try:
                held += process.memory_info().rss
                spent[process.pid] = sum(process.cpu_times()[:2])
            except psutil.Error:
                continue
        peak = max(peak, held)
        time.sleep(_WATCHED_S)
    seconds = time.perf_counter() - began
    assert running.returncode == 0, command
    return _Taken(seconds, sum(spent.values()), peak / 1e6)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _told(report: Report, what: str, taken: list[_Taken], klines: int) -> None:
    median = _median(taken)
    report.row(
        what,
        s=round(median.seconds, 2),
        cpu_s=round(median.cpu_s, 2),
        million_windows_s=round(_WINDOWS_A_KLINE * klines / median.seconds / 1e6, 2),
        peak_mb=round(max(each.peak_mb for each in taken)),
    )


def _median(taken: list[_Taken]) -> _Taken:
    return sorted(taken, key=lambda each: each.seconds)[len(taken) // 2]
