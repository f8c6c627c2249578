"""Imported rows as tables: klines and candles in the columns of their events, trades in columns of their own.

The exchange's klines are as REST would give them: `origin` is rest, trade ids are unknown, and nothing proves them. Klines from
trades know theirs, which continue each other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from klinestream.archive.bulk.amounts import amounts, decimals, price_decimals, prices
from klinestream.archive.bulk.names import AGG_TRADES, KLINES, TRADES, BulkName
from klinestream.archive.bulk.rows import MS_US, Rows, array, ints, table, times_us
from klinestream.archive.columns import LATER, PRICE, VOLUME, as_of_now, layout
from klinestream.market.decimals import Ints
from klinestream.market.events import BINANCE, SECOND_MS, Candle, CandleOrigin, Kline, Origin, Proof
from klinestream.market.trade_seconds import SecondColumns, TradeColumns

KLINE_SCHEMA = pa.schema([pa.field(column.name, column.type) for column in layout(Kline).columns])
CANDLE_SCHEMA = pa.schema([pa.field(column.name, column.type) for column in layout(Candle).columns])
TRADE_SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "time_us": pa.int64(),
        "price": PRICE,
        "quantity": VOLUME,
        "quote_quantity": VOLUME,
        "buyer_is_maker": pa.bool_(),
    }
)
AGG_TRADE_SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "first_trade_id": pa.int64(),
        "last_trade_id": pa.int64(),
        "time_us": pa.int64(),
        "price": PRICE,
        "quantity": VOLUME,
        "buyer_is_maker": pa.bool_(),
    }
)
_TOLD = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume", "trades")


# By what klines were made from.
_PROVED = {
    KLINES: {"source": BINANCE, "proof": Proof.NONE.value},
    TRADES: {"source": BINANCE, "proof": Proof.IDS.value},
}


def with_proof(table: pa.Table, made_from: str) -> pa.Table:
    """Imported klines with source and proof, which tables of an older version lack; any other table as it is."""
    if table.column_names != KLINE_SCHEMA.names[: -len(LATER)]:
        return table
    found = as_of_now(Kline, table)
    for name, value in _PROVED[made_from].items():
        found = found.set_column(KLINE_SCHEMA.get_field_index(name), name, pa.repeat(pa.scalar(value, pa.string()), len(table)))
    return found


def klines_of(name: BulkName, held: list[Rows]) -> pa.Table:
    """The exchange's own 1 s klines."""
    return _told(name, held, KLINE_SCHEMA, {"origin": Origin.REST.value, **_PROVED[KLINES]})


def candles_of(name: BulkName, held: list[Rows]) -> pa.Table:
    """The exchange's own candles; what only a record in Kafka has, its revision, is unknown."""
    known = {"interval": name.interval, "klines": 0, "complete": True, "origin": CandleOrigin.HISTORY.value}
    return _told(name, held, CANDLE_SCHEMA, known)


def trades_of(name: BulkName, held: list[Rows]) -> pa.Table:
    """Trades, or aggregated ones, with their times in µs."""
    schema = AGG_TRADE_SCHEMA if name.kind == AGG_TRADES else TRADE_SCHEMA
    found = table(held, name.kind).append_column("time_us", pa.array(times_us(held)))
    return found.select(schema.names).cast(schema)


def trade_columns(trades: pa.Table) -> TradeColumns:
    """Trades as the engine's arithmetic takes them."""
    first, last = ("first_trade_id", "last_trade_id") if "first_trade_id" in trades.column_names else ("id", "id")
    maker = array(trades, "buyer_is_maker").to_numpy(zero_copy_only=False)
    return TradeColumns(
        ints(trades, "time_us") // MS_US,
        ints(trades, first),
        ints(trades, last),
        prices(array(trades, "price")),
        amounts(array(trades, "quantity")),
        maker,
    )


def klines_from(symbol: str, seconds: SecondColumns) -> pa.Table:
    """Klines that were made from trades."""
    columns: dict[str, Any] = {
        "open": price_decimals(seconds.opens, PRICE),
        "high": price_decimals(seconds.highs, PRICE),
        "low": price_decimals(seconds.lows, PRICE),
        "close": price_decimals(seconds.closes, PRICE),
        "base_volume": decimals(seconds.base, VOLUME),
        "quote_volume": decimals(seconds.quote, VOLUME),
        "taker_base_volume": decimals(seconds.taker_base, VOLUME),
        "taker_quote_volume": decimals(seconds.taker_quote, VOLUME),
        "trades": pa.array(seconds.trades),
        "first_trade_id": pa.array(seconds.first_ids),
        "last_trade_id_within": pa.array(seconds.last_ids_within),
        "last_trade_id": pa.array(seconds.last_ids),
        "origin": Origin.REST.value,
        **_PROVED[TRADES],
    }
    return _table(KLINE_SCHEMA, symbol, seconds.open_times, SECOND_MS, columns)


def _told(name: BulkName, held: list[Rows], schema: pa.Schema, known: dict[str, Any]) -> pa.Table:
    rows = table(held, KLINES)
    columns = {column: array(rows, column) for column in _TOLD}
    return _table(schema, name.symbol, times_us(held) // MS_US, name.length_ms, columns | known)


def _table(schema: pa.Schema, symbol: str, open_times: Ints, length_ms: int, columns: dict[str, Any]) -> pa.Table:
    """What isn't among the columns is null; a value stands for a column of it."""
    times = {"symbol": symbol, "open_time_ms": pa.array(open_times), "close_time_ms": pa.array(open_times + (length_ms - 1))}
    all_columns = times | columns

    def column(field: Any) -> pa.Array:
        found = all_columns.get(field.name)
        return found if isinstance(found, pa.Array) else pa.repeat(pa.scalar(found, field.type), len(open_times))

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)


def first_difference(ours: pa.Table, theirs: pa.Table, key: str, show: Callable[[int], str]) -> str | None:
    """Between rows of the same keys, in the same order: which, in what; None if there is none."""
    for name in ours.column_names:
        mine, other = array(ours, name), array(theirs, name)
        if mine.equals(other):
            continue
        for row in range(len(mine)):
            if mine[row] != other[row]:
                return f"{show(ints(ours, key)[row])}: {name} is {other[row]}, was {mine[row]}"
    return None


def common_rows(ours: Ints, theirs: Ints) -> tuple[Ints, Ints]:
    """Where keys that both have, each ascending, stand in either."""
    _, mine, others = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return mine, others
