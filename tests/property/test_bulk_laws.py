"""The laws of bulk import: exact, the same from klines and from trades, and nothing that was damaged gets in."""

import functools
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.archive.bulk.amounts import amounts, decimals, price_decimals, prices
from klinestream.archive.bulk.store import Store
from klinestream.archive.bulk.tables import klines_from
from klinestream.archive.columns import PRICE, VOLUME
from klinestream.market.decimals import PRICE_MOST, UNIT
from klinestream.market.errors import ArchiveError
from klinestream.market.events import Kline
from klinestream.market.reconcile import AggTrade, klines_from_agg_trades
from klinestream.market.trade_seconds import Before, TradeColumns, filled, traded_seconds
from klinestream.standin.bulk import sign
from tests.bulk import DAY, FIRST_OF_US, LAST_OF_MS, SYMBOL, contents, days, hours, made, market, of_market, store, taken
from tests.klines import START_MS

SPAN_S = 20
SECONDS = "crypto_kline_data/date={}/" + SYMBOL + ".parquet"
NOT_FROM_KLINES = ("first_trade_id", "last_trade_id_within", "last_trade_id")


@st.composite
def agg_trades(draw: st.DrawFn) -> list[AggTrade]:
    """In order of time, their ids without a hole; any prices and quantities, as far as the sums are not beyond all reason."""
    steps = draw(st.lists(st.integers(0, 3000), max_size=12))
    found: list[AggTrade] = []
    next_id = draw(st.integers(1, 10**12))
    for number, offset in enumerate(accumulate(steps)):
        price = draw(st.one_of(st.integers(1, 10**12), st.integers(1, PRICE_MOST)))
        quantity = draw(st.integers(0, min(10**15 * UNIT - 1, 10**33 // price)))
        last = next_id + draw(st.integers(0, 5))
        found.append(AggTrade(number, price, quantity, next_id, last, START_MS + offset, draw(st.booleans())))
        next_id = last + 1
    return [trade for trade in found if trade.time_ms < START_MS + SPAN_S * 1000]


def columns(trades: list[AggTrade]) -> TradeColumns:
    times, first, last, price = (
        np.array([getattr(trade, name) for trade in trades], np.int64) for name in ("time_ms", "first_trade_id", "last_trade_id", "price")
    )
    quantities = np.array([divmod(trade.quantity, UNIT) for trade in trades], np.int64).reshape(-1, 2).T
    return TradeColumns(times, first, last, price, quantities, np.array([trade.buyer_is_maker for trade in trades], np.bool_))


@given(agg_trades(), st.booleans())
def test_columns_of_trades_make_the_klines_that_trades_make_one_by_one(trades: list[AggTrade], known: bool) -> None:
    """To the last digit of every field, however large prices and quantities are, the close before known or not."""
    to_ms = START_MS + SPAN_S * 1000
    before = Before(7, trades[0].first_trade_id - 1) if known and trades else None
    made_at_once = klines_from("BTCUSDT", filled(traded_seconds(columns(trades)), START_MS, to_ms, before)).to_pylist()
    one_by_one = klines_from_agg_trades("BTCUSDT", trades, START_MS, to_ms, before.close if before else None)
    assert len(made_at_once) == len(one_by_one)
    for at_once, kline in zip(made_at_once, one_by_one, strict=True):
        last_id = kline.last_trade_id if kline.last_trade_id is not None or before is None else before.last_id
        assert {name: told(value) for name, value in at_once.items()} == fields(kline) | {"last_trade_id": last_id, "proof": "ids"}


def told(value: object) -> object:
    return int(value.scaleb(8)) if hasattr(value, "scaleb") else value


def fields(kline: Kline) -> dict[str, object]:
    return {name: getattr(kline, name) for name in Kline.__slots__}


@given(st.lists(st.integers(0, 10**15 * UNIT - 1)), st.lists(st.integers(1, PRICE_MOST)))
def test_columns_of_decimals_lose_nothing(volumes: list[int], some_prices: list[int]) -> None:
    """There and back, up to fifteen digits before the point, and up to the greatest price."""
    halves = np.array([divmod(value, UNIT) for value in volumes], np.int64).reshape(-1, 2).T
    column = decimals(halves, VOLUME)
    column.validate(full=True)
    assert [told(value) for value in column.to_pylist()] == volumes
    assert np.array_equal(amounts(column), halves)
    column = price_decimals(np.array(some_prices, np.int64), PRICE)
    assert [told(value) for value in column.to_pylist()] == some_prices
    assert prices(column).tolist() == some_prices


@pytest.mark.parametrize("value", [-1, -(10**25), 10**15 * UNIT, 10**29])
def test_amounts_outside_of_what_a_market_has_are_refused(value: int) -> None:
    """Below 0, or of more than fifteen digits before the point."""
    with pytest.raises(ValueError, match="expected numbers from 0, of at most 15 digits"):
        amounts(pa.array([Decimal(value).scaleb(-8)], VOLUME))


@functools.cache
def whole_file() -> tuple[bytes, bytes]:
    """A bulk file, and all that comes of it."""
    with TemporaryDirectory() as folder:
        path = made(Path(folder), f"BTCUSDT-1h-{DAY}", hours())
        into = store()
        taken(into, path)
        return path.read_bytes(), rows_in(into)


def rows_in(into: Store) -> bytes:
    kept = into.read("crypto_candle_history/interval=1h/BTCUSDT-2024-05.parquet")
    assert kept is not None
    return str(kept.table.to_pylist()).encode()


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_is_refused_or_tells_the_same(data: st.DataObject) -> None:
    """A flipped bit anywhere, or a file cut off anywhere: the checksum finds it; with a new one the zip and its rows do."""
    body, right = whole_file()
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        damaged = body[:place] + bytes([body[place] ^ 1 << data.draw(st.integers(0, 7))]) + body[place + 1 :]
    else:
        damaged = body[:place]
    with TemporaryDirectory() as folder:
        path = made(Path(folder), f"BTCUSDT-1h-{DAY}", hours())
        path.write_bytes(damaged)
        into = store()
        with pytest.raises(ArchiveError, match="damaged"):
            taken(into, path)
        assert contents(into) == {}
        sign(path)
        try:
            taken(into, path)
        except ArchiveError:
            assert contents(into) == {}
        else:
            assert rows_in(into) == right  # what was hit says nothing of the content, such as the time in the zip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bulk")


def seconds_of(into: Store, day_ms: int) -> pl.DataFrame:
    kept = into.read(SECONDS.format(datetime.fromtimestamp(day_ms / 1000, UTC).strftime("%Y-%m-%d")))
    assert kept is not None
    found = pl.from_arrow(kept.table)
    assert isinstance(found, pl.DataFrame)
    return found


def of_the_market(day_ms: int) -> dict[str, list[int]]:
    seconds = market().seconds(day_ms, 86_400, [SYMBOL])
    names = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume", "trades")
    return {name: getattr(seconds, name)[:, 0].tolist() for name in names} | {
        "first_trade_id": seconds.first_trade_id[:, 0].tolist(),
        "last_trade_id_within": seconds.last_trade_id[:, 0].tolist(),
    }


def test_klines_trades_and_agg_trades_tell_the_same_as_the_market(folder: Path) -> None:
    """Over the border of 2025, where times become µs: field by field, and a minute's candle is the sum of its seconds."""
    klines = of_market(folder, "klines", "1s")
    trades = of_market(folder, "trades")
    agg = of_market(folder, "aggTrades")
    from_klines, from_trades, from_agg = store(), store(), store()
    taken(from_klines, *klines)
    told = taken(from_trades, *trades)
    taken(from_agg, *agg)
    for number, day_ms in enumerate(days(LAST_OF_MS, FIRST_OF_US)):
        ours, theirs = seconds_of(from_trades, day_ms), seconds_of(from_klines, day_ms)
        unknown = told[number].told.unknown
        assert unknown == 0 or number == 0  # nobody told what was before the first trade
        assert ours.drop(*NOT_FROM_KLINES, "proof").equals(theirs[unknown:].drop(*NOT_FROM_KLINES, "proof"))
        assert ours.equals(seconds_of(from_agg, day_ms))
        assert theirs.select(pl.col(NOT_FROM_KLINES).null_count()).row(0) == (86_400,) * 3
        for name, values in of_the_market(day_ms).items():
            mine = ours[name] if ours[name].dtype == pl.Int64 else (ours[name] * 10**8).cast(pl.Int64)
            assert mine.to_list() == values[unknown:], name
        newest = ours["last_trade_id_within"].replace(-1, None).forward_fill()
        assert ours["last_trade_id"].slice(86_400 - len(ours)).equals(newest.fill_null(ours["first_trade_id"].replace(-1, None).min() - 1))
    minutes = store()
    taken(minutes, *of_market(folder, "klines", "1m", FIRST_OF_US, FIRST_OF_US))
    assert minutes_of(minutes).equals(sums(seconds_of(from_klines, next(days(FIRST_OF_US, FIRST_OF_US)))))
    # Beside each other: the klines stay, whichever came first, and nothing contradicts.
    one, other = store(), store()
    assert not any(outcome.mismatches for outcome in [*taken(one, *klines, *trades), *taken(other, *trades, *klines)])
    assert tables_in(one) == tables_in(other)


def tables_in(into: Store) -> dict[str, bytes]:
    return {place: body for place, body in contents(into).items() if place.endswith(".parquet")}


def minutes_of(into: Store) -> pl.DataFrame:
    kept = into.read(f"crypto_candle_history/interval=1m/{SYMBOL}-2025-01.parquet")
    assert kept is not None
    found = pl.from_arrow(kept.table)
    assert isinstance(found, pl.DataFrame)
    return found.select("open_time_ms", "open", "high", "low", "close", "base_volume", "taker_quote_volume", "trades")


def sums(seconds: pl.DataFrame) -> pl.DataFrame:
    return seconds.group_by(pl.col("open_time_ms") // 60_000 * 60_000, maintain_order=True).agg(
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("base_volume", "taker_quote_volume", "trades").sum(),
    )


def test_where_klines_and_trades_contradict_each_other_the_klines_stay(tmp_path: Path) -> None:
    """Each field that differs is named; in either order the archive comes to the same."""
    start = next(days(FIRST_OF_US, FIRST_OF_US)) * 1000
    flat = "2.00000000,2.00000000,2.00000000,2.00000000"
    rows = [
        f"{start + n * 10**6},{flat},0.00000000,{start + n * 10**6 + 999_999},0.00000000,0,0.00000000,0.00000000,0" for n in range(86_400)
    ]
    rows[3] = rows[3].replace("2.00000000,0.00000000", "2.00000000,1.50000000", 1).replace(",0.00000000,0,0", ",3.00000002,1,0", 1)
    klines = made(tmp_path, "BTCUSDT-1s-2025-01-01", rows)
    trades = made(tmp_path, "BTCUSDT-trades-2025-01-01", [f"7,2.00000000,1.50000001,3.00000002,{start + 3_000_500},True,True"])
    one, other = store(), store()
    expected = ["2025-01-01 00:00:03: v is 1.50000000 in klines, 1.50000001 from trades"]
    assert taken(one, klines, trades)[1].mismatches == expected
    assert taken(other, trades, klines)[1].mismatches == expected
    assert tables_in(one) == tables_in(other)
