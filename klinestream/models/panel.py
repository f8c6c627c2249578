"""Feature rows as a panel: arrays by moment and symbol, with labels beside them. Pure.

    symbol, open_time_ms, close, sma_20, sma_20_ready, …  ─►  inputs (moments, symbols, inputs), closes and labels (moments, symbols)

A row counts as known where all indicators that the task names are there and ready, as live.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError
from klinestream.market.indicators.volatility import log_ratio
from klinestream.market.intervals import INTERVALS
from klinestream.models.inputs import model_inputs, usable
from klinestream.models.model import Task
from klinestream.replay.features.labels import Horizon, with_labels

CELLS_MOST = 250_000_000  # 2 GB of inputs

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Panel:
    """Moments are open times without holes between them counted: a moment that no symbol has isn't there."""

    opened: Ints  # (moments,) ms
    symbols: tuple[str, ...]
    inputs: Floats  # (moments, symbols, inputs), nan where unknown
    closes: Floats  # (moments, symbols), nan where there is no row
    labels: Floats  # (moments, symbols): log return up to the horizon, nan where unknown
    task: Task

    @property
    def times(self) -> Ints:
        """Close times of the moments."""
        return self.opened + INTERVALS[self.task.interval] - 1

    @property
    def known(self) -> Bools:
        """Where inputs and label are known, (moments, symbols)."""
        known: Bools = np.isfinite(self.labels) & np.isfinite(self.inputs).all(axis=2)
        return known

    def past(self, steps: int) -> Floats:
        """Log return over the last so many candles, (moments, symbols); nan where it isn't known."""
        found = np.full(self.closes.shape, np.nan)
        length_ms = INTERVALS[self.task.interval]
        earlier = np.searchsorted(self.opened, self.opened - steps * length_ms)
        there = self.opened[earlier] == self.opened - steps * length_ms
        found[there] = log_ratio(self.closes[there], self.closes[earlier[there]])
        return found

    def take(self, moments: Bools | Ints) -> "Panel":
        """Some of its moments, by flags or by places."""
        return Panel(self.opened[moments], self.symbols, self.inputs[moments], self.closes[moments], self.labels[moments], self.task)


def task_of(rows: pl.DataFrame, interval: str, horizon: Horizon) -> Task:
    """The task of forecasting from all indicators of the rows that there is an input of. Raises ConfigError where there are none."""
    indicators = usable(name for name in rows.columns if f"{name}_ready" in rows.columns)
    if not indicators:
        raise ConfigError("features: expected columns of indicators such as sma_20 and sma_20_ready, got none: make the features anew")
    return Task(interval, horizon.name, indicators)


def panel_of(rows: pl.DataFrame, task: Task, symbols: Sequence[str] | None = None) -> Panel:
    """Rows of one interval, each symbol and time once; of those symbols in that order, else of all by name. Raises ConfigError."""
    lacking = [name for each in task.indicators for name in (each, f"{each}_ready") if name not in rows.columns]
    if lacking:
        raise ConfigError(f"features: expected the columns that the model was asked for, but {', '.join(lacking)} aren't there")
    names = tuple(sorted(rows["symbol"].unique()) if symbols is None else symbols)
    chosen = with_labels(rows.filter(pl.col("symbol").is_in(list(names))), [task.ahead])
    opened = np.unique(chosen["open_time_ms"].to_numpy().astype(np.int64))
    shape = len(opened), len(names), len(task.indicators)
    if not chosen.height or np.prod(shape) > CELLS_MOST:
        raise ConfigError(
            f"features: expected rows of some symbols, {CELLS_MOST:,} numbers at most, got {shape[0]:,} times of {shape[1]} symbols "
            f"with {shape[2]} inputs: choose other symbols or times"
        )
    place = np.searchsorted(opened, chosen["open_time_ms"].to_numpy()), _places(chosen["symbol"], names)
    close = chosen["close"].to_numpy().astype(np.float64)
    values = np.column_stack([_ready(chosen, name) for name in task.indicators])
    inputs, closes, labels = np.full(shape, np.nan), np.full(shape[:2], np.nan), np.full(shape[:2], np.nan)
    inputs[place] = model_inputs(task.indicators, close, values)
    closes[place] = close
    labels[place] = chosen[f"return_{task.horizon}"].fill_null(float("nan")).to_numpy()
    return Panel(opened, names, inputs, closes, labels, task)


def _ready(rows: pl.DataFrame, name: str) -> Floats:
    column = rows.select(pl.when(pl.col(f"{name}_ready")).then(pl.col(name)).cast(pl.Float64))
    return column.to_series().fill_null(float("nan")).to_numpy()


def _places(symbols: pl.Series, names: Sequence[str]) -> Ints:
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[symbol] for symbol in symbols], np.int64)
