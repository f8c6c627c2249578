"""RSI next to TA-Lib, an independent implementation of Wilder's formula."""

import numpy as np
import pytest
import talib

from klinestream.market.indicators.rsi import Rsi


def walk(seed: int, length: int) -> np.ndarray:
    """A price that wanders."""
    return 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, length)))


def run(period: int, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Our RSI of rows of series (symbols, values), value by value."""
    rsi = Rsi(period)
    state = rsi.init(len(series))
    columns = np.arange(len(series))
    values = [rsi.update(state, columns, series[:, i]) for i in range(series.shape[1])]
    return np.array([v for v, _ in values]).T, np.array([r for _, r in values]).T


@pytest.mark.parametrize("period", [2, 5, 14, 30])
def test_rsi_equals_ta_lib(period: int) -> None:
    """Seed, recursion and the values before the seed are TA-Lib's, to 1e-9."""
    series = np.array([walk(seed, 600) for seed in range(8)])
    ours, _ = run(period, series)
    for symbol, prices in enumerate(series):
        np.testing.assert_allclose(ours[symbol], talib.RSI(prices, period), rtol=1e-9, equal_nan=True)


def test_a_flat_series_is_neither_strong_nor_weak() -> None:
    """A flat series has RSI 50 here; TA-Lib gives 0, which would read as a crash."""
    flat = np.full(40, 123.45)
    ours, _ = run(14, flat[None])
    assert set(ours[0, 14:]) == {50.0}
    assert set(talib.RSI(flat, 14)[14:]) == {0.0}


def test_rising_and_falling_reach_the_ends() -> None:
    """Only gains give 100, only losses 0, as in TA-Lib."""
    ours, _ = run(14, np.array([np.arange(1.0, 61), np.arange(61.0, 1, -1)]))
    assert set(ours[0, 14:]) == {100.0}
    assert set(ours[1, 14:]) == {0.0}


def test_a_ready_value_has_converged() -> None:
    """Whatever came before a run, a value marked ready is within 0.002 points of the one with all history."""
    history, worst, before = 3000, 0.0, 0.0
    for seed in range(20):
        series = walk(seed, history + 400)
        full = talib.RSI(series, 14)[history:]
        run_alone, ready = run(14, series[history:][None])
        off = np.abs(run_alone[0] - full)
        worst = max(worst, float(np.nanmax(off[ready[0]])))
        before = max(before, float(off[15]))
    assert worst < 0.002
    assert before > 1  # a value right after its seed is far off: that is why it is not ready


def test_rsi_14_is_ready_after_150_changes() -> None:
    """The first ready value is the one after 150 changes."""
    _, ready = run(14, walk(1, 200)[None])
    assert ready[0].argmax() == 150
