"""The candles' arithmetic alone, in one thread, and TA-Lib over the same candles with the same settings.

TA-Lib is called symbol by symbol, in three ways: over whole series, which computes each value once; over the last 250 candles
for each one that closes, as live code without state does it; and with its stream handles, which take one candle a call. Handles
can't be pickled, so a job could not save them: after a restart it would have to open them anew on candles from elsewhere.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import talib
from talib import stream

from bench.candles_scale import Scale, seconds
from bench.report import Report
from jobs.candle_operators import outputs
from klinestream.market.batch import KlineBatch
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candles import BEGAN, COUNT
from klinestream.market.decimals import Floats, Ints
from klinestream.market.events import SECOND_MS
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.protocol import Candles
from klinestream.market.intervals import INTERVALS, MINUTE_MS

_MIDNIGHT_MS = 1_790_035_200_000
_SECONDS, _BEFORE = 240, 180  # how many, and how many of them are before midnight
_ROUNDS = 3
_LENGTH = 1000
_LIVE = 250
_MOMENTS = 4
_STREAMED = 100
# What TA-Lib has too.
_COMMON = IndicatorSettings(vwap=(), volatility=(), session_vwap=False)
_RELATIVE = 1e-9
_VALUES, _OBV = 15, 12  # how many, and which one is OBV


def measure(report: Report, _folder: Path, scale: Scale) -> None:
    """The engine over klines, then the indicators over candles."""
    _engine(report, scale.symbols)
    series = Series(scale.symbols)
    _ours(report, series, "TA-Lib's set", _COMMON)
    _ours(report, series, "full set", IndicatorSettings())
    _theirs(report, series)
    report.note(
        "indicators: one thread; TA-Lib's set is SMA, EMA, RSI, MACD, Bollinger bands, ATR, OBV and stochastic; the full set adds the rest"
    )
    report.note(
        f"indicators: TA-Lib over whole series of {_LENGTH:,} candles computes each value once, with all candles there; what is needed "
        f"when a candle has closed is one step for all symbols here, the last {_LIVE} anew or one update of each handle there"
    )


def _engine(report: Report, symbols: int) -> None:
    """ms for one second's klines of all symbols, by what closes with it; the fastest of some rounds."""
    batches = seconds(_MIDNIGHT_MS - _BEFORE * SECOND_MS, _SECONDS, symbols)
    last = np.arange(_SECONDS)
    ends = last % 60 == 59
    for what, settings in (("all", CandleSettings()), ("no provisional candles", CandleSettings(provisional=False))):
        stepped, written, candles, studied = np.min([_run(batches, settings) for _ in range(_ROUNDS)], axis=0)
        whole_s = float(stepped.sum() + written.sum())
        report.row(
            f"engine, {what}: klines in, records out",
            klines_a_second=round(symbols * _SECONDS / whole_s),
            candles_a_second=round(float(candles.sum()) / whole_s),
        )
        for when, place in (
            ("a second within a minute", ~ends),
            ("the end of a minute", ends & (last > 60) & (last != _BEFORE - 1)),  # the first one makes room
            ("midnight, all intervals close", last == _BEFORE - 1),
        ):
            report.row(
                f"engine, {what}: {when}",
                step_ms=round(float(stepped[place].mean()) * 1000, 2),
                text_ms=round(float(written[place].mean()) * 1000, 2),
                indicators=int(studied[place].max()),
            )


def _run(batches: list[KlineBatch], settings: CandleSettings) -> Floats:
    """Of each batch: seconds for the step, seconds for the text, candles closed, indicator records; (4, batches)."""
    engine = CandleEngine(settings)
    found = np.zeros((4, len(batches)))
    for place, batch in enumerate(batches):
        if place == _BEFORE - 60:
            _as_if_from_the_start(engine)
        began = time.perf_counter()
        step = engine.step(batch)
        between = time.perf_counter()
        for lines in outputs(engine, step).values():
            "\n".join(lines)
        found[:2, place] = between - began, time.perf_counter() - between
        found[2:, place] = sum(len(rows.columns) for rows in step.closed), sum(len(rows) for rows in step.studies)
    return found


def _as_if_from_the_start(engine: CandleEngine) -> None:
    """The candles in progress a minute before midnight, as if every kline of the day had come: so that all are whole."""
    for place, interval in enumerate(engine.builder.intervals[1:]):
        length_ms = INTERVALS[interval]
        engine.builder.longer[place][BEGAN] = _MIDNIGHT_MS - length_ms
        engine.builder.longer[place][COUNT] = (length_ms - MINUTE_MS) // SECOND_MS


class Series:
    """Candles of prices that wander: open, high, low, close and volume, each (symbols, candles)."""

    def __init__(self, symbols: int) -> None:
        random = np.random.default_rng(1)
        self.close: Floats = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, (symbols, _LENGTH)), axis=1))
        self.open = np.concatenate([np.full((symbols, 1), 100.0), self.close[:, :-1]], axis=1)
        self.high: Floats = np.maximum(self.open, self.close) * (1 + random.exponential(5e-4, self.close.shape))
        self.low: Floats = np.minimum(self.open, self.close) * (1 - random.exponential(5e-4, self.close.shape))
        self.units: Ints = random.integers(1, 10**6, self.close.shape)
        self.volume = self.units.astype(np.float64)

    @property
    def columns(self) -> tuple[Floats, ...]:
        """What TA-Lib takes: high, low, close, volume."""
        return self.high, self.low, self.close, self.volume

    def moments(self) -> list[Candles]:
        """All symbols' candles of one moment after the other."""
        nothing = np.zeros(len(self.close), np.int64)
        return [
            Candles(
                open_times=np.full(len(self.close), _MIDNIGHT_MS + at * MINUTE_MS),
                open=self.open[:, at].copy(),
                high=self.high[:, at].copy(),
                low=self.low[:, at].copy(),
                close=self.close[:, at].copy(),
                base=np.stack([self.units[:, at], nothing]),
                quote=np.stack([self.units[:, at] * 100, nothing]),
            )
            for at in range(_LENGTH)
        ]


