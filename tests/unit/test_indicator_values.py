"""Indicators where they are apt to go wrong: nothing moves, nothing is traded, numbers are huge or tiny."""

import math
import statistics
from decimal import Decimal, getcontext

import numpy as np
import pytest
import talib

from klinestream.market.decimals import UNIT
from klinestream.market.indicators import ring, volumes
from klinestream.market.indicators.bollinger import Bollinger
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.ema import Ema
from klinestream.market.indicators.macd import Macd
from klinestream.market.indicators.obv import Obv
from klinestream.market.indicators.protocol import Candles, Indicator, batch
from klinestream.market.indicators.stochastic import Stochastic
from klinestream.market.indicators.volatility import log_ratio
from klinestream.market.indicators.vwap import DAY_MS, MINUTE_MS, SessionVwap, Vwap

MIDNIGHT_MS = 1_700_006_400_000
GREAT = 10**15 - 1  # whole units: as many digits as the exchange's volumes have at most


def candle(minute: int, close: float = 100.0, base: int = UNIT, price: float | None = None) -> Candles:
    """One column's flat candle, so many minutes after midnight; volumes in 1e-8, all traded at `price`."""
    quote = int(base * Decimal(price or close))
    parts = (np.array([[part] for part in divmod(volume, UNIT)], np.int64) for volume in (base, quote))
    prices = (np.array([close]) for _ in range(4))
    return Candles(np.array([MIDNIGHT_MS + minute * MINUTE_MS]), *prices, *parts)


def run(indicator: Indicator, candles: list[Candles]) -> tuple[np.ndarray, np.ndarray]:
    """Values and readiness of one column, (names, moments)."""
    values, ready = batch(indicator, candles)
    return values[:, :, 0], ready[:, :, 0]


@pytest.mark.parametrize("price", [123.45, 0.1, 1e-8, 61_234.56789012])
def test_a_flat_market(price: float) -> None:
    """Where nothing moves, means are the price to the bit, bands and ranges have no width, RSI and stochastic are 50."""
    found = IndicatorSet(IndicatorSettings())
    values, _ = run(found, [candle(minute, price) for minute in range(60)])
    last = dict(zip(found.names, values[:, -1].tolist(), strict=True))
    for name in ("sma_20", "sma_50", "bollinger_upper_20_2", "bollinger_middle_20_2", "bollinger_lower_20_2"):
        assert last[name] == price
    for name in ("rsi_14", "stochastic_k_14_3_3", "stochastic_d_14_3_3"):
        assert last[name] == 50
    for name in ("atr_14", "volatility_20", "obv"):
        assert last[name] == 0
    assert last["ema_26"] == pytest.approx(price, rel=1e-14)
    assert last["macd_12_26_9"] == pytest.approx(0, abs=1e-14 * price)


def test_ta_libs_stochastic_of_a_flat_market_is_0() -> None:
    """TA-Lib gives 0 where highest and lowest are equal, which would read as a low."""
    flat = np.full(40, 123.45)
    slow_k, _ = talib.STOCH(flat, flat, flat, 14, 3, 0, 3, 0)
    assert set(slow_k[17:]) == {0.0}
    [k, _], ready = run(Stochastic(14, 3, 3), [candle(minute, 123.45) for minute in range(40)])
    assert set(k[ready[0]]) == {50.0}


@pytest.mark.parametrize(("price", "tick"), [(2e-8, 1e-8), (61_234.5, 0.01)])
def test_bands_are_exact_at_any_price(price: float, tick: float) -> None:
    """The width is the population's deviation, of a cheap coin as of a dear one that hardly moves."""
    closes = [price + tick * (minute % 3) for minute in range(30)]
    values, _ = run(Bollinger(20, 2.0), [candle(minute, close) for minute, close in enumerate(closes)])
    upper, middle, lower = values[:, -1]
    rounding = 4 * np.spacing(price)
    assert upper - middle == pytest.approx(2 * statistics.pstdev(closes[-20:]), rel=0, abs=rounding)
    assert middle - lower == pytest.approx(upper - middle, rel=0, abs=rounding)


