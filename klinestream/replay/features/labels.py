"""Labels of feature rows: what came after a row, in columns of their own that name how far they look. Pure.

    closes    ·───c0───c1───c2───c3───c4───c5──┊hole┊──c7───c8
    return_3m     ├────────────►│                              ln(c3 / c0): there
                                ├───────────────┊ …            null: the hole lies in it
                                                  ├──────── …  null: it isn't over yet

A label is computed for each symbol by itself, from closes alone. It is null where its horizon isn't wholly there or a hole lies in
it; a candle that lacks klines (`complete` is false) is a hole. So a label depends on the closes up to its horizon's end and on
nothing else, and it is never part of a feature: columns that name a horizon look ahead, and no others do.

Sources: log return: Campbell, Lo and MacKinlay, The Econometrics of Financial Markets (1997), 1.4. Triple barrier: López de Prado,
Advances in Financial Machine Learning (2018), 3.4 and snippet 3.2: two barriers at a multiple of the volatility and one at the
horizon; the label is the side that a close touches first, and 0 where none does.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError
from klinestream.market.indicators.volatility import log_ratio
from klinestream.market.intervals import HOUR_MS, INTERVALS, MINUTE_MS

HORIZON_MOST = 10_000  # candles: a week of minutes; each one more is a pass over all rows

_UNITS_MS = {"m": MINUTE_MS, "h": HOUR_MS, "d": 24 * HOUR_MS}


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far labels look ahead: a number of candles of an interval, under the name that was asked for."""

    name: str
    steps: int
    interval_ms: int

    @property
    def span_ms(self) -> int:
        """From a row's close to the end of what its labels look at."""
        return self.steps * self.interval_ms

    @classmethod
    def of(cls, name: str, interval: str) -> "Horizon":
        """A horizon such as 10m, 4h or 1d over candles of an interval. Raises ConfigError.

        >>> Horizon.of("10m", "5m")
        Horizon(name='10m', steps=2, interval_ms=300000)
        """
        if interval not in INTERVALS:
            raise ConfigError(f"interval: expected one of {', '.join(INTERVALS)}, got {interval!r}")
        length_ms = INTERVALS[interval]
        number, unit = name[:-1], name[-1:]
        span_ms = int(number) * _UNITS_MS[unit] if unit in _UNITS_MS and number.isascii() and number.isdecimal() else 0
        if not span_ms or span_ms % length_ms or span_ms // length_ms > HORIZON_MOST:
            raise ConfigError(
                f"horizon: expected a multiple of {interval} up to {HORIZON_MOST:,} candles, such as 10m, 4h or 1d, got {name!r}"
            )
        return cls(name, span_ms // length_ms, length_ms)


@dataclass(frozen=True, slots=True)
class Barriers:
    """How far the two barriers stand from a row's close, as log returns.

    `width` times the volatility that the row's own column `volatility` tells, scaled to the horizon by the square root of time; or
    `width` itself where `volatility` is None.
    """

    width: float = 1.0
    volatility: str | None = "volatility_20"

    def __post_init__(self) -> None:
        if not 0 < self.width < math.inf:
            raise ConfigError(f"barriers: expected a width above 0, got {self.width}: 1 is one standard deviation")

    def of(self, rows: pl.DataFrame, horizon: Horizon) -> Floats:
        """The width of each row; nan where the volatility isn't known. Raises ConfigError where its column lacks."""
        if self.volatility is None:
            return np.full(rows.height, self.width)
        if self.volatility not in rows.columns:
            raise ConfigError(f"barriers: expected a column {self.volatility}, got none: name one of indicators.volatility, or fix a width")
        # That of a window of so many returns, not of one: see klinestream.market.indicators.volatility.
        period = int(self.volatility.rpartition("_")[2])
        return _column(rows, self.volatility) * (self.width * math.sqrt(horizon.steps / period))


def with_labels(rows: pl.DataFrame, horizons: Iterable[Horizon], barriers: Barriers | None = None) -> pl.DataFrame:
    """Rows by symbol and time with `return_H`, `barrier_H` and `barrier_H_touched_ms` of each horizon H behind their columns.

    `rows` are those of one interval, each symbol and open time once; they need symbol, open_time_ms, close_time_ms and close, and
    `complete` where candles may lack klines. `barrier_H_touched_ms` is the close time of the candle that touched a barrier, or of
    the horizon's last one. Raises ConfigError where the rows aren't of the horizons' interval.
    """
    chosen = rows.sort("symbol", "open_time_ms")
    found: list[pl.Series] = []
    for horizon in horizons:
        run = runs(chosen, horizon.interval_ms)
        ahead = _ahead(run, horizon.steps)
        closes = np.where(ahead >= 0, _column(chosen, "close"), np.nan)
        final = log_ratio(_at(_column(chosen, "close"), ahead), closes)
        found.append(pl.Series(f"return_{horizon.name}", final).fill_nan(None))
        if barriers is not None:
            found += _barrier(chosen, horizon, ahead, barriers.of(chosen, horizon))
    return chosen.with_columns(found)


def label_names(horizon: Horizon) -> tuple[str, str, str]:
    """The columns of a horizon.

    >>> label_names(Horizon.of("10m", "1m"))
    ('return_10m', 'barrier_10m', 'barrier_10m_touched_ms')
    """
    return f"return_{horizon.name}", f"barrier_{horizon.name}", f"barrier_{horizon.name}_touched_ms"


def runs(rows: pl.DataFrame, interval_ms: int) -> Ints:
    """A number for each row, of rows by symbol and time: the same for those that follow each other without a hole; -1 in a hole.

    Raises ConfigError where they aren't candles of that length, each symbol and time once.
    """
    opened = rows["open_time_ms"].to_numpy().astype(np.int64)
    whole = rows["complete"].to_numpy() if "complete" in rows.columns else np.ones(rows.height, np.bool_)
    same = np.zeros(rows.height, np.bool_)
    same[1:] = (rows["symbol"] == rows["symbol"].shift(1)).fill_null(value=False).to_numpy()[1:]
    step = np.diff(opened, prepend=opened[:1])
    if np.any(same & (step < interval_ms)) or np.any(opened % interval_ms):
        raise ConfigError(
            f"rows: expected candles of {interval_ms // 1000} s, each symbol and time once, but some stand closer together: "
            "choose the rows of one interval, and of each time the one that counts"
        )
    follows = same & (step == interval_ms)
    follows[1:] &= whole[:-1]
    return np.where(whole, np.cumsum(~(follows & whole)), -1)


def _ahead(run: Ints, steps: int) -> Ints:
    """The row so many candles later in the same run, -1 where there is none."""
    rows = np.arange(len(run))
    later = rows + steps
    inside = later < len(run)
    there = np.zeros(len(run), np.bool_)
    # A run has every candle, so what is so many rows on in the same run is as many candles on.
    there[inside] = (run[inside] == run[later[inside]]) & (run[inside] >= 0)
    return np.where(there, later, -1)


def _barrier(rows: pl.DataFrame, horizon: Horizon, ahead: Ints, width: Floats) -> list[pl.Series]:
    _, side_name, touched_name = label_names(horizon)
    close, closed = _column(rows, "close"), rows["close_time_ms"].to_numpy().astype(np.int64)
    begun = np.flatnonzero((ahead >= 0) & np.isfinite(width))
    side, touched = np.zeros(rows.height, np.int8), np.where(ahead >= 0, closed[ahead], 0)
    left = begun
    for step in range(1, horizon.steps + 1):
        change = log_ratio(close[left + step], close[left])
        hit = (np.abs(change) >= width[left]) & (change != 0)  # where nothing moved the barriers lie upon the close
        side[left[hit]] = np.sign(change[hit])
        touched[left[hit]] = closed[left[hit] + step]
        left = left[~hit]
    known = np.zeros(rows.height, np.bool_)
    known[begun] = True
    table = pl.DataFrame({side_name: side, touched_name: touched, "known": known})
    return [table.select(pl.when(pl.col("known")).then(pl.col(name)))[name] for name in (side_name, touched_name)]


def _column(rows: pl.DataFrame, name: str) -> Floats:
    return rows[name].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _at(values: Floats, places: npt.NDArray[np.int64]) -> Floats:
    return np.where(places >= 0, values[places], np.nan)
