"""The laws that every indicator obeys, tested once for all: neighbours, splits and starts change no value."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.indicators.bollinger import Bollinger
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.indicators.obv import Obv
from klinestream.market.indicators.protocol import Bools, Candles, Indicator, batch
from klinestream.market.indicators.sma import Sma
from klinestream.market.indicators.stochastic import Stochastic
from klinestream.market.indicators.volatility import Volatility
from klinestream.market.indicators.vwap import DAY_MS, MINUTE_MS, SessionVwap, Vwap

# Short periods, so that short runs come to the ready values; windows longer than the 8 values from which numpy adds in
# another order.
SHORT = IndicatorSettings(
    sma=(20,),
    ema=(3,),
    rsi=(2,),
    macd=((2, 3, 2),),
    bollinger=((12, 1.5),),
    atr=(2,),
    vwap=(3,),
    stochastic=((3, 2, 2),),
    volatility=(10,),
)
INDICATORS: tuple[Indicator, ...] = (*IndicatorSet(SHORT).indicators, IndicatorSet(SHORT))
EVERY = pytest.mark.parametrize("indicator", INDICATORS, ids=lambda each: each.names[0] if len(each.names) < 4 else "all of them")

MOMENTS = 40
MIDNIGHT_MS = 1_700_006_400_000
# How a column's price moves and what is traded: its first price, the spread of its steps, the most base units a candle.
REGIMES = {
    "calm": (61_234.5, 1e-3, 10**4),
    "wild": (3.25, 1.5, 10**14),
    "flat": (123.45, 0.0, 10**6),
    "untraded": (0.07, 0.0, 0),
    "cheap": (3e-8, 0.3, 10**14),
    "dear": (9e9, 1e-2, 3),
}


@dataclass(frozen=True)
class Market:
    """Candles of some columns, moment after moment."""

    candles: list[Candles]

    @property
    def width(self) -> int:
        return len(self.candles[0])

    def of(self, columns: list[int]) -> list[Candles]:
        return [each.take(np.array(columns, np.int64)) for each in self.candles]


def column(random: np.random.Generator, regime: str, moments: int) -> tuple[np.ndarray, ...]:
    """Open, high, low, close in 1e-8, and volumes as whole units and remainders."""
    first, spread, most = REGIMES[regime]
    closes = first * np.exp(spread * np.clip(np.cumsum(random.normal(0, 0.3, moments)), -2, 2))
    closes = np.maximum(1, np.rint(closes * 1e8)) / 1e8
    opens = np.append(closes[0], closes[:-1])
    wick = 1 + spread * random.random(moments) / 4
    high = np.maximum(opens, closes) * wick
    low = np.minimum(opens, closes) / wick
    traded = random.random(moments) < 0.7
    volumes = [traded * random.integers(0, limit, moments, endpoint=True) for limit in (most, 10**8 - 1 if most else 0, 10**14)]
    base, quote = np.stack(volumes[:2]), np.stack([volumes[2] * (most > 0), volumes[1]])
    return opens, high, low, closes, base, quote


@st.composite
def markets(draw: st.DrawFn, moments: int = MOMENTS) -> Market:
    """Minutes from a little before midnight on, or from midnight."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    regimes = draw(st.lists(st.sampled_from(list(REGIMES)), min_size=1, max_size=5))
    start = MIDNIGHT_MS - draw(st.integers(0, 30)) * MINUTE_MS
    found = [column(random, regime, moments) for regime in regimes]
    fields = [np.stack(each, axis=-1) for each in zip(*found, strict=True)]
    times = start + np.arange(moments) * MINUTE_MS
    return Market(
        [
            Candles(np.full(len(regimes), time), *(prices[at] for prices in fields[:4]), *(volumes[:, at] for volumes in fields[4:]))
            for at, time in enumerate(times.tolist())
        ]
    )


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """To the last bit."""
    return one.shape == other.shape and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def same_results(one: tuple[np.ndarray, Bools], other: tuple[np.ndarray, Bools]) -> bool:
    return same(one[0], other[0]) and same(one[1], other[1])