def test_vwap_of_nothing_traded_is_unknown() -> None:
    """While nothing was traded there is no average price: nan and not ready; from the first trade on there is one."""
    bases = [0, 0, 0, 0, UNIT, 0, 0, 0, 0]
    candles = [candle(minute, 100.0, base) for minute, base in enumerate(bases)]
    [rolling], [rolling_ready] = run(Vwap(3), candles)
    assert [math.isnan(value) for value in rolling] == [True, True, True, True, False, False, False, True, True]
    assert rolling_ready.tolist() == (~np.isnan(rolling)).tolist()
    [session], [session_ready] = run(SessionVwap(), candles)
    assert [math.isnan(value) for value in session] == [True] * 4 + [False] * 5
    assert session_ready.tolist() == [False] * 4 + [True] * 5


def test_session_vwap_begins_anew_at_midnight() -> None:
    """Of the day before nothing is left; what a run that begins within a day gives until then isn't ready."""
    candles = [candle(minute, 100.0, UNIT, price) for minute, price in ((-2, 10.0), (-1, 20.0), (0, 40.0), (1, 60.0))]
    [values], [ready] = run(SessionVwap(), candles)
    assert values.tolist() == [10, 15, 40, 50]
    assert ready.tolist() == [False, False, True, True]


def test_session_vwap_of_a_day_that_begins_late_is_not_ready() -> None:
    """A day whose first candle isn't that of midnight isn't whole."""
    [_], [ready] = run(SessionVwap(), [candle(-1), candle(1), candle(2)])
    assert not ready.any()


