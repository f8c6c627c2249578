"""Ordered rows as the events' own tables and records."""

import time
from collections.abc import Iterator

import orjson
import polars as pl
import pyarrow as pa

from klinestream.archive.bulk.names import AGG_TRADES
from klinestream.archive.bulk.names import TRADES as TRADES_FILES
from klinestream.archive.bulk.tables import AGG_TRADE_SCHEMA, CANDLE_SCHEMA, KLINE_SCHEMA, TRADE_SCHEMA
from klinestream.archive.bulk.taking import TRADE_FOLDERS
from klinestream.archive.columns import layout
from klinestream.market.codec import encode_event
from klinestream.market.events import CandleHistory, CandleOrigin, HistoryReason, Kline, Origin, Trade
from klinestream.market.topics import CANDLE_HISTORY, KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION, TRADES
from klinestream.runtime.kafka import Record

_TRADE_SCHEMA = pa.schema([pa.field(column.name, column.type) for column in layout(Trade).columns])
_CANDLES_A_RECORD_MOST = 500
_ROWS_AT_ONCE = 20_000


def kline_table(rows: pl.DataFrame, source: str) -> pa.Table:
    """As `crypto_kline_data` has them in the archive."""
    opened = pl.col("time_us") // 1000
    found = rows.with_columns(
        opened.alias("open_time_ms"),
        (opened + 999).alias("close_time_ms"),
        pl.col("first_id").alias("first_trade_id"),
        pl.col("last_id").alias("last_trade_id_within"),
        pl.col("newest_id").alias("last_trade_id"),
        pl.lit(Origin.FILE.value).alias("origin"),
        pl.lit(source).alias("source"),
    )
    return found.select(KLINE_SCHEMA.names).to_arrow().cast(KLINE_SCHEMA)


def candle_table(rows: pl.DataFrame, interval: str, length_ms: int) -> pa.Table:
    """As imported candles stand in the archive: those of another's making, as history is."""
    opened = pl.col("time_us") // 1000
    found = rows.with_columns(
        opened.alias("open_time_ms"),
        (opened + length_ms - 1).alias("close_time_ms"),
        pl.lit(interval).alias("interval"),
        pl.col("first_id").alias("first_trade_id"),
        pl.col("last_id").alias("last_trade_id"),
        pl.lit(0).alias("klines"),
        pl.lit(value=True).alias("complete"),
        pl.lit(CandleOrigin.HISTORY.value).alias("origin"),
        pl.lit(None, pl.Int64).alias("revision"),
    )
    return found.select(CANDLE_SCHEMA.names).to_arrow().cast(CANDLE_SCHEMA)


def trade_table(rows: pl.DataFrame, source: str) -> pa.Table:
    """As `crypto_trades` has them."""
    found = rows.with_columns(
        (pl.col("time_us") // 1000).alias("time_ms"),
        pl.col("maker").alias("buyer_is_maker"),
        pl.lit(None, pl.List(pl.String)).alias("conditions"),
        pl.lit(Origin.FILE.value).alias("origin"),
        pl.lit(source).alias("source"),
    )
    return found.select(_TRADE_SCHEMA.names).to_arrow().cast(_TRADE_SCHEMA)


def archived_trades(rows: pl.DataFrame) -> tuple[str, pa.Table]:
    """As the archive keeps trades, single ones or those that the exchange gives as one: its folder, and the table."""
    are_named = bool(rows["aggregate_id"].is_not_null().all())
    are_aggregates = are_named or bool((rows["first_id"] != rows["last_id"]).any())
    schema = AGG_TRADE_SCHEMA if are_aggregates else TRADE_SCHEMA
    found = rows.with_columns(
        pl.col("aggregate_id" if are_named else "first_id").alias("id"),
        pl.col("first_id").alias("first_trade_id"),
        pl.col("last_id").alias("last_trade_id"),
        pl.lit(None, pl.Decimal(38, 8)).alias("quote_quantity"),
        pl.col("maker").alias("buyer_is_maker"),
    )
    return TRADE_FOLDERS[AGG_TRADES if are_aggregates else TRADES_FILES], found.select(schema.names).to_arrow().cast(schema)


def kline_records(rows: pl.DataFrame, source: str) -> Iterator[Record]:
    """Of `crypto_kline_data`, by time."""
    yield from _records(kline_table(rows.sort("time_us", "symbol"), source), Kline, KLINES.name, "T")


def trade_records(rows: pl.DataFrame, source: str) -> Iterator[Record]:
    """Of `crypto_trades`, by ms and id."""
    yield from _records(trade_table(rows.sort(pl.col("time_us") // 1000, "symbol", "first_id"), source), Trade, TRADES.name, "T")


def candle_records(rows: pl.DataFrame, interval: str, length_ms: int) -> Iterator[Record]:
    """Of `crypto_candle_history`: candles that follow each other, up to 500 in a record."""
    for (symbol,), mine in rows.partition_by("symbol", as_dict=True, maintain_order=True).items():
        table = candle_table(mine, interval, length_ms)
        names = ("open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
        # Not Arrow's text, which is 4.5E-7 of what is small: who reads candles takes plain decimals alone.
        shown = {name: [f"{value:.8f}" for value in table.column(name).to_pylist()] for name in names}
        opens, closes, trades = (table.column(name).to_pylist() for name in ("open_time_ms", "close_time_ms", "trades"))
        *prices, base, quote, taker_base, taker_quote = shown.values()
        each = zip(opens, *prices, base, closes, quote, trades, taker_base, taker_quote, strict=True)
        run: list[tuple[object, ...]] = []
        for row in each:
            if run and (row[0] != run[-1][0] + length_ms or len(run) == _CANDLES_A_RECORD_MOST):  # type: ignore[operator]  # a time
                yield _history(str(symbol), interval, run)
                run = []
            run.append(row)
        if run:
            yield _history(str(symbol), interval, run)


def _history(symbol: str, interval: str, run: list[tuple[object, ...]]) -> Record:
    value = encode_event(CandleHistory(symbol, interval, HistoryReason.START, tuple(run)))
    return Record(CANDLE_HISTORY.name, symbol.encode(), value, int(run[-1][6]), _headers())  # type: ignore[call-overload]  # a time


def _records(table: pa.Table, event: type, topic: str, time_name: str) -> Iterator[Record]:
    shape = layout(event)
    for part in range(0, len(table), _ROWS_AT_ONCE):
        some = table.slice(part, _ROWS_AT_ONCE).combine_chunks()
        headers = _headers()
        arrays = [pa.concat_arrays([*some.column(column.name).chunks, pa.array([], column.type)]) for column in shape.columns]
        for found in shape.objects(arrays):
            yield Record(topic, found["s"].encode(), orjson.dumps(found), found[time_name], headers)


def _headers() -> tuple[tuple[str, bytes], ...]:
    return (SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % (time.time_ns() // 1_000_000))