@EVERY
@settings(max_examples=8)
@given(data=st.data(), market=markets())
def test_columns_do_not_matter(indicator: Indicator, data: st.DataObject, market: Market) -> None:
    """A column's values are the same alone, among others, and in whatever order."""
    values, ready = batch(indicator, market.candles)
    order = data.draw(st.permutations(range(market.width)))
    assert same_results(batch(indicator, market.of(order)), (values[..., order], ready[..., order]))
    for each in range(market.width):
        assert same_results(batch(indicator, market.of([each])), (values[..., [each]], ready[..., [each]]))


@EVERY
@settings(max_examples=8)
@given(data=st.data(), market=markets())
def test_a_stream_in_any_pieces_is_the_batch(indicator: Indicator, data: st.DataObject, market: Market) -> None:
    """Columns that come at different times, in any order, in a state of other columns, give what each gives by itself."""
    expected, expected_ready = batch(indicator, market.candles)
    state = indicator.init(market.width + 2)
    taken = np.zeros(market.width, np.int64)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    while (taken < MOMENTS).any():
        rows = random.permutation(np.flatnonzero((taken < MOMENTS) & (random.random(market.width) < 0.7)))
        if not len(rows):
            continue
        together = [market.candles[taken[row]].take(np.array([row])) for row in rows]
        prices = {field: np.concatenate([getattr(each, field) for each in together], axis=-1) for field in Candles.__dataclass_fields__}
        others = np.setdiff1d(np.arange(market.width + 2), rows + 1)
        untouched = state[:, others].copy()
        values, ready = indicator.update(state, rows + 1, Candles(**prices))
        assert same(state[:, others], untouched)
        assert same_results((values, ready), (expected[:, taken[rows], rows], expected_ready[:, taken[rows], rows]))
        taken[rows] += 1


@EVERY
@settings(max_examples=8)
@given(market=markets(), cut=st.integers(0, MOMENTS))
def test_saved_state_continues(indicator: Indicator, market: Market, cut: int) -> None:
    """State that was pickled, or copied into a wider array, goes on as if nothing had been."""
    whole = batch(indicator, market.candles)
    state, columns = indicator.init(market.width), np.arange(market.width)
    for each in market.candles[:cut]:
        indicator.update(state, columns, each)
    state = pickle.loads(pickle.dumps(np.concatenate([state, indicator.init(3)], axis=1)))  # noqa: S301  # our own bytes
    for at, each in enumerate(market.candles[cut:], cut):
        assert same_results(indicator.update(state, columns, each), (whole[0][:, at], whole[1][:, at]))


@EVERY
@settings(max_examples=8)
@given(market=markets(), cut=st.integers(0, MOMENTS))
def test_a_column_begins_anew_from_init(indicator: Indicator, market: Market, cut: int) -> None:
    """A column whose state is `init` again gives what a run from there gives, and the others go on."""
    whole, late = batch(indicator, market.candles), batch(indicator, market.candles[cut:])
    state, columns = indicator.init(market.width), np.arange(market.width)
    for each in market.candles[:cut]:
        indicator.update(state, columns, each)
    state[:, [0]] = indicator.init(1)
    for at, each in enumerate(market.candles[cut:]):
        values, ready = indicator.update(state, columns, each)
        assert same_results((values[:, :1], ready[:, :1]), (late[0][:, at, :1], late[1][:, at, :1]))
        assert same_results((values[:, 1:], ready[:, 1:]), (whole[0][:, cut + at, 1:], whole[1][:, cut + at, 1:]))


@EVERY
@settings(max_examples=8)
@given(market=markets())
def test_values_are_numbers_once_ready(indicator: Indicator, market: Market) -> None:
    """Nothing is infinite, nothing ready is nan, and state stays finite; after `ready_after` candles all is ready that can be known."""
    values, ready = batch(indicator, market.candles)
    assert not np.isinf(values).any()
    assert np.isfinite(values[ready]).all()
    for number, name in enumerate(indicator.names):
        later = ready[number, indicator.ready_after - 1 :]
        unknown = np.isnan(values[number, indicator.ready_after - 1 :])
        assert (later | unknown).all()
        assert "vwap" in name or not unknown.any()
        assert "vwap" in name or (np.diff(ready[number].astype(int), axis=0) >= 0).all()