def _ours(report: Report, series: Series, what: str, settings: IndicatorSettings) -> None:
    indicators, moments = IndicatorSet(settings), series.moments()
    columns = np.arange(len(series.close))
    values = np.zeros((0, 0))

    def run() -> None:
        nonlocal values
        state = indicators.init(len(columns))
        for candles in moments:
            values, _ = indicators.update(state, columns, candles)

    spent = _fastest(run)
    if settings is _COMMON:
        _require_same(series, list(values))
    _rate(report, f"{what}: a step for all symbols", spent / series.close.size * 1e6, len(columns), len(indicators.names))


def _rate(report: Report, what: str, us_a_candle: float, symbols: int, values: int = _VALUES) -> None:
    rate, all_ms = round(1e6 / us_a_candle), round(us_a_candle * symbols / 1000, 1)
    report.row(f"indicators, {what}", candles_a_second=rate, us_a_candle=round(us_a_candle, 2), ms_for_all_symbols=all_ms, values=values)


def _theirs(report: Report, series: Series) -> None:
    symbols = len(series.close)
    whole = _fastest(partial(_each, series, [(0, _LENGTH)])) / _LENGTH
    _rate(report, "TA-Lib's set: TA-Lib, whole series", whole / symbols * 1e6, symbols)
    last = [(_LENGTH - _LIVE - moment, _LENGTH - moment) for moment in range(_MOMENTS)]
    anew = _fastest(partial(_each, series, last)) / _MOMENTS
    _rate(report, f"TA-Lib's set: TA-Lib, the last {_LIVE} for each candle", anew / symbols * 1e6, symbols)
    handles = [_Handles(*(column[row, : _LENGTH - _ROUNDS * _STREAMED] for column in series.columns)) for row in range(symbols)]
    moments = iter(range(_LENGTH - _ROUNDS * _STREAMED, _LENGTH))
    values: list[tuple[float, ...]] = []

    def run() -> None:
        for moment in islice(moments, _STREAMED):
            candles = zip(*(column[:, moment].tolist() for column in series.columns), strict=True)
            values[:] = [handle.update(*candle) for handle, candle in zip(handles, candles, strict=True)]

    spent = _fastest(run) / _STREAMED
    _require_same(series, list(map(np.array, zip(*values, strict=True))), obv_from_zero=False)
    _rate(report, "TA-Lib's set: TA-Lib, stream handles, which can't be saved", spent / symbols * 1e6, symbols)


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds: the others were disturbed."""
    spent = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return min(spent)


def _each(series: Series, spans: Sequence[tuple[int, int]]) -> None:
    """A call a symbol, over some spans of its candles."""
    for first, last in spans:
        for row in range(len(series.close)):
            _talib(*(column[row, first:last] for column in series.columns))


def _talib(high: Floats, low: Floats, close: Floats, volume: Floats) -> tuple[Floats, ...]:
    """In the order in which the catalogue has them."""
    return (
        *(talib.SMA(close, period) for period in (20, 50)),
        *(talib.EMA(close, period) for period in (12, 26)),
        talib.RSI(close, 14),
        *talib.MACD(close, 12, 26, 9),
        *talib.BBANDS(close, 20, 2.0, 2.0),
        talib.ATR(high, low, close, 14),
        talib.OBV(close, volume),
        *talib.STOCH(high, low, close, 14, 3, 0, 3, 0),
    )


class _Handles:
    """The same for one symbol, opened on a series, then a candle at a time."""

    def __init__(self, high: Floats, low: Floats, close: Floats, volume: Floats) -> None:
        self._means = [stream.SMA(close, 20), stream.SMA(close, 50), stream.EMA(close, 12), stream.EMA(close, 26), stream.RSI(close, 14)]
        self._macd, self._bands = stream.MACD(close, 12, 26, 9), stream.BBANDS(close, 20, 2.0, 2.0)
        self._atr, self._obv = stream.ATR(high, low, close, 14), stream.OBV(close, volume)
        self._stochastic = stream.STOCH(high, low, close, 14, 3, 0, 3, 0)

    def update(self, high: float, low: float, close: float, volume: float) -> tuple[float, ...]:
        return (
            *(mean.update(close) for mean in self._means),
            *self._macd.update(close),
            *self._bands.update(close),
            self._atr.update(high, low, close),
            self._obv.update(close, volume),
            *self._stochastic.update(high, low, close),
        )


def _require_same(series: Series, found: Sequence[Floats], *, obv_from_zero: bool = True) -> None:
    """Both compute the same, or comparing their speed would say nothing. Our OBV lacks the first candle's volume."""
    for row in {0, len(series.close) // 2, len(series.close) - 1}:
        theirs = [float(values[-1]) for values in _talib(*(column[row] for column in series.columns))]
        ours = [float(values[row]) for values in found]
        if obv_from_zero:
            ours[_OBV] += float(series.volume[row, 0])
        if not np.allclose(ours, theirs, rtol=_RELATIVE, atol=_RELATIVE):
            raise AssertionError(f"expected TA-Lib's values {theirs}, got {ours}")
