"""Indicators next to TA-Lib, and to plain decimal arithmetic where TA-Lib has none."""

import functools
import math
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import talib

from klinestream.market.decimals import UNIT
from klinestream.market.indicators.atr import Atr
from klinestream.market.indicators.bollinger import Bollinger
from klinestream.market.indicators.ema import Ema
from klinestream.market.indicators.macd import Macd
from klinestream.market.indicators.obv import Obv
from klinestream.market.indicators.protocol import Candles, Indicator, batch
from klinestream.market.indicators.rsi import RsiOfCloses
from klinestream.market.indicators.sma import Sma
from klinestream.market.indicators.smoothing import SEED_WEIGHT
from klinestream.market.indicators.stochastic import Stochastic
from klinestream.market.indicators.volatility import Volatility
from klinestream.market.indicators.vwap import DAY_MS, MINUTE_MS, SessionVwap, Vwap
from klinestream.standin.intervals import INTERVALS
from klinestream.standin.recorded import RecordedMarket

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
END_MS = 1_723_161_905_000
FIRST_MIDNIGHT_MS = 1_723_161_600_000

Row = tuple[int, float, float, float, float, int, int]  # open time, prices, volumes in 1e-8


def columns(series: list[list[Row]]) -> list[Candles]:
    """Series of the same length, one a column, as candles side by side."""
    moments = []
    for rows in zip(*series, strict=True):
        times, *prices, base, quote = zip(*rows, strict=True)
        parts = [np.array([divmod(volume, UNIT) for volume in volumes], np.int64).T for volumes in (base, quote)]
        moments.append(Candles(np.array(times, np.int64), *map(np.array, prices), *parts))
    return moments


def walk(seed: int, length: int) -> list[Row]:
    """Minutes of a price that wanders, from 10:00 of a day; every fifth one without trades."""
    random = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, length)))
    opens = np.append(100.0, closes[:-1])
    wicks = random.exponential(5e-4, (2, length))
    highs, lows = np.maximum(opens, closes) * (1 + wicks[0]), np.minimum(opens, closes) * (1 - wicks[1])
    base = random.integers(1, 10**13, length) * (random.random(length) > 0.2)
    quote = [int(volume * close) for volume, close in zip(base.tolist(), closes.tolist(), strict=True)]
    times = range(FIRST_MIDNIGHT_MS + 600 * MINUTE_MS, FIRST_MIDNIGHT_MS + (600 + length) * MINUTE_MS, MINUTE_MS)
    return list(zip(times, *(prices.tolist() for prices in (opens, highs, lows, closes)), base.tolist(), quote, strict=True))


@functools.cache
def walks() -> list[Candles]:
    return columns([walk(seed, 1000) for seed in range(6)])


@functools.cache
def recorded() -> list[Candles]:
    """The recorded trades of BTCUSDT and ETHUSDT as 1 s candles, from 23:54:16 to 00:05:04."""
    if not FRAMES.is_dir():
        pytest.skip(f"the recorded frames are not at {FRAMES}")
    market = RecordedMarket(FRAMES, 0, retime=False)
    series = []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        found = market.candles(symbol, INTERVALS["1s"], 0, END_MS * 2, END_MS * 2)
        prices = [(candle.open / UNIT, candle.high / UNIT, candle.low / UNIT, candle.close / UNIT) for candle in found]
        series.append([(c.open_time_ms, *p, c.base_volume, c.quote_volume) for c, p in zip(found, prices, strict=True)])
    return columns(series)


SOURCES = pytest.mark.parametrize("source", [walks, recorded])


def of(candles: list[Candles], field: str) -> np.ndarray:
    """One field of all candles, (columns, moments)."""
    return np.array([getattr(each, field) for each in candles]).T.copy()


def close_to(ours: np.ndarray, theirs: np.ndarray, scale: float) -> None:
    """Equal to 1e-9, relative to the value itself or, for differences, to a thousandth of what they are differences of."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12 * scale, equal_nan=True)


OF_CLOSES: list[tuple[Indicator, Callable[[np.ndarray], np.ndarray]]] = [
    *((Sma(period), lambda close, period=period: talib.SMA(close, period)) for period in (2, 20, 50)),
    *((Ema(period), lambda close, period=period: talib.EMA(close, period)) for period in (2, 12, 26, 200)),
    *((RsiOfCloses(period), lambda close, period=period: talib.RSI(close, period)) for period in (2, 14)),
]


@SOURCES
@pytest.mark.parametrize(("indicator", "theirs"), OF_CLOSES, ids=[indicator.names[0] for indicator, _ in OF_CLOSES])
def test_one_value_of_closes(source: Callable[[], list[Candles]], indicator: Indicator, theirs: Callable[[np.ndarray], np.ndarray]) -> None:
    """SMA, EMA and RSI are TA-Lib's, from the first value on, and none is there before it."""
    candles = source()
    [values], _ = batch(indicator, candles)
    for column, close in enumerate(of(candles, "close")):
        close_to(values[:, column], theirs(close), 0)


