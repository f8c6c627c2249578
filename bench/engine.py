"""The engine alone, in one thread: what a kline costs in Python, and what each feature adds to it.

Each feature is switched off in turn by replacing the function that does it; what is then saved is its cost.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.market import SYMBOLS, lines
from bench.report import Report
from klinestream.market import batch, decimals
from klinestream.market.batch import KlineBatch
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.lines import window_lines
from klinestream.market.windows import WindowEngine, WindowSettings

_SECONDS = 120
_START_MS = 1_790_000_000_000
_ROUNDS = 5

Timings = dict[str, float]


def measure(report: Report, _folder: Path) -> None:
    """µs a kline, whole and without each feature; the median of some rounds, in turn."""
    feed = list(lines(_START_MS, _SECONDS))
    texts, times = [line for _, _, line in feed], [closed for _, closed, _ in feed]
    variants: dict[str, list[tuple[Any, str, Callable[..., Any]]]] = {
        "everything": [],
        "without strict checks (dead letters)": [(batch, "_check", lambda *_: None), (batch, "_require", lambda *_: None)],
        "without dedupe": [
            (KlineBatch, "content", lambda klines: np.zeros(len(klines), np.uint64)),
            (WindowEngine, "_remember", lambda *_: None),
        ],
        "without RSI": [(Rsi, "update", lambda _self, _state, columns, _values: (np.full(len(columns), np.nan), columns < 0))],
        "without volumes (four fields fewer)": [(decimals, "columns", _prices_only(decimals.columns))],
        "without text out": [],
    }
    found: dict[str, list[Timings]] = {name: [] for name in variants}
    for _ in range(_ROUNDS):
        for name, patches in variants.items():
            with patched(patches):
                found[name].append(run(texts, times, write=name != "without text out"))
    whole = _median(found["everything"])
    for name, timings in found.items():
        median = _median(timings)
        total = sum(median.values())
        report.row(
            name,
            us_a_kline=round(total, 2),
            of_everything=f"{total / sum(whole.values()):.0%}",
            **{k: round(v, 2) for k, v in median.items()},
        )
    report.note(f"{len(texts):,} klines of {SYMBOLS:,} symbols, batches of a second; parse, step and write are µs a kline")


def run(texts: list[bytes], times: list[int], *, write: bool) -> Timings:
    """One pass over the feed: µs a kline by stage."""
    engine = WindowEngine(WindowSettings())
    spent = {"parse": 0.0, "step": 0.0, "write": 0.0}
    for start in range(0, len(texts), SYMBOLS):
        began = time.perf_counter()
        klines, _, bad = batch.decode(texts[start : start + SYMBOLS], times[start : start + SYMBOLS])
        parsed = time.perf_counter()
        step = engine.step(klines)
        stepped = time.perf_counter()
        if write:
            "\n".join(line for rows in step.windows for line in window_lines(rows))
        spent["parse"] += parsed - began
        spent["step"] += stepped - parsed
        spent["write"] += time.perf_counter() - stepped
        if bad:
            raise AssertionError(f"expected a clean feed, got {bad[0]}")
    return {stage: seconds / len(texts) * 1e6 for stage, seconds in spent.items()}


@contextmanager
def patched(patches: list[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Functions replaced for a while."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, function in patches:
        setattr(owner, name, function)
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def _prices_only(columns: Callable[..., Any]) -> Callable[..., Any]:
    def half(texts: list[str], width: int) -> tuple[decimals.Ints, decimals.Ints]:
        whole, remainder = columns(texts[: len(texts) // 2], width // 2)
        nothing = np.zeros_like(whole)
        return np.concatenate([whole, nothing]), np.concatenate([remainder, nothing])

    return half


def _median(timings: list[Timings]) -> Timings:
    return {stage: float(np.median([timing[stage] for timing in timings])) for stage in timings[0]}
