"""REST's endpoints as functions from parameters and a time to an answer; no socket, no clock.

A candle in progress is answered as it stands, as the exchange does: its close time lies ahead, its values don't.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from klinestream.runtime.exchange_params import ExchangeFault
from klinestream.standin import payloads
from klinestream.standin.exchange_info import KNOWN as INFO_PARAMS
from klinestream.standin.exchange_info import exchange_info
from klinestream.standin.faults import Faults
from klinestream.standin.frames import Unit
from klinestream.standin.intervals import DAY_MS, HOUR_MS, INTERVALS, MINUTE_MS, Interval, span
from klinestream.standin.klines import merged, spanning
from klinestream.standin.market import Candle, Market
from klinestream.standin.params import Params

DEFAULT_LIMIT, MOST = 500, 1000
DEPTH_DEFAULT, DEPTH_MOST = 100, 5000
DEPTH_WEIGHTS = ((100, 5), (500, 25), (1000, 50), (DEPTH_MOST, 250))
# Candles of another time zone are put together from shorter ones: that many an answer, so that no request holds up the others.
SHORTER_MOST = 20_000
LONGEST_MONTH_MS = 31 * DAY_MS


@dataclass(frozen=True, slots=True)
class Call:
    """One request: what it is asked with, at which time of the market."""

    market: Market
    params: Params
    at_ms: int
    wall_ms: int
    unit: Unit
    faults: Faults
    weight_limit: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: which parameters it has, what it costs, what it answers."""

    params: Collection[str]
    weight: int
    answer: Callable[[Call], Any]


def ping(_call: Call) -> dict[str, Any]:
    """Nothing but that it is there."""
    return {}


def server_time(call: Call) -> dict[str, Any]:
    """The exchange's clock."""
    return {"serverTime": payloads.at(call.at_ms, call.unit)}


def info(call: Call) -> dict[str, Any]:
    """Symbols and trading rules."""
    return exchange_info(call.params, call.market.symbols, payloads.at(call.at_ms, call.unit), call.weight_limit)


def klines(call: Call) -> list[Any]:
    """Candles of one symbol."""
    params, market = call.params, call.market
    symbol, interval = params.symbol(market.symbols), params.interval()
    start_ms, end_ms, zone_ms = params.time_ms("startTime"), params.time_ms("endTime"), params.zone_ms()
    limit = params.limit(DEFAULT_LIMIT, MOST)
    shorter = _shorter(interval, zone_ms)
    if shorter is not interval:
        parts = (interval.length_ms or LONGEST_MONTH_MS) // shorter.length_ms
        limit = min(limit, max(SHORTER_MOST // parts, 1))
    from_ms, to_ms = (
        # In a zone's own time its candles open as UTC's do.
        local_ms - zone_ms
        for local_ms in span(
            interval,
            None if start_ms is None else start_ms + zone_ms,
            None if end_ms is None else end_ms + zone_ms,
            limit,
            listed_ms=market.symbols[symbol].listed_ms + zone_ms,
            at_ms=call.at_ms + zone_ms,
        )
    )
    if shorter is interval:
        candles = market.candles(symbol, interval, from_ms, to_ms, call.at_ms)
    else:
        candles = _zoned(call, symbol, interval, shorter, (from_ms, to_ms))
    rows = (candle for candle in candles if not call.faults.withheld(symbol, candle.open_time_ms, call.wall_ms))
    return [payloads.kline_row(candle, call.unit) for candle in rows]


def trades(call: Call) -> list[Any]:
    """The newest trades."""
    symbol, limit = call.params.symbol(call.market.symbols), call.params.limit(DEFAULT_LIMIT, MOST)
    next_id = call.market.trade_id_at(symbol, call.at_ms)
    made = call.market.trades_by_id(symbol, max(next_id - limit, 0), limit, call.at_ms)
    rows = (trade for trade in made if not call.faults.withheld(symbol, trade.time_ms, call.wall_ms))
    return [payloads.trade_row(trade, call.unit) for trade in rows]


def old_trades(call: Call) -> list[Any]:
    """Single trades from an id on, or the newest."""
    from_id = call.params.integer("fromId")
    if from_id is None:
        return trades(call)
    symbol, limit = call.params.symbol(call.market.symbols), call.params.limit(DEFAULT_LIMIT, MOST)
    made = call.market.trades_by_id(symbol, from_id, limit, call.at_ms)
    rows = (trade for trade in made if not call.faults.withheld(symbol, trade.time_ms, call.wall_ms))
    return [payloads.trade_row(trade, call.unit) for trade in rows]


def agg_trades(call: Call) -> list[Any]:
    """Aggregated trades from an id on, of a span, or the newest."""
    params, market, at_ms = call.params, call.market, call.at_ms
    symbol, limit = params.symbol(market.symbols), params.limit(DEFAULT_LIMIT, MOST)
    from_id, start_ms, end_ms = params.integer("fromId"), params.time_ms("startTime"), params.time_ms("endTime")
    if from_id is not None and (start_ms is not None or end_ms is not None):
        raise ExchangeFault(-1128, "Combination of optional parameters invalid.")
    end_ms = at_ms if end_ms is None else min(end_ms + 1, at_ms)
    if from_id is not None:
        made = market.agg_trades_by_id(symbol, from_id, limit, at_ms)
    elif start_ms is not None:
        made = market.agg_trades(symbol, start_ms, end_ms, limit) if start_ms < end_ms else []
    else:
        next_id = market.agg_trade_id_at(symbol, end_ms)
        made = market.agg_trades_by_id(symbol, max(next_id - limit, 0), limit, end_ms)
    rows = (trade for trade in made if not call.faults.withheld(symbol, trade.time_ms, call.wall_ms))
    return [payloads.agg_trade_row(trade, call.unit) for trade in rows]


def depth(call: Call) -> dict[str, Any]:
    """A snapshot of the book."""
    symbol, limit = call.params.symbol(call.market.symbols), call.params.limit(DEPTH_DEFAULT, DEPTH_MOST)
    _status(call.params)
    snapshot = call.market.depth(symbol, call.at_ms, limit)
    if snapshot is None:
        return {"lastUpdateId": 0, "bids": [], "asks": []}
    return payloads.book(snapshot)


def depth_weight(limit: str | None) -> int:
    """What depth costs, by its limit; one that isn't a number costs the least."""
    asked = int(limit) if limit and limit.isascii() and limit.isdigit() else DEPTH_DEFAULT
    return next((weight for most, weight in DEPTH_WEIGHTS if asked <= most), DEPTH_WEIGHTS[-1][1])


def _status(params: Params) -> None:
    if params.symbol_status() not in (None, "TRADING"):
        raise ExchangeFault(-1220, "The symbol's status does not match the requested symbolStatus.")


def _shorter(interval: Interval, zone_ms: int) -> Interval:
    """The longest interval whose candles make up those of `interval` in a zone; itself where the zone makes no difference."""
    if zone_ms == 0 or (interval.length_ms and zone_ms % interval.length_ms == 0):
        return interval
    fitting = [
        i
        for i in INTERVALS.values()
        if MINUTE_MS <= i.length_ms <= HOUR_MS and zone_ms % i.length_ms == interval.length_ms % i.length_ms == 0
    ]
    return max(fitting, key=lambda i: i.length_ms)


def _zoned(call: Call, symbol: str, interval: Interval, shorter: Interval, opens: tuple[int, int]) -> list[Candle]:
    """The candles of the request's zone that open in the span `opens`."""
    zone_ms = call.params.zone_ms()
    from_ms, to_ms = opens
    if from_ms >= to_ms:
        return []
    end_ms = interval.close_of(interval.open_of(to_ms - 1 + zone_ms)) + 1 - zone_ms
    whole: dict[int, Candle] = {}
    for part in call.market.candles(symbol, shorter, from_ms, end_ms, call.at_ms):
        open_ms = interval.open_of(part.open_time_ms + zone_ms) - zone_ms
        if open_ms in whole:
            whole[open_ms] = merged(whole[open_ms], part)
        else:
            whole[open_ms] = spanning(part, open_ms, interval.close_of(open_ms + zone_ms) - zone_ms)
    return [candle for open_ms, candle in whole.items() if from_ms <= open_ms < to_ms]


_KLINE_PARAMS = ("symbol", "interval", "startTime", "endTime", "timeZone", "limit")

ENDPOINTS = {
    "/api/v3/ping": Endpoint((), 1, ping),
    "/api/v3/time": Endpoint((), 1, server_time),
    "/api/v3/exchangeInfo": Endpoint(INFO_PARAMS, 20, info),
    "/api/v3/klines": Endpoint(_KLINE_PARAMS, 2, klines),
    "/api/v3/uiKlines": Endpoint(_KLINE_PARAMS, 2, klines),
    "/api/v3/aggTrades": Endpoint(("symbol", "fromId", "startTime", "endTime", "limit"), 4, agg_trades),
    "/api/v3/trades": Endpoint(("symbol", "limit"), 25, trades),
    "/api/v3/historicalTrades": Endpoint(("symbol", "fromId", "limit"), 25, old_trades),
    "/api/v3/depth": Endpoint(("symbol", "limit", "symbolStatus"), DEPTH_WEIGHTS[0][1], depth),
}