@settings(max_examples=20)
@given(market=markets())
def test_values_are_in_their_range(market: Market) -> None:
    """RSI and stochastic lie in 0 to 100, bands are in order, ranges and volatility are not negative, means lie among the prices."""
    found = IndicatorSet(SHORT)
    values = dict(zip(found.names, batch(found, market.candles)[0], strict=True))
    low, high = (np.array([getattr(each, field) for each in market.candles]) for field in ("low", "high"))
    rounding = 1 + 1e-12
    for name, each in values.items():
        known = ~np.isnan(each)
        if name.startswith(("rsi", "stochastic")):
            assert ((each >= 0) & (each <= 100))[known].all()
        if name.startswith(("atr", "volatility")):
            assert (each >= 0)[known].all()
        if name.startswith(("sma", "ema", "bollinger_middle")):
            assert ((each >= low.min(axis=0) / rounding) & (each <= high.max(axis=0) * rounding))[known].all()
    upper, middle, lower = (values[f"bollinger_{band}_12_1_5"] for band in ("upper", "middle", "lower"))
    assert ((lower <= middle) & (middle <= upper))[~np.isnan(middle)].all()


WINDOWED = (Sma(20), Bollinger(12, 1.5), Vwap(3), SessionVwap(), Stochastic(3, 2, 2), Volatility(10))


@pytest.mark.parametrize("indicator", WINDOWED, ids=lambda each: each.names[0])
@settings(max_examples=8)
@given(market=markets(), start=st.integers(1, MOMENTS - 1))
def test_a_full_window_has_no_memory(indicator: Indicator, market: Market, start: int) -> None:
    """Wherever a run begins, a windowed value that is ready is that of the longest run, to the last bit."""
    values, ready = batch(indicator, market.candles[start:])
    longer, longer_ready = (each[:, start:] for each in batch(indicator, market.candles))
    assert same(values[ready], longer[ready])
    assert longer_ready[ready].all()


@settings(max_examples=8)
@given(market=markets(), start=st.integers(1, MOMENTS - 1))
def test_obv_changes_do_not_depend_on_the_start(market: Market, start: int) -> None:
    """Wherever a run begins, what OBV changes by between ready values is the same, but for the rounding of the levels."""
    values, ready = batch(Obv(), market.candles[start:])
    longer, _ = batch(Obv(), market.candles)
    assert ready[0, 1:].all()
    assert not ready[0, 0].any()
    np.testing.assert_allclose(np.diff(values[0], axis=0), np.diff(longer[0, start:], axis=0), rtol=0, atol=8 * np.spacing(1e16))


@settings(max_examples=8)
@given(market=markets())
def test_a_set_is_its_indicators(market: Market) -> None:
    """The joint state changes no value: each indicator gives in the set what it gives by itself."""
    found = IndicatorSet(SHORT)
    values, ready = batch(found, market.candles)
    alone = [batch(indicator, market.candles) for indicator in found.indicators]
    assert same_results((values, ready), (np.concatenate([v for v, _ in alone]), np.concatenate([r for _, r in alone])))


def test_the_session_begins_at_midnight() -> None:
    """The laws' runs do pass midnight: the session's VWAP of one that begins before it becomes ready there."""
    times = [MIDNIGHT_MS + minute * MINUTE_MS for minute in (-2, -1, 0, 1)]
    assert [time % DAY_MS == 0 for time in times] == [False, False, True, False]
    one, volume = np.ones(1), np.ones((2, 1), np.int64)
    _, ready = batch(SessionVwap(), [Candles(np.array([time]), one, one, one, one, volume, volume) for time in times])
    assert ready[0, :, 0].tolist() == [False, False, True, True]
