"""The seeded market looks like a market, and its numbers stay within their bounds."""

import functools

import numpy as np
import pytest

from klinestream.market.decimals import UNIT
from klinestream.standin.intervals import DAY_MS, INTERVALS, span
from klinestream.standin.seeded import plans, shapes
from klinestream.standin.seeded.listing import Listing, listings
from klinestream.standin.seeded.market import SeededMarket

SEED = 7
NOON_MS = 1_795_262_400_000  # 2026-11-21 12:00 UTC


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(SEED, 1400)


@functools.cache
def listed(count: int) -> list[Listing]:
    return listings(SEED, count)


def test_the_great_symbols_come_first() -> None:
    """A market of a few symbols lists those that everybody knows."""
    names = list(market().symbols)
    assert names[:4] == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"]
    assert len(set(names)) == 1400
    assert all(info.name == info.base + info.quote for info in market().symbols.values())


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    """How many symbols are listed changes none of them."""
    assert listed(5000)[:1400] == listed(1400)
    assert len({listing.info.name for listing in listed(5000)}) == 5000


def test_an_unknown_symbol_is_a_key_error() -> None:
    """A name that isn't listed raises KeyError."""
    with pytest.raises(KeyError):
        market().candle("NOSUCH", INTERVALS["1m"], NOON_MS)


def test_another_seed_is_another_market() -> None:
    """Seeds have different prices, trades and made-up symbols."""
    ours, theirs = (SeededMarket(seed, 700) for seed in (SEED, SEED + 1))
    assert list(ours.symbols)[-1] != list(theirs.symbols)[-1]
    ours_now, theirs_now = (of.seconds(NOON_MS, 60, ["BTCUSDT"]) for of in (ours, theirs))
    assert (ours_now.close != theirs_now.close).all()
    assert (ours_now.trades != theirs_now.trades).any()


def test_prices_are_of_many_magnitudes() -> None:
    """From a hundred-thousandth to above 1e9, as quotes of little worth have it."""
    closes = market().seconds(NOON_MS).close[0] / UNIT
    assert closes.min() < 1e-4
    assert closes.max() > 5e8
    assert listed(1400)[list(market().symbols).index("BTCIDR")].base_ticks > 1e9


def test_cheap_coins_have_huge_volumes() -> None:
    """A day's volume of a cheap coin passes what an int64 of 1e-8 holds."""
    day = market().candles("PEPEUSDT", INTERVALS["1d"], NOON_MS - DAY_MS, NOON_MS, NOON_MS)[0]
    assert day.base_volume > 2**63


def test_activity_is_as_on_the_exchange() -> None:
    """BTCUSDT has some 30 trades a second in the mean and bursts of hundreds; most symbols are quiet in most seconds."""
    months = market().candles("BTCUSDT", INTERVALS["1M"], NOON_MS - 300 * DAY_MS, NOON_MS - 31 * DAY_MS, NOON_MS)
    for month in months:
        assert 25 < month.trades / ((month.close_time_ms + 1 - month.open_time_ms) / 1000) < 35
    quarter = market().seconds(NOON_MS, 900)
    assert quarter.trades[:, 0].max() > 100
    assert (quarter.trades == 0).mean() > 0.7
    assert (quarter.trades.sum(axis=0) > 0).all()


def test_agg_trades_are_about_half_as_many() -> None:
    """About 0.55 aggTrades a trade, as on the exchange."""
    trades, aggs = (at("BTCUSDT", NOON_MS) - at("BTCUSDT", NOON_MS - DAY_MS) for at in (market().trade_id_at, market().agg_trade_id_at))
    assert 0.5 < aggs / trades < 0.6


def test_volatility_comes_in_clusters_and_the_price_trends() -> None:
    """Quarter-hour ranges are alike from one to the next, daily moves are of some percent, and years move far."""
    interval = INTERVALS["15m"]
    bounds = span(interval, None, None, 1000, listed_ms=0, at_ms=NOON_MS)
    quarters = market().candles("BTCUSDT", interval, *bounds, NOON_MS)
    ranges = np.log([candle.high / candle.low for candle in quarters])
    assert np.corrcoef(ranges[1:], ranges[:-1])[0, 1] > 0.2
    days = market().candles("BTCUSDT", INTERVALS["1d"], NOON_MS - 1000 * DAY_MS, NOON_MS, NOON_MS)
    closes = np.array([candle.close for candle in days], float)
    assert 0.005 < np.abs(np.diff(np.log(closes))).mean() < 0.05
    assert closes.max() / closes.min() > 1.3


def test_midnight_has_no_jump() -> None:
    """The first trade of a day is about as far from the last close as any quarter's first trade is."""
    quarters = market().candles("ETHUSDT", INTERVALS["15m"], NOON_MS - 100 * DAY_MS, NOON_MS, NOON_MS)
    opens, closes = (np.log([getattr(candle, side) for candle in quarters]) for side in ("open", "close"))
    jumps = np.abs(opens[1:] - closes[:-1])
    midnights = np.array([candle.open_time_ms % DAY_MS == 0 for candle in quarters[1:]])
    assert np.median(jumps[midnights]) < 3 * np.median(jumps[~midnights]) + 1e-4
    assert jumps.max() < 0.005


def test_sizes_can_be_kept_exactly() -> None:
    """A quote volume is a whole number of 1e-8, and a second's volumes fit an int64 of 1e-8 even in the greatest burst."""
    for listing in listed(5000):
        info = listing.info
        assert info.tick * info.step % UNIT == 0, info
        assert listing.base_ticks >= 500, info
        most = _greatest_bursts()[listing.activity] * listing.weight * plans.MOST_WEIGHT * 5 // 4 * info.step
        assert most < 2**63, info
        assert most * listing.base_ticks * 4 * info.tick // UNIT < 2**63, info


@functools.cache
def _greatest_bursts() -> list[int]:
    """Greatest quantity of a second of each class, in units of weight."""
    return shapes.build(SEED).seconds.quantity.reshape(len(shapes.RATES), -1).max(axis=1).tolist()


def test_minutes_that_open_quiet_go_on_from_the_carried_price() -> None:
    """In each shape the first trade is at its ms 0, and a minute's first trade after quiet has the last height before."""
    made = shapes.build(SEED)
    first = made.second_first[: -1 : shapes.SHAPE_S]
    assert not made.trade_ms[first].any()
    counts = made.seconds.trades.reshape(-1, 60)
    late = (counts[:, 0] == 0) & (counts.sum(axis=1) > 0)
    first_of_minute = made.second_first[:-1].reshape(-1, 60)[late, 0]
    assert (made.trade_height[first_of_minute] == made.trade_height[first_of_minute - 1]).all()
    assert late.sum() > 1000
