"""Candles as rows of the exchange's klines, and the markets that they are of. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import orjson

from klinestream.market.codec import decode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import ProvisionalCandles
from klinestream.market.intervals import INTERVALS
from server.candles.rows import Rows
from server.rest.query import Span, chosen
from server.rest.tables import candles

# Of several that fit the other symbols tell which, else the longest counts; what none fits ends in three letters.
_QUOTE_NAMES = (
    "USDT USDC FDUSD TUSD BUSD USDP USDS DAI USD1 RLUSD USD BTC ETH BNB XRP TRX DOGE DOT SOL "
    "EUR EURI AEUR GBP AUD TRY BRL ARS COP MXN PLN RON CZK UAH ZAR NGN RUB JPY"
)
QUOTES = tuple(_QUOTE_NAMES.split())
_TINY = "0.00000001"
_FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": _TINY, "maxPrice": "92233720368.00000000", "tickSize": _TINY},
    {"filterType": "LOT_SIZE", "minQty": _TINY, "maxQty": "92233720368.00000000", "stepSize": _TINY},
    {"filterType": "NOTIONAL", "minNotional": _TINY, "applyMinToMarket": False, "maxNotional": "92233720368.00000000"}
    | {"applyMaxToMarket": False, "avgPriceMins": 5},
]


def kline_rows(symbol: str, interval: str, rows: Rows, provisional: bytes | None, span: Span) -> list[list[Any]]:
    """The rows of a span of open times: closed candles, and after them the one in progress."""
    going = in_progress(interval, provisional)
    times = rows["t"]
    if going is not None and (not len(times) or going[0] > times[-1]):
        times = np.append(times, going[0])
    which, _ = chosen(times, span)
    table = candles(symbol, interval, rows[which]).columns
    names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")
    found = [[*row, "0"] for row in zip(*(table[name] for name in names), strict=True)]
    if going is not None and which.stop > len(rows) and which.stop > which.start:
        found.append(going)
    return found


def in_progress(interval: str, provisional: bytes | None) -> list[Any] | None:
    """The row of the candle in progress; None if there is none."""
    if provisional is None:
        return None
    try:
        record = decode_event(ProvisionalCandles, provisional)
        *numbers, trades, _ = record.candles[interval]
        first, high, low, last, base, quote, taker_base, taker_quote = (f"{number:.8f}" for number in numbers)
    except (RecordError, KeyError, ValueError, TypeError):
        return None  # it is newest only until the next second
    opened = record.close_time_ms - record.close_time_ms % INTERVALS[interval]
    closes = opened + INTERVALS[interval] - 1
    return [opened, first, high, low, last, base, closes, quote, int(trades), taker_base, taker_quote, "0"]


def exchange_info(symbols: Iterable[str], now_ms: int, weight_per_minute: int) -> bytes:
    """The answer to exchangeInfo: markets to read from, none to trade on."""
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_per_minute}
    names = list(symbols)
    found = [_market(symbol, quote) for symbol, quote in zip(names, quotes_of(names), strict=True)]
    return orjson.dumps({"timezone": "UTC", "serverTime": now_ms, "rateLimits": [limit], "exchangeFilters": [], "symbols": found})


def quotes_of(symbols: Sequence[str]) -> list[str]:
    """The quote asset of each symbol; where its name fits several, the others tell which.

    >>> quotes_of(["ADAEUR", "ADAUSDT", "BTCEUR"])
    ['EUR', 'USDT', 'EUR']
    """
    fitting = [[quote for quote in QUOTES if symbol.endswith(quote) and symbol != quote] for symbol in symbols]
    bases = Counter(symbol.removesuffix(quotes[0]) for symbol, quotes in zip(symbols, fitting, strict=True) if len(quotes) == 1)
    return [
        max(quotes, key=lambda quote: (bases[symbol.removesuffix(quote)], len(quote))) if len(quotes) > 1 else _quote_of(symbol, quotes)
        for symbol, quotes in zip(symbols, fitting, strict=True)
    ]


def _quote_of(symbol: str, fitting: Sequence[str]) -> str:
    # Its name is all that the topics tell.
    return fitting[0] if fitting else symbol[-3:]


def _market(symbol: str, quote: str) -> dict[str, Any]:
    base = symbol.removesuffix(quote) or symbol
    return {
        "symbol": symbol,
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": [],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "quoteOrderQtyMarketAllowed": False,
        "allowTrailingStop": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _FILTERS,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }
