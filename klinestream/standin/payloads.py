"""Payloads of the streams and rows of REST, with the exchange's own names and order of keys."""

from typing import Any

import orjson

from klinestream.market.decimals import show
from klinestream.standin.frames import Unit
from klinestream.standin.market import AggTrade, BookTicker, Candle, DepthDiff, DepthSnapshot, Levels, MiniTicker, Trade


def at(time_ms: int, unit: Unit) -> int:
    """A time on the wire."""
    return time_ms * unit.value


def close_at(close_time_ms: int, unit: Unit) -> int:
    """The last unit of time of a candle: …999 ms or …999999 µs."""
    return (close_time_ms + 1) * unit.value - 1


def kline_body(symbol: str, interval: str, candle: Candle, unit: Unit) -> bytes:
    """The part `k` of a kline frame. Text, since some thousand are made a second."""
    closed = "true" if candle.closed else "false"
    return (
        f'{{"t":{at(candle.open_time_ms, unit)},"T":{close_at(candle.close_time_ms, unit)},"s":"{symbol}","i":"{interval}",'
        f'"f":{candle.first_trade_id},"L":{candle.last_trade_id},'
        f'"o":"{show(candle.open)}","c":"{show(candle.close)}","h":"{show(candle.high)}","l":"{show(candle.low)}",'
        f'"v":"{show(candle.base_volume)}","n":{candle.trades},"x":{closed},"q":"{show(candle.quote_volume)}",'
        f'"V":"{show(candle.taker_base_volume)}","Q":"{show(candle.taker_quote_volume)}","B":"0"}}'
    ).encode()


def kline(symbol: str, body: bytes, event_ms: int, unit: Unit) -> bytes:
    """A kline frame around its body."""
    return b'{"e":"kline","E":%d,"s":"%b","k":%b}' % (at(event_ms, unit), symbol.encode(), body)


def trade(symbol: str, made: Trade, unit: Unit) -> bytes:
    """A trade frame."""
    return orjson.dumps(
        {
            "e": "trade",
            "E": at(made.event_ms, unit),
            "s": symbol,
            "t": made.id,
            "p": show(made.price),
            "q": show(made.quantity),
            "T": at(made.time_ms, unit),
            "m": made.buyer_is_maker,
            "M": True,
        }
    )


def agg_trade(symbol: str, made: AggTrade, unit: Unit) -> bytes:
    """An aggTrade frame: REST's row with a head."""
    return orjson.dumps({"e": "aggTrade", "E": at(made.event_ms, unit), "s": symbol} | agg_trade_row(made, unit))


def mini_ticker(ticker: MiniTicker, event_ms: int, unit: Unit) -> dict[str, Any]:
    """A miniTicker, alone or in the array of all."""
    return {
        "e": "24hrMiniTicker",
        "E": at(event_ms, unit),
        "s": ticker.symbol,
        "c": show(ticker.close),
        "o": show(ticker.open),
        "h": show(ticker.high),
        "l": show(ticker.low),
        "v": show(ticker.base_volume),
        "q": show(ticker.quote_volume),
    }


def book_ticker(symbol: str, best: BookTicker) -> bytes:
    """A bookTicker frame, which has neither type nor time."""
    return orjson.dumps(
        {
            "u": best.update_id,
            "s": symbol,
            "b": show(best.bid),
            "B": show(best.bid_quantity),
            "a": show(best.ask),
            "A": show(best.ask_quantity),
        }
    )


def depth_update(symbol: str, diff: DepthDiff, unit: Unit) -> bytes:
    """A frame of the diff depth stream."""
    return orjson.dumps(
        {
            "e": "depthUpdate",
            "E": at(diff.event_ms, unit),
            "s": symbol,
            "U": diff.first_update_id,
            "u": diff.last_update_id,
            "b": levels(diff.bids),
            "a": levels(diff.asks),
        }
    )


def server_shutdown(event_ms: int, unit: Unit) -> bytes:
    """The announcement that the server is about to go."""
    return orjson.dumps({"e": "serverShutdown", "E": at(event_ms, unit)})


def book(snapshot: DepthSnapshot) -> dict[str, Any]:
    """A snapshot of the book: REST's depth, and the partial depth stream."""
    return {"lastUpdateId": snapshot.last_update_id, "bids": levels(snapshot.bids), "asks": levels(snapshot.asks)}


def levels(side: Levels) -> list[tuple[str, str]]:
    """Price and quantity as text."""
    return [(show(price), show(quantity)) for price, quantity in side]


def kline_row(candle: Candle, unit: Unit) -> list[Any]:
    """A row of REST's klines; its order of prices is not the stream's."""
    return [
        at(candle.open_time_ms, unit),
        show(candle.open),
        show(candle.high),
        show(candle.low),
        show(candle.close),
        show(candle.base_volume),
        close_at(candle.close_time_ms, unit),
        show(candle.quote_volume),
        candle.trades,
        show(candle.taker_base_volume),
        show(candle.taker_quote_volume),
        "0",
    ]


def trade_row(made: Trade, unit: Unit) -> dict[str, Any]:
    """An item of REST's trades."""
    return {
        "id": made.id,
        "price": show(made.price),
        "qty": show(made.quantity),
        "quoteQty": show(made.quote_quantity),
        "time": at(made.time_ms, unit),
        "isBuyerMaker": made.buyer_is_maker,
        "isBestMatch": True,
    }


def agg_trade_row(made: AggTrade, unit: Unit) -> dict[str, Any]:
    """An item of REST's aggTrades."""
    return {
        "a": made.id,
        "p": show(made.price),
        "q": show(made.quantity),
        "f": made.first_trade_id,
        "l": made.last_trade_id,
        "T": at(made.time_ms, unit),
        "m": made.buyer_is_maker,
        "M": True,
    }
