"""The recorded market against klines that DuckDB makes straight from the recorded files."""

import functools
from pathlib import Path

import duckdb
import pytest

from klinestream.standin.intervals import INTERVALS, MINUTE_MS
from klinestream.standin.market import Candle
from klinestream.standin.recorded import RecordedMarket

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
FIRST_MINUTE_MS, END_MS = 1_723_161_300_000, 1_723_161_900_000  # ten whole minutes, 23:55 to 00:05
KNOWN_MS, KNOWN_END_MS = 1_723_161_256_000, 1_723_161_905_000  # the whole seconds
QUIET_SECONDS = {"BTCUSDT": 6, "ETHUSDT": 36}  # of the ten minutes
QUIET_SECONDS_OF_ALL = {"BTCUSDT": 6, "ETHUSDT": 41}

pytestmark = pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")

# Prices and volumes as integers of 1e-8; a line is a clock, a space and the frame.
TRADES = """
    WITH frames AS (
        SELECT substr(line, strpos(line, ' ') + 1)::JSON AS frame
        FROM read_csv('{files}', columns = {{'line': 'VARCHAR'}}, delim = '\\x01', quote = '', escape = '', header = false,
                      max_line_size = 9000000)
        WHERE line LIKE '%@trade"%'
    )
    SELECT
        (frame -> 'data' ->> 't')::BIGINT AS id,
        (frame -> 'data' ->> 'T')::BIGINT AS time,
        ((frame -> 'data' ->> 'p')::DECIMAL(30, 8) * 100000000)::HUGEINT AS price,
        ((frame -> 'data' ->> 'q')::DECIMAL(30, 8) * 100000000)::HUGEINT AS quantity,
        (frame -> 'data' ->> 'm')::BOOLEAN AS maker
    FROM frames
"""
KLINES = """
    SELECT
        time // {length} * {length} AS opened,
        arg_min(price, id) AS open, max(price) AS high, min(price) AS low, arg_max(price, id) AS close,
        sum(quantity) AS base, sum(price * quantity // 100000000) AS quote,
        coalesce(sum(quantity) FILTER (NOT maker), 0) AS taker_base,
        coalesce(sum(price * quantity // 100000000) FILTER (NOT maker), 0) AS taker_quote,
        count(*) AS trades, min(id) AS first_id, max(id) AS last_id
    FROM trades GROUP BY opened ORDER BY opened
"""


@functools.cache
def market() -> RecordedMarket:
    return RecordedMarket(FRAMES, 0, retime=False)


@functools.cache
def database(symbol: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE trades AS " + TRADES.format(files=FRAMES / f"{symbol.lower()}_*.gz"))
    return connection


def expected(symbol: str, length_ms: int) -> dict[int, tuple[int, ...]]:
    """Open time → the other fields, of the candles with trades."""
    found = database(symbol).execute(KLINES.format(length=length_ms)).fetchall()
    return {int(opened): tuple(int(value) for value in values) for opened, *values in found}


def fields(candle: Candle) -> tuple[int, ...]:
    """All but the times."""
    prices = candle.open, candle.high, candle.low, candle.close
    volumes = candle.base_volume, candle.quote_volume, candle.taker_base_volume, candle.taker_quote_volume
    return *prices, *volumes, candle.trades, candle.first_trade_id, candle.last_trade_id


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_each_second_equals_the_one_made_by_duckdb(symbol: str) -> None:
    """Every whole second with trades equals DuckDB's in every field; the quiet ones carry the close on."""
    klines = expected(symbol, 1000)
    seconds = market().candles(symbol, INTERVALS["1s"], 0, END_MS * 2, END_MS * 2)
    assert [second.open_time_ms for second in seconds] == list(range(KNOWN_MS, KNOWN_END_MS, 1000))
    close = klines[KNOWN_MS - 1000][3]
    for second in seconds:
        quiet = (close, close, close, close, 0, 0, 0, 0, 0, -1, -1)
        assert fields(second) == klines.get(second.open_time_ms, quiet)
        assert second.closed
        close = second.close


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("name", ["1m", "3m", "5m"])
def test_each_candle_equals_the_one_made_by_duckdb(symbol: str, name: str) -> None:
    """Every whole candle equals DuckDB's in every field, and those that are cut off at the edges are not served."""
    interval = INTERVALS[name]
    klines = expected(symbol, interval.length_ms)
    candles = market().candles(symbol, interval, 0, END_MS * 2, END_MS * 2)
    whole = [opened for opened in klines if opened >= KNOWN_MS and opened + interval.length_ms <= KNOWN_END_MS]
    assert [candle.open_time_ms for candle in candles] == whole
    assert [fields(candle) for candle in candles] == [klines[opened] for opened in whole]
    if name == "1m":
        assert whole == list(range(FIRST_MINUTE_MS, END_MS, MINUTE_MS))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_quiet_seconds_are_as_many_as_counted(symbol: str) -> None:
    """The columns agree with the candles, and hold as many seconds without trades as were counted by hand."""
    seconds = market().seconds(KNOWN_MS - 1000, 651, [symbol])
    assert seconds.known[:, 0].tolist() == [False] + [True] * 649 + [False]
    quiet = seconds.open_time_ms[seconds.known[:, 0] & (seconds.trades[:, 0] == 0)]
    assert len(quiet) == QUIET_SECONDS_OF_ALL[symbol]
    assert sum(FIRST_MINUTE_MS <= opened < END_MS for opened in quiet) == QUIET_SECONDS[symbol]
    candles = market().candles(symbol, INTERVALS["1s"], 0, END_MS * 2, END_MS * 2)
    names = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
    names += ("trades", "first_trade_id", "last_trade_id")
    columns = [getattr(seconds, name)[seconds.known[:, 0], 0].tolist() for name in names]
    assert list(zip(*columns, strict=True)) == [fields(candle) for candle in candles]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_book_equals_the_ticker_at_the_same_update(symbol: str) -> None:
    """The book made from snapshot and diffs has the recorded top wherever a bookTicker has the same update id."""
    tops = {ticker.update_id: ticker for ticker in market().book_tickers(symbol, 0, END_MS * 2)}
    diffs = market().depth_diffs(symbol, 0, END_MS * 2)
    both = [diff for diff in diffs if diff.last_update_id in tops]
    assert len(both) > 900
    compared = 0
    for diff in both[::60]:
        book = market().depth(symbol, diff.event_ms + 1, 1000)
        if book is None:
            continue  # before the snapshot
        top = tops[diff.last_update_id]
        assert book.last_update_id == diff.last_update_id
        assert (book.bids[0], book.asks[0]) == ((top.bid, top.bid_quantity), (top.ask, top.ask_quantity))
        compared += 1
    assert compared >= 10


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_agg_trades_hold_all_trades_once(symbol: str) -> None:
    """AggTrades cover every recorded trade id once and their quantities add up."""
    trades = market().trades(symbol, 0, END_MS * 2)
    aggs = market().agg_trades(symbol, 0, END_MS * 2)
    assert [agg.id for agg in aggs] == list(range(len(aggs)))
    ids = [trade_id for agg in aggs for trade_id in range(agg.first_trade_id, agg.last_trade_id + 1)]
    assert ids == [trade.id for trade in trades]
    assert sum(agg.quantity for agg in aggs) == sum(trade.quantity for trade in trades)
    assert 0.3 < len(aggs) / len(trades) < 0.8
