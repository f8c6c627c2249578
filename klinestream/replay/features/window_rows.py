"""Rows of the table `windows`: a symbol and second each, with the windows that its kline completes and the minute so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from klinestream.market.block_candles import MinuteSoFar
from klinestream.market.blocks import WindowBlock
from klinestream.market.events import SECOND_MS, Window
from klinestream.replay.features.feed import MINUTE_S

Array = npt.NDArray[Any]

_NUMBERS = ("close", "average_price", "low", "high", "volume", "rsi")
_MINUTE = ("open", "high", "low", "close")

SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("open_time_ms", pa.int64(), nullable=False),
        pa.field("known_ms", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in _NUMBERS[:-1]),
        pa.field("points", pa.int32(), nullable=False),
        pa.field("rsi", pa.float64()),
        pa.field("rsi_ready", pa.bool_(), nullable=False),
        pa.field("since", pa.int64(), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        *(pa.field(f"minute_{name}", pa.float64(), nullable=False) for name in (*_MINUTE, "volume")),
        pa.field("minute_klines", pa.int32(), nullable=False),
    ]
)


class WindowTable:
    """The windows of a slice, filled minute by minute: arrays (symbols, minutes, 60)."""

    def __init__(self, symbols: Sequence[str], from_ms: int, minutes: int) -> None:
        self.symbols, self.from_ms = tuple(symbols), from_ms
        shape = (len(symbols), minutes, MINUTE_S)
        self.there = np.zeros(shape, np.bool_)
        self.ready = np.zeros(shape, np.bool_)
        self.numbers = {name: np.empty(shape) for name in (*_NUMBERS, *(f"minute_{name}" for name in (*_MINUTE, "volume")))}
        self.integers = {name: np.empty(shape, np.int32) for name in ("points", "minute_klines")}
        self.times = {name: np.zeros(shape, np.int64) for name in ("known_ms", "since", "revision")}

    def put(self, minute: int, windows: WindowBlock) -> None:
        """The windows of one minute."""
        self.there[:, minute] = windows.there
        self.ready[:, minute] = windows.rsi_ready
        for name in _NUMBERS:
            self.numbers[name][:, minute] = getattr(windows, name)
        self.integers["points"][:, minute] = windows.points
        self.times["since"][:, minute] = windows.since

    def put_minute(self, minute: int, so_far: MinuteSoFar) -> None:
        """The minute as it stood after each of its seconds."""
        for name in _MINUTE:
            self.numbers[f"minute_{name}"][:, minute] = getattr(so_far, name)
        self.numbers["minute_volume"][:, minute] = so_far.base_volume
        self.integers["minute_klines"][:, minute] = so_far.klines

    def replace(self, at: tuple[int, int, int], window: Window, known_ms: int) -> None:
        """Put a window that a repair publishes again in its place."""
        self.there[at], self.ready[at] = True, window.rsi_ready
        for name in _NUMBERS[:-1]:
            self.numbers[name][at] = getattr(window, name)
        self.numbers["rsi"][at] = np.nan if window.rsi is None else window.rsi
        self.integers["points"][at] = window.points
        self.times["known_ms"][at] = max(int(self.times["known_ms"][at]), known_ms)
        self.times["since"][at], self.times["revision"][at] = window.since_ms, window.revision

    def table(self, from_ms: int, to_ms: int) -> pa.Table:
        """The rows of a span within the slice, by symbol and time."""
        first, end = (min(max(0, (time - self.from_ms) // SECOND_MS), self.there.shape[1] * MINUTE_S) for time in (from_ms, to_ms))
        seconds = slice(first, end)
        there = self._flat(self.there, seconds)
        rows = slice(None) if there.all() else np.flatnonzero(there)
        shape = (len(self.symbols), seconds.stop - seconds.start)
        opened = self.from_ms + SECOND_MS * np.arange(seconds.start, seconds.stop)
        codes = np.broadcast_to(np.arange(len(self.symbols), dtype=np.int32)[:, None], shape).reshape(-1)[rows]
        columns: dict[str, Array] = self.numbers | self.integers | self.times
        found: dict[str, pa.Array] = {name: pa.array(self._flat(column, seconds)[rows]) for name, column in columns.items()}
        found["symbol"] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(self.symbols))
        found["open_time_ms"] = pa.array(np.broadcast_to(opened, shape).reshape(-1)[rows])
        found["rsi"] = pa.array(self._flat(self.numbers["rsi"], seconds)[rows], from_pandas=True)  # nan is null
        found["rsi_ready"] = pa.array(self._flat(self.ready, seconds)[rows])
        return pa.Table.from_arrays([found[field.name] for field in SCHEMA], schema=SCHEMA)

    def _flat(self, column: Array, seconds: slice) -> Array:
        return column.reshape(len(self.symbols), -1)[:, seconds].reshape(-1)
