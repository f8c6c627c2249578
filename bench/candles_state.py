"""What the candles operator writes to its state: a value that has changed is pickled whole, so that sizes are what counts."""

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.candles_scale import Scale, seconds
from bench.report import Report
from klinestream.market.aggregates import KeptMinutes
from klinestream.market.candle_engine import CandleEngine, CandleSettings, CandleState
from klinestream.market.candles import BEGAN, HEIGHT
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import KLINES

_START_MS = 1_790_000_040_000  # the start of a minute
_SECONDS = 120
_WAITED = 60
_ROUNDS = 20


def measure(report: Report, _folder: Path, scale: Scale) -> None:
    """Sizes at one partition's share of the symbols."""
    symbols = scale.symbols // KLINES.partitions
    day = KeptMinutes()
    engine = CandleEngine(CandleSettings(history=0), CandleState(day=day))
    for batch in seconds(_START_MS, _SECONDS, symbols):
        engine.step(batch)
    minute, longer = _row(report, "minutes", engine.builder.minutes), _row(report, "longer", engine.builder.longer)
    chain = _row(report, "one interval's chain", engine.chains["1m"].state)
    slot = _row(report, "one slot of the day", day[min(day)])
    _row(report, "names", engine.names)
    intervals = len(engine.chains)
    for what, written in (
        ("state: a batch of klines writes", minute),
        ("state: a batch with the end of a minute writes", minute + longer + chain + slot),
        ("state: a batch with the end of all intervals writes", minute + longer + intervals * chain + slot),
        ("state: a partition's checkpoint, its day full", minute + longer + intervals * chain + 1440 * slot),
    ):
        report.row(what, bytes=written)
    _waiting(report, symbols)
    report.note(f"state: pickled sizes at {symbols:,} symbols, one partition's share; what changes is written whole, once a batch")


def _row(report: Report, what: str, value: Any) -> int:
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        written = len(pickle.dumps(value))
    report.row(f"state: {what}", bytes=written, pickled_ms=round((time.perf_counter() - began) / _ROUNDS * 1000, 3))
    return written


def _waiting(report: Report, symbols: int) -> None:
    """The chain of an interval whose symbols all wait for the exchange's own candles."""
    chain, columns = CandleEngine(CandleSettings()).chains["1m"], np.arange(symbols)
    chain.grow(symbols)
    for minute in range(_WAITED):
        table = np.ones((HEIGHT, symbols), np.int64)
        table[BEGAN] = _START_MS + minute * MINUTE_MS
        chain.live(columns, table)
        chain.state.live.last[columns] = table[BEGAN]
    _row(report, f"one interval's chain whose symbols all wait for history since {_WAITED} candles", chain.state)
