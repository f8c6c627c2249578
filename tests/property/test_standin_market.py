"""The laws of the seeded market, for any symbol and time."""

import dataclasses
import functools
import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.decimals import UNIT
from klinestream.standin.intervals import DAY_MS, INTERVALS, MINUTE_MS
from klinestream.standin.market import AggTrade, Candle, Seconds, Trade
from klinestream.standin.seeded.listing import listings
from klinestream.standin.seeded.market import SeededMarket

ROOT = Path(__file__).parents[2]
SEED = 7
SYMBOLS = 1400
SECOND_MS = 1000
YEAR_2017_MS, YEAR_2040_MS = 1_502_928_000_000, 2_208_988_800_000
VOLUMES = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(SEED, SYMBOLS)


NAMES = [listing.info.name for listing in listings(SEED, SYMBOLS)]
any_symbol = st.one_of(st.sampled_from(NAMES[:8]), st.sampled_from(NAMES))
any_second = st.integers(YEAR_2017_MS // SECOND_MS, YEAR_2040_MS // SECOND_MS).map(lambda second: second * SECOND_MS)
# Where carrying a close could go wrong: the edges of minutes, shapes and days.
edges = st.tuples(any_second, st.sampled_from([MINUTE_MS, 15 * MINUTE_MS, DAY_MS]), st.integers(-3, 3)).map(
    lambda drawn: drawn[0] // drawn[1] * drawn[1] + drawn[2] * SECOND_MS
)
any_time = st.one_of(any_second, edges)


def listed(symbol: str, time_ms: int) -> int:
    """The time, moved behind the symbol's listing where it lies before."""
    listed_ms = market().symbols[symbol].listed_ms
    return time_ms if time_ms >= listed_ms else listed_ms + (listed_ms - time_ms)


def rows(seconds: Seconds, column: int = 0) -> list[Candle]:
    """The columns of one symbol as candles."""
    names = [f.name for f in dataclasses.fields(Candle)][2:-1]
    columns = [getattr(seconds, name)[:, column].tolist() for name in names]
    opens = seconds.open_time_ms.tolist()
    return [Candle(opened, opened + 999, *values, closed=True) for opened, *values in zip(opens, *columns, strict=True)]


def aggregate(parts: list[Candle]) -> Candle:
    """Candles that follow each other as one, counting quiet ones with the price they carry."""
    ids = [(part.first_trade_id, part.last_trade_id) for part in parts if part.trades]
    return Candle(
        open_time_ms=parts[0].open_time_ms,
        close_time_ms=parts[-1].close_time_ms,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        **{name: sum(getattr(part, name) for part in parts) for name in VOLUMES},
        trades=sum(part.trades for part in parts),
        first_trade_id=ids[0][0] if ids else -1,
        last_trade_id=ids[-1][1] if ids else -1,
        closed=True,
    )


def of_trades(trades: list[Trade], open_time_ms: int, close_time_ms: int, carried: int) -> Candle:
    """The candle of some trades, from nothing but them."""
    prices = [trade.price for trade in trades] or [carried]
    taken = [trade for trade in trades if not trade.buyer_is_maker]
    return Candle(
        open_time_ms=open_time_ms,
        close_time_ms=close_time_ms,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        base_volume=sum(trade.quantity for trade in trades),
        quote_volume=sum(trade.price * trade.quantity for trade in trades) // UNIT,
        taker_base_volume=sum(trade.quantity for trade in taken),
        taker_quote_volume=sum(trade.price * trade.quantity for trade in taken) // UNIT,
        trades=len(trades),
        first_trade_id=trades[0].id if trades else -1,
        last_trade_id=trades[-1].id if trades else -1,
        closed=True,
    )


@settings(deadline=None, max_examples=150)
@given(any_symbol, any_time)
def test_a_second_is_the_aggregate_of_its_trades(symbol: str, open_ms: int) -> None:
    """A 1 s kline equals its trades in every field; a quiet one carries the last trade's price."""
    open_ms = listed(symbol, open_ms)
    trades = market().trades(symbol, open_ms, open_ms + SECOND_MS)
    before = market().trade_id_at(symbol, open_ms)
    carried = market().trades_by_id(symbol, before - 1, 1, open_ms)[0].price if before else 0
    [second] = rows(market().seconds(open_ms, 1, [symbol]))
    assert second == of_trades(trades, open_ms, open_ms + 999, carried)
    assert all(open_ms <= trade.time_ms <= open_ms + 999 for trade in trades)


@settings(deadline=None, max_examples=150)
@given(any_symbol, any_time, st.sampled_from(["1m", "3m", "5m", "15m", "30m", "1h", "2h"]))
def test_a_candle_is_the_aggregate_of_its_seconds(symbol: str, time_ms: int, name: str) -> None:
    """A candle of any interval up to 2h equals its 1 s klines, also if quiet ones are counted with what they carry."""
    interval = INTERVALS[name]
    opened = interval.open_of(listed(symbol, time_ms) + interval.length_ms)
    closed = interval.close_of(opened)
    [candle] = market().candles(symbol, interval, opened, opened + 1, closed + 1)
    seconds = rows(market().seconds(opened, interval.length_ms // SECOND_MS, [symbol]))
    assert candle == aggregate(seconds)
    traded = [second for second in seconds if second.trades]
    if traded:
        assert (candle.open, candle.high, candle.low) == (traded[0].open, max(s.high for s in traded), min(s.low for s in traded))


@settings(deadline=None, max_examples=60)
@given(any_symbol, any_time, st.sampled_from(["4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]))
def test_a_long_candle_is_the_aggregate_of_its_minutes(symbol: str, time_ms: int, name: str) -> None:
    """A candle of any longer interval equals its 1m candles, from the listing on; so, by the law above, its 1 s klines."""
    interval = INTERVALS[name]
    opened = interval.open_of(listed(symbol, time_ms))
    closed = interval.close_of(opened)
    [candle] = market().candles(symbol, interval, opened, opened + 1, closed + 1)
    minutes = market().candles(symbol, INTERVALS["1m"], opened, closed, closed + 1)
    assert candle == dataclasses.replace(aggregate(minutes), open_time_ms=opened)


@settings(deadline=None, max_examples=100)
@given(any_symbol, any_time, st.integers(1, 999), st.sampled_from(list(INTERVALS)))
def test_a_candle_in_progress_is_the_aggregate_of_the_trades_so_far(symbol: str, second_ms: int, ms: int, name: str) -> None:
    """A candle in progress is what the whole one would be if nothing came after, to the ms."""
    interval = INTERVALS[name]
    at_ms = listed(symbol, second_ms) + ms
    candle = market().candle(symbol, interval, at_ms)
    assert candle is not None
    assert not candle.closed
    start_ms = max(candle.open_time_ms, market().symbols[symbol].listed_ms, (at_ms - 1) // MINUTE_MS * MINUTE_MS)
    ids = [market().trade_id_at(symbol, time_ms) for time_ms in (candle.open_time_ms, start_ms, at_ms)]
    assert candle.trades == ids[2] - ids[0]
    newest = of_trades(market().trades(symbol, start_ms, at_ms), candle.open_time_ms, candle.close_time_ms, candle.close)
    minutes = market().candles(symbol, INTERVALS["1m"], candle.open_time_ms, start_ms, at_ms) if interval.length_ms > MINUTE_MS else []
    if interval.length_ms <= 24 * 60 * MINUTE_MS and interval.length_ms:
        parts = [*minutes, newest] if newest.trades or not minutes else minutes
        expected = aggregate([dataclasses.replace(part, open_time_ms=candle.open_time_ms) for part in parts])
        assert candle == dataclasses.replace(expected, close_time_ms=candle.close_time_ms, closed=False)


@settings(deadline=None, max_examples=100)
@given(any_symbol, any_time, st.integers(1, 2 * 3600 * SECOND_MS))
def test_ids_are_contiguous(symbol: str, from_ms: int, length_ms: int) -> None:
    """Trade ids and aggTrade ids go on without a break, whatever lies between, and each id is found by itself."""
    from_ms = listed(symbol, from_ms)
    trades = market().trades(symbol, from_ms, from_ms + length_ms, limit=3000)
    assert [trade.id for trade in trades] == list(
        range(market().trade_id_at(symbol, from_ms), market().trade_id_at(symbol, from_ms) + len(trades))
    )
    assert [trade.time_ms for trade in trades] == sorted(trade.time_ms for trade in trades)
    for trade in trades[:: max(1, len(trades) // 5)]:
        assert market().trades_by_id(symbol, trade.id, 1, trade.time_ms + 1) == [trade]
        assert market().trade_id_at(symbol, trade.time_ms) <= trade.id < market().trade_id_at(symbol, trade.time_ms + 1)
    aggs = market().agg_trades(symbol, from_ms, from_ms + length_ms, limit=3000)
    assert [agg.id for agg in aggs] == list(
        range(market().agg_trade_id_at(symbol, from_ms), market().agg_trade_id_at(symbol, from_ms) + len(aggs))
    )
    for agg in aggs[:: max(1, len(aggs) // 5)]:
        assert market().agg_trades_by_id(symbol, agg.id, 1, agg.time_ms + 1) == [agg]
    for found, by_id in ((trades, market().trades_by_id), (aggs, market().agg_trades_by_id)):
        assert found == by_id(symbol, found[0].id if found else 0, len(found), from_ms + length_ms)


@settings(deadline=None, max_examples=60)
@given(any_symbol, any_time, st.integers(1, 600))
def test_agg_trades_group_trades_of_one_price_side_and_time(symbol: str, from_ms: int, seconds: int) -> None:
    """AggTrades are exactly the longest runs of trades with the same price, taker side and time."""
    from_ms = listed(symbol, from_ms)
    to_ms = from_ms + seconds * SECOND_MS
    expected = []
    first_id = market().agg_trade_id_at(symbol, from_ms)
    runs = itertools.groupby(market().trades(symbol, from_ms, to_ms), lambda trade: (trade.price, trade.buyer_is_maker, trade.time_ms))
    for number, ((price, maker, time_ms), run) in enumerate(runs):
        group = list(run)
        quantity = sum(trade.quantity for trade in group)
        expected.append(AggTrade(first_id + number, price, quantity, group[0].id, group[-1].id, time_ms, time_ms, maker))
    assert market().agg_trades(symbol, from_ms, to_ms) == expected


@settings(deadline=None, max_examples=40)
@given(st.lists(any_symbol, min_size=1, max_size=6, unique=True), any_time, st.integers(1, 2000), st.data())
def test_any_choice_of_symbols_and_any_split_of_time_gives_the_same_values(
    symbols: list[str], open_ms: int, count: int, data: st.DataObject
) -> None:
    """Seconds asked for one by one, in any order of symbols, among more symbols or at a stretch are the same."""
    whole = market().seconds(open_ms, count, symbols)
    offset = data.draw(st.integers(0, count - 1))
    shuffled = data.draw(st.permutations(symbols))
    one = market().seconds(open_ms + offset * SECOND_MS, 1, shuffled)
    every = market().seconds(open_ms + offset * SECOND_MS)
    for field in dataclasses.fields(Seconds)[2:]:
        values = getattr(whole, field.name)
        assert values.shape == (count, len(symbols))
        for name in symbols:
            column = values[offset, symbols.index(name)]
            assert column == getattr(one, field.name)[0, shuffled.index(name)], field.name
            assert column == getattr(every, field.name)[0, NAMES.index(name)], field.name


@settings(deadline=None, max_examples=30)
@given(any_symbol, any_time, st.sampled_from(list(INTERVALS)), st.integers(2, 40))
def test_many_candles_at_once_are_those_asked_for_one_by_one(symbol: str, time_ms: int, name: str, count: int) -> None:
    """A list of candles holds what each candle is by itself, in order, without a hole."""
    interval = INTERVALS[name]
    opened = interval.open_of(listed(symbol, time_ms))
    end = interval.shift(opened, count)
    candles = market().candles(symbol, interval, opened, end, end)
    assert [candle.open_time_ms for candle in candles] == interval.opens(opened, end)
    assert len(candles) == count
    for candle in (candles[0], candles[count // 2], candles[-1]):
        assert market().candles(symbol, interval, candle.open_time_ms, candle.open_time_ms + 1, end) == [candle]
        assert market().candle(symbol, interval, candle.close_time_ms + 1) == candle


@settings(deadline=None, max_examples=40)
@given(any_symbol, any_time)
def test_nothing_happens_before_the_listing(symbol: str, time_ms: int) -> None:
    """Before its listing a symbol has no candle, trade, ticker or book; its first trade has id 0 and comes at once."""
    listed_ms = market().symbols[symbol].listed_ms
    before_ms = min(time_ms, listed_ms)
    assert market().trades(symbol, before_ms - DAY_MS, before_ms) == []
    assert market().candle(symbol, INTERVALS["1M"], before_ms) is None
    assert market().mini_tickers(before_ms, [symbol]) == []
    assert market().depth(symbol, before_ms, 10) is None
    assert market().depth_diffs(symbol, before_ms - 5000, before_ms) == []
    assert not market().seconds(before_ms - SECOND_MS, 1, [symbol]).known.any()
    assert market().seconds(listed_ms, 1, [symbol]).known.all()
    [first] = market().trades_by_id(symbol, 0, 1, listed_ms + 1)
    assert (first.id, first.time_ms) == (0, listed_ms)


@settings(deadline=None, max_examples=40)
@given(any_symbol, any_time)
def test_a_mini_ticker_is_the_aggregate_of_its_minutes(symbol: str, time_ms: int) -> None:
    """The last 24 hours are those of the 1m candles since then, and of the minute in progress."""
    at_ms = listed(symbol, time_ms) + SECOND_MS
    [ticker] = market().mini_tickers(at_ms, [symbol])
    since_ms = (at_ms // MINUTE_MS - 24 * 60) * MINUTE_MS
    day = aggregate(market().candles(symbol, INTERVALS["1m"], since_ms, at_ms, at_ms))
    assert (ticker.open, ticker.high, ticker.low, ticker.close) == (day.open, day.high, day.low, day.close)
    assert (ticker.base_volume, ticker.quote_volume, ticker.trades) == (day.base_volume, day.quote_volume, day.trades)
    assert ticker.last_trade_id == market().trade_id_at(symbol, at_ms) - 1


@settings(deadline=None, max_examples=40)
@given(any_symbol, any_time, st.integers(1, 40), st.sampled_from([100, 1000]))
def test_diffs_lead_from_each_snapshot_to_each_later_one(symbol: str, time_ms: int, steps: int, every_ms: int) -> None:
    """A snapshot with the diffs after it applied is the later snapshot, level by level; update ids are contiguous."""
    from_ms = listed(symbol, time_ms) + 20 * SECOND_MS
    to_ms = from_ms + steps * 10 * every_ms
    start = market().depth(symbol, from_ms, 5000)
    end = market().depth(symbol, to_ms, 5000)
    assert start is not None
    assert end is not None
    diffs = market().depth_diffs(symbol, from_ms // every_ms * every_ms, to_ms + 1, every_ms)
    diffs = [diff for diff in diffs if diff.last_update_id > start.last_update_id and diff.last_update_id <= end.last_update_id]
    book = {"bids": dict(start.bids), "asks": dict(start.asks)}
    update_id = start.last_update_id
    for number, diff in enumerate(diffs):
        assert diff.first_update_id == update_id + 1 or (number == 0 and diff.first_update_id <= update_id + 1)
        update_id = diff.last_update_id
        for side in ("bids", "asks"):
            book[side].update(getattr(diff, side))
    if every_ms == 1000:
        return  # the snapshot may lie between two of them
    assert update_id == end.last_update_id
    standing = {side: {price: quantity for price, quantity in levels.items() if quantity} for side, levels in book.items()}
    assert standing == {"bids": dict(end.bids), "asks": dict(end.asks)}
    assert list(end.bids) == sorted(end.bids, reverse=True)
    assert list(end.asks) == sorted(end.asks)
    assert 0 < end.bids[0][0] < end.asks[0][0]


@settings(deadline=None, max_examples=30)
@given(any_symbol, any_time)
def test_slow_diffs_are_the_fast_ones_together(symbol: str, time_ms: int) -> None:
    """The diff of a second changes the book as those of its 100 ms do."""
    from_ms = (listed(symbol, time_ms) + 30 * SECOND_MS) // 10_000 * 10_000 + 10_000
    [*slow] = market().depth_diffs(symbol, from_ms, from_ms + 10_001, 1000)
    fast = market().depth_diffs(symbol, from_ms - 999, from_ms + 10_001, 100)
    for diff in slow:
        parts = [part for part in fast if diff.first_update_id <= part.first_update_id and part.last_update_id <= diff.last_update_id]
        assert (parts[0].first_update_id, parts[-1].last_update_id) == (diff.first_update_id, diff.last_update_id)
        for side in ("bids", "asks"):
            together = dict(level for part in parts for level in getattr(part, side))
            assert set(getattr(diff, side)) <= set(together.items())


@settings(deadline=None, max_examples=30)
@given(any_symbol, any_time)
def test_the_top_of_the_book_is_the_ticker_and_holds_the_last_trade(symbol: str, time_ms: int) -> None:
    """At each update id book and bookTicker agree, and the last trade was made at one of the two prices."""
    from_ms = listed(symbol, time_ms) + 20 * SECOND_MS
    for ticker in market().book_tickers(symbol, from_ms, from_ms + 10_000)[:3]:
        book = market().depth(symbol, ticker.time_ms + 1, 1)
        assert book is not None
        assert book.last_update_id == ticker.update_id
        assert (book.bids[0], book.asks[0]) == ((ticker.bid, ticker.bid_quantity), (ticker.ask, ticker.ask_quantity))
        newest = market().trade_id_at(symbol, ticker.time_ms) - 1
        [trade] = market().trades_by_id(symbol, newest, 1, ticker.time_ms)
        assert trade.price == (ticker.bid if trade.buyer_is_maker else ticker.ask)


@settings(deadline=None, max_examples=100)
@given(any_time)
def test_values_fit_and_sizes_are_multiples(open_ms: int) -> None:
    """At any time each price is a positive multiple of its tick, each volume of its step, and no column overflows."""
    every = market().seconds(open_ms)
    ticks = np.array([info.tick for info in market().symbols.values()])
    steps = np.array([info.step for info in market().symbols.values()])
    for prices in (every.open, every.high, every.low, every.close):
        assert (prices > 0).all()
        assert not (prices % ticks).any()
    assert (every.low <= np.minimum(every.open, every.close)).all()
    assert (every.high >= np.maximum(every.open, every.close)).all()
    assert not (every.base_volume % steps).any()
    assert (every.taker_base_volume <= every.base_volume).all()
    approximately = every.close / UNIT * every.base_volume
    assert np.allclose(every.quote_volume, approximately, rtol=0.02, atol=2)


def test_two_processes_make_the_same_market() -> None:
    """Another process, with another hash seed and fewer symbols, gives the same numbers."""
    code = f"from {__name__} import SeededMarket, digest; print(digest(SeededMarket({SEED}, 40)))"
    environment = {"PYTHONHASHSEED": "5"}
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert other.stdout.strip() == digest(market())


def digest(of: SeededMarket) -> str:
    """A hash over the seconds of some symbols at some times."""
    made = hashlib.sha256()
    for open_ms in (1_600_000_000_000, 1_795_000_000_000, 2_000_000_000_000):
        seconds = of.seconds(open_ms, 1000, NAMES[:40])
        for field in dataclasses.fields(Seconds)[2:]:
            made.update(getattr(seconds, field.name).tobytes())
    return made.hexdigest()