def test_session_vwap_of_days() -> None:
    """A candle of a day is a session by itself, ready at once."""
    days = [candle(day * DAY_MS // MINUTE_MS, 100.0, UNIT, 10.0 * (day + 1)) for day in range(3)]
    [values], [ready] = run(SessionVwap(), days)
    assert values.tolist() == [10, 20, 30]
    assert ready.all()


def test_huge_volumes_leave_a_rolling_vwap_without_a_trace() -> None:
    """Sums are exact however great the volumes: one that has left the window changes nothing of what remains."""
    great, small = GREAT * UNIT + 99_999_999, 1
    bases = [great, great, small, small, small]
    [values], _ = run(Vwap(3), [candle(minute, 1.0, base) for minute, base in enumerate(bases)])
    alone, _ = run(Vwap(3), [candle(minute, 1.0, base) for minute, base in enumerate(bases[2:])])
    assert values[-1] == alone[0, -1] == 1.0


def test_obv_is_exact_to_the_last_unit() -> None:
    """After the greatest volumes up and down again OBV is what the smallest one between made it."""
    great, small = GREAT * UNIT + 99_999_999, 1
    moves = [(100.0, UNIT), *[(101.0 + up, great) for up in range(50)], (149.5, small), *[(149.0 - down, great) for down in range(50)]]
    [values], [ready] = run(Obv(), [candle(minute, *move) for minute, move in enumerate(moves)])
    assert values[0] == 0
    assert values[50] == pytest.approx(50 * great / UNIT, rel=1e-15)
    assert values[-1] == -1e-8
    assert ready.tolist() == [False] + [True] * (len(moves) - 1)


def test_obv_stays_where_the_close_stays() -> None:
    """A candle that closes where the one before did adds nothing."""
    [values], _ = run(Obv(), [candle(0, 100.0), candle(1, 101.0, 5 * UNIT), candle(2, 101.0, 7 * UNIT), candle(3, 99.0, 2 * UNIT)])
    assert values.tolist() == [0, 5, 5, 3]


@pytest.mark.parametrize("value", [0, 1, UNIT - 1, 10**12 - 1, 10**12, 123_456_789_012_345_678_901, GREAT * UNIT + 99_999_999])
def test_volumes_split_and_sum_exactly(value: int) -> None:
    """Parts hold the volume to the last 1e-8; a thousand of them add up to a thousand times it, and can be taken away."""
    parts = volumes.split(np.array([[part] for part in divmod(value, UNIT)], np.int64))
    total = np.zeros_like(parts)
    for _ in range(1000):
        total = volumes.carried(total + parts)
    assert int(total[0, 0]) * 10**12 + int(total[1, 0]) == 1000 * value
    assert 0 <= total[1, 0] < 10**12
    assert volumes.carried(total - 999 * parts).tolist() == parts.tolist()


def test_the_logarithm_is_right_to_the_last_bits() -> None:
    """Whether new and old price are next to each other or as far apart as prices can be, it is the decimal one."""
    getcontext().prec = 40
    random = np.random.default_rng(5)
    old = np.concatenate([np.exp(random.uniform(-18, 25, 500)), [1e-8, 9e10, 1.0, 1.0, 3.0]])
    new = np.concatenate([old[:250] * (1 + random.normal(0, 1e-6, 250)), np.exp(random.uniform(-18, 25, 250)), [9e10, 1e-8, 1.0, 2.0, 1.5]])
    expected = [float((Decimal(a) / Decimal(b)).ln()) for a, b in zip(new.tolist(), old.tolist(), strict=True)]
    np.testing.assert_allclose(log_ratio(new, old), expected, rtol=4e-16 * 2)
    assert log_ratio(np.ones(1), np.ones(1)).tolist() == [0.0]


def test_the_macd_line_comes_to_be_the_difference_of_the_emas() -> None:
    """Seeds differ, so at first the line is not fast less slow EMA; when it is ready it is, to the seed's weight."""
    closes = (100 * np.exp(np.cumsum(np.random.default_rng(8).normal(0, 1e-2, 400)))).tolist()
    candles = [candle(minute, close) for minute, close in enumerate(closes)]
    [line, _, _], [ready, _, _] = run(Macd(12, 26, 9), candles)
    difference = run(Ema(12), candles)[0][0] - run(Ema(26), candles)[0][0]
    off = np.abs(line - difference) / (max(closes) - min(closes))
    assert off[25] > 1e-3
    assert (off[ready] < 4.3e-5).all()
    assert ready.argmax() == 156


def test_macd_does_not_cross_on_noise() -> None:
    """After a price has come to stand still, line and signal fade away without crossing each other for ever."""
    random, width = np.random.default_rng(1), 300
    moving = np.round(100 * np.exp(np.cumsum(random.normal(0, 1e-2, (120, width)), axis=0)), 4)
    prices = [*moving, *([moving[-1]] * 800)]
    volume = np.ones((2, width), np.int64)
    candles = [Candles(np.full(width, MIDNIGHT_MS + at * MINUTE_MS), *[price] * 4, volume, volume) for at, price in enumerate(prices)]
    (line, _, histogram), _ = batch(Macd(12, 26, 9), candles)
    assert (line[-1] == 0).all()
    assert (line[119] != 0).all()
    assert (np.sign(histogram[520:]) == np.sign(histogram[520])).all()


def test_a_window_is_read_in_the_order_of_time() -> None:
    """Each column's window has its oldest value first, wherever its ring stands."""
    held, seen = np.zeros((3, 4)), np.zeros(4, np.int64)
    for value, columns in enumerate(([3, 1], [1], [1, 0], [3, 1], [3, 1]), 1):
        window = ring.pushed(held, np.array(columns), seen[columns], np.full(len(columns), float(value)))
        seen[columns] += 1
    assert window.T.tolist() == [[1, 4, 5], [3, 4, 5]]


def test_taking_rows_of_candles() -> None:
    """Candles taken by rows are these, in that order, volumes included."""
    both = np.array([[1, 2, 3], [4, 5, 6]])
    prices = np.array([1.0, 2.0, 3.0])
    taken = Candles(np.array([7, 8, 9]), prices, prices + 1, prices + 2, prices + 3, both, both * 10).take(np.array([2, 0]))
    assert len(taken) == 2
    assert (taken.open_times.tolist(), taken.close.tolist(), taken.quote.tolist()) == ([9, 7], [6.0, 4.0], [[30, 10], [60, 40]])
