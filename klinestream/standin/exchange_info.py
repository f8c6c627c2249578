"""exchangeInfo: which symbols there are, and their trading rules, with every filter that clients look for."""

from collections.abc import Mapping, Sequence
from typing import Any

from klinestream.market.decimals import UNIT, show
from klinestream.runtime.exchange_params import ExchangeFault, each_once, names_in
from klinestream.standin.market import SymbolInfo
from klinestream.standin.params import Params, known_symbol

KNOWN = ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus")
# All symbols of the stand-in have the permission SPOT and no other; these are exposed where none is asked for.
PERMISSION = "SPOT"
_LEGAL_NAMES = r"""legal range is '^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$'"""

_ORDER_TYPES = ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"]
_PREVENTION_MODES = ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]
_RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
]


def exchange_info(params: Params, symbols: Mapping[str, SymbolInfo], server_time: int, weight_limit: int) -> dict[str, Any]:
    """The answer to exchangeInfo. Raises ExchangeFault."""
    with_sets = params.flag("showPermissionSets", default=True)
    limits = [{**_RATE_LIMITS[0], "limit": weight_limit}, *_RATE_LIMITS[1:]]
    return {
        "timezone": "UTC",
        "serverTime": server_time,
        "rateLimits": limits,
        "exchangeFilters": [],
        "symbols": [_symbol(symbols[name], with_sets=with_sets) for name in _asked_for(params, symbols)],
    }


def _asked_for(params: Params, symbols: Mapping[str, SymbolInfo]) -> Sequence[str]:
    single, several = params.text("symbol"), params.text("symbols")
    permissions, status = params.text("permissions"), params.text("symbolStatus")
    if sum(value is not None for value in (single, several)) + (permissions is not None or status is not None) > 1:
        raise ExchangeFault(-1128, "Combination of optional parameters invalid.")
    params.symbol_status()
    if single is not None:
        return [known_symbol(single, "symbol", symbols)]
    if several is not None:
        return [known_symbol(name, "symbols", symbols) for name in each_once(names_in(several, "symbols", _LEGAL_NAMES))]
    wanted = _permissions(permissions)
    return list(symbols) if PERMISSION in wanted and status in (None, "TRADING") else []


def _permissions(value: str | None) -> Sequence[str]:
    if value is None:
        return [PERMISSION]
    return names_in(value, "permissions", _LEGAL_NAMES) if value.startswith("[") else [value]


def _symbol(info: SymbolInfo, *, with_sets: bool) -> dict[str, Any]:
    return {
        "symbol": info.name,
        "status": "TRADING",
        "baseAsset": info.base,
        "baseAssetPrecision": 8,
        "quoteAsset": info.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _ORDER_TYPES,
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(info),
        "permissions": [],
        "permissionSets": [[PERMISSION]] if with_sets else [],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": _PREVENTION_MODES,
    }


def _filters(info: SymbolInfo) -> list[dict[str, Any]]:
    lot = {"minQty": show(info.step), "maxQty": show(9_000_000 * UNIT), "stepSize": show(info.step)}
    notional = {"minNotional": show(info.min_notional), "applyMinToMarket": True}
    return [
        {"filterType": "PRICE_FILTER", "minPrice": show(info.tick), "maxPrice": show(1_000_000 * UNIT), "tickSize": show(info.tick)},
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {"filterType": "MARKET_LOT_SIZE", "minQty": show(0), "maxQty": show(100_000 * UNIT), "stepSize": show(0)},
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": 10,
            "maxTrailingAboveDelta": 2000,
            "minTrailingBelowDelta": 10,
            "maxTrailingBelowDelta": 2000,
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "5",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.2",
            "avgPriceMins": 5,
        },
        {"filterType": "NOTIONAL", **notional, "maxNotional": show(9_000_000 * UNIT), "applyMaxToMarket": False, "avgPriceMins": 5},
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": 20},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        {"filterType": "MAX_NUM_ORDER_AMENDS", "maxNumOrderAmends": 10},
    ]