@SOURCES
@pytest.mark.parametrize("periods", [(12, 26, 9), (3, 10, 16), (2, 3, 2)])
def test_macd(source: Callable[[], list[Candles]], periods: tuple[int, int, int]) -> None:
    """Line, signal and histogram are TA-Lib's from its first value on; the line is there as soon as the slow EMA."""
    candles = source()
    values, _ = batch(Macd(*periods), candles)
    _, slow, signal = periods
    for column, close in enumerate(of(candles, "close")):
        theirs = np.array(talib.MACD(close, *periods))
        first = slow + signal - 2
        close_to(values[:, first:, column], theirs[:, first:], close.max())
        assert np.isnan(values[1:, :first, column]).all()
        assert np.isnan(values[0, : slow - 1, column]).all()
        assert not np.isnan(values[0, slow - 1 :, column]).any()


@SOURCES
def test_the_early_macd_line_is_a_longer_signals_line(source: Callable[[], list[Candles]]) -> None:
    """The values of the line that TA-Lib does not show are those that it has when the signal is shorter."""
    candles = source()
    values, _ = batch(Macd(12, 26, 9), candles)
    for column, close in enumerate(of(candles, "close")):
        theirs = talib.MACD(close, 12, 26, 1)[0]
        close_to(values[0, :, column], theirs, close.max())


@SOURCES
@pytest.mark.parametrize(("period", "deviations"), [(20, 2.0), (5, 1.5), (50, 3.0)])
def test_bollinger(source: Callable[[], list[Candles]], period: int, deviations: float) -> None:
    """The bands are TA-Lib's BBANDS."""
    candles = source()
    values, _ = batch(Bollinger(period, deviations), candles)
    for column, close in enumerate(of(candles, "close")):
        close_to(values[:, :, column], np.array(talib.BBANDS(close, period, deviations, deviations)), 0)


@SOURCES
@pytest.mark.parametrize("period", [2, 14])
def test_atr(source: Callable[[], list[Candles]], period: int) -> None:
    """The average true range is TA-Lib's."""
    candles = source()
    [values], _ = batch(Atr(period), candles)
    prices = [of(candles, field) for field in ("high", "low", "close")]
    for column, (high, low, close) in enumerate(zip(*prices, strict=True)):
        close_to(values[:, column], talib.ATR(high, low, close, period), close.max())


@SOURCES
@pytest.mark.parametrize("periods", [(14, 3, 3), (5, 1, 2), (21, 7, 5)])
def test_stochastic(source: Callable[[], list[Candles]], periods: tuple[int, int, int]) -> None:
    """Slow %K and %D are TA-Lib's STOCH from its first value on, wherever prices moved."""
    candles = source()
    values, _ = batch(Stochastic(*periods), candles)
    period, slow_k, slow_d = periods
    first = period + slow_k + slow_d - 3
    prices = [of(candles, field) for field in ("high", "low", "close")]
    for column, (high, low, close) in enumerate(zip(*prices, strict=True)):
        theirs = np.array(talib.STOCH(high, low, close, period, slow_k, 0, slow_d, 0))
        flat = talib.MAX(high, period) == talib.MIN(low, period)
        moved = np.array([not flat[max(0, at - slow_k - slow_d + 2) : at + 1].any() for at in range(len(close))])
        assert moved.mean() > 0.9
        close_to(values[:, moved, column][:, first:], theirs[:, moved][:, first:], 1000)
        assert np.isnan(values[1, :first, column]).all()
        assert np.flatnonzero(~np.isnan(values[0, :, column]))[0] == period + slow_k - 2


@SOURCES
def test_obv(source: Callable[[], list[Candles]]) -> None:
    """On-balance volume is TA-Lib's less the first candle's volume."""
    candles = source()
    [values], _ = batch(Obv(), candles)
    for column, close in enumerate(of(candles, "close")):
        volume = np.array([float(each.base[0, column] + each.base[1, column] / UNIT) for each in candles])
        close_to(values[:, column], talib.OBV(close, volume) - volume[0], volume.sum())


def exact(candles: list[Candles], column: int) -> list[tuple[int, int]]:
    """Base and quote volume of each candle in 1e-8."""
    return [tuple(int(part[0, column]) * UNIT + int(part[1, column]) for part in (each.base, each.quote)) for each in candles]


