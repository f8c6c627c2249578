"""Feature rows as a map-style dataset: windows of a symbol's last rows, and their labels.

    rows of a symbol  ·──r1──r2──r3──r4──┊hole┊──r6──r7──r8
    windows of 3        [r1──r2──r3]
                            [r2──r3──r4]
                                              [r6──r7──r8]       none reaches over a hole

`torch.utils.data.DataLoader` takes it as it is: it has a length and gives a pair of numpy arrays for each number. Nothing here
imports torch.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from klinestream.market.decimals import Ints
from klinestream.market.errors import ConfigError
from klinestream.market.intervals import INTERVALS
from klinestream.replay.features.labels import runs

WINDOW_MOST = 10_000  # rows


class WindowedRows:
    """Windows of `length` rows of a symbol without a hole, all of whose features are known, that end with known labels."""

    def __init__(self, rows: pl.DataFrame, interval: str, features: Sequence[str], labels: Sequence[str], length: int = 1) -> None:
        """`rows` as `with_labels` gives them, of one interval. Raises ConfigError for columns that lack and lengths that can't be."""
        lacking = [name for name in ("symbol", "open_time_ms", *features, *labels) if name not in rows.columns]
        if lacking or not features:
            raise ConfigError(f"dataset: expected columns of the rows, at least one feature, got {', '.join(lacking) or 'none'}")
        if not 1 <= length <= WINDOW_MOST:
            raise ConfigError(f"dataset: expected windows of 1 to {WINDOW_MOST:,} rows, got {length}")
        chosen = rows.sort("symbol", "open_time_ms")
        self.features, self.labels, self.length = tuple(features), tuple(labels), length
        self._values = _matrix(chosen, self.features)
        self._labels = _matrix(chosen, self.labels)
        self._ends = _ends(runs(chosen, INTERVALS[interval]), np.isfinite(self._values).all(axis=1), length)
        self._ends = self._ends[np.isfinite(self._labels[self._ends]).all(axis=1)]
        self._rows = chosen.select("symbol", "open_time_ms")

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self._ends)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Window (length, features), oldest row first, and labels (labels,), of its last row. Raises IndexError."""
        end = int(self._ends[number]) + 1
        return self._values[end - self.length : end].astype(np.float32), self._labels[end - 1].astype(np.float32)

    def rows(self) -> pl.DataFrame:
        """Symbol and open time of each window's last row, window by window."""
        return self._rows[self._ends]


def _ends(run: Ints, known: npt.NDArray[np.bool_], length: int) -> Ints:
    """The rows that so many known rows of one run end with."""
    unknown = np.cumsum(np.append(0, ~known | (run < 0)))
    last = np.arange(length - 1, len(run))
    whole = (run[last] == run[last - length + 1]) & (unknown[last + 1] == unknown[last - length + 1])
    ends: Ints = last[whole]
    return ends


def _matrix(rows: pl.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    if not names:
        return np.zeros((rows.height, 0))
    return np.column_stack([rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names])