def average(traded: list[tuple[int, int]]) -> float:
    base, quote = (sum(volumes) for volumes in zip(*traded, strict=True))
    return float(Decimal(quote) / Decimal(base)) if base else math.nan


@SOURCES
@pytest.mark.parametrize("period", [2, 20])
def test_vwap(source: Callable[[], list[Candles]], period: int) -> None:
    """The rolling VWAP is the quotient of the exact sums, to the float's last bits; nan where nothing was traded."""
    candles = source()
    [values], ready = batch(Vwap(period), candles)
    for column in range(len(candles[0])):
        traded = exact(candles, column)
        expected = [average(traded[at - period + 1 : at + 1]) if at + 1 >= period else math.nan for at in range(len(traded))]
        np.testing.assert_allclose(values[:, column], expected, rtol=1e-15, equal_nan=True)
    np.testing.assert_array_equal(ready[0], ~np.isnan(values))


@SOURCES
def test_session_vwap(source: Callable[[], list[Candles]]) -> None:
    """The session's VWAP is the quotient of the exact sums since midnight, or the run's start, which is not ready."""
    candles = source()
    [values], ready = batch(SessionVwap(), candles)
    midnight = next(at for at, each in enumerate(candles) if each.open_times[0] % DAY_MS == 0)
    assert midnight > 0
    for column in range(len(candles[0])):
        traded = exact(candles, column)
        expected = [average(traded[midnight if at >= midnight else 0 : at + 1]) for at in range(len(traded))]
        np.testing.assert_allclose(values[:, column], expected, rtol=1e-15, equal_nan=True)
        np.testing.assert_array_equal(ready[0, :, column], (np.arange(len(candles)) >= midnight) & ~np.isnan(expected))


@SOURCES
@pytest.mark.parametrize("period", [2, 20])
def test_volatility(source: Callable[[], list[Candles]], period: int) -> None:
    """Realised volatility is the root of the sum of squared logarithmic returns, as 28 digits of decimals give it."""
    candles = source()
    [values], _ = batch(Volatility(period), candles)
    for column, close in enumerate(of(candles, "close")):
        prices = [Decimal(price) for price in close.tolist()]
        squares = [(new.ln() - old.ln()) ** 2 for old, new in pairwise(prices)]
        expected = [float(sum(squares[at - period : at]).sqrt()) if at >= period else math.nan for at in range(len(prices))]
        np.testing.assert_allclose(values[:, column], expected, rtol=1e-14, equal_nan=True)


# How far a ready value may be from the one with all history: the seed's weight times what seeds can differ by.
RECURSIVE: list[tuple[Indicator, Callable[..., np.ndarray], str, float]] = [
    (Ema(12), lambda _high, _low, close: talib.EMA(close, 12)[None], "prices", SEED_WEIGHT),
    (Ema(26), lambda _high, _low, close: talib.EMA(close, 26)[None], "prices", SEED_WEIGHT),
    (Macd(12, 26, 9), lambda _high, _low, close: np.array(talib.MACD(close, 12, 26, 9)), "prices", 2 * SEED_WEIGHT),
    (Atr(14), lambda high, low, close: talib.ATR(high, low, close, 14)[None], "ranges", SEED_WEIGHT),
]


@pytest.mark.parametrize(("indicator", "theirs", "of_what", "weight"), RECURSIVE, ids=[each[0].names[0] for each in RECURSIVE])
def test_a_ready_value_has_converged(indicator: Indicator, theirs: Callable[..., np.ndarray], of_what: str, weight: float) -> None:
    """Wherever a run begins, a ready value is as near to TA-Lib's with all history as the seed's weight says.

    Right after its seed it is not: that is why it is not ready.
    """
    start, candles = 400, walks()
    values, ready = batch(indicator, candles[start:])
    assert (ready.argmax(axis=1).max(axis=0) == indicator.ready_after - 1).all()
    before = 0.0
    high, low, close = (of(candles, field) for field in ("high", "low", "close"))
    for column in range(len(close)):
        full = theirs(high[column], low[column], close[column])[:, start:]
        ranges = talib.TRANGE(high[column], low[column], close[column])
        spread = np.ptp(close[column]) if of_what == "prices" else np.nanmax(ranges) - np.nanmin(ranges)
        off = np.abs(values[:, :, column] - full) / spread
        assert (off[ready[:, :, column]] <= weight).all()
        before = max(before, np.nanmax(off[~ready[:, :, column]]))
    assert before > 100 * weight
