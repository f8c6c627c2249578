"""The symbols that the seeded market lists: names, price levels, sizes, and how busy each is.

Known coins against USDT come first, the busiest before the others; then the great coins against other quotes (some with
prices above 1e9); then made-up coins, as many as it takes. Where a symbol stands decides how busy it is.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from klinestream.market.decimals import UNIT
from klinestream.standin.intervals import DAY_MS
from klinestream.standin.market import SymbolInfo
from klinestream.standin.seeded.mix import Purpose, below, draw
from klinestream.standin.seeded.shapes import MEAN_QUANTITY

# fmt: off
COINS = {  # a price in USD near which each coin wanders
    "BTC": "64000", "ETH": "2700", "BNB": "560", "SOL": "150", "XRP": "0.58", "DOGE": "0.105", "PEPE": "0.0000118", "ADA": "0.36",
    "TRX": "0.13", "AVAX": "25", "LINK": "11", "SHIB": "0.000014", "DOT": "4.6", "BCH": "345", "NEAR": "4.1", "LTC": "61",
    "UNI": "6.2", "SUI": "0.95", "APT": "6.4", "WIF": "1.7", "ICP": "7.9", "ETC": "19", "FET": "0.92", "XLM": "0.1", "STX": "1.5",
    "FIL": "3.7", "AAVE": "103", "INJ": "19", "RENDER": "5.1", "HBAR": "0.057", "OP": "1.45", "ARB": "0.57", "ATOM": "4.9",
    "IMX": "1.2", "VET": "0.023", "MKR": "2050", "FLOKI": "0.00013", "BONK": "0.0000195", "GRT": "0.15", "TIA": "5.6", "THETA": "1.2",
    "JUP": "0.88", "ALGO": "0.13", "LDO": "1.2", "SEI": "0.31", "FTM": "0.39", "RUNE": "3.9", "QNT": "69",
    "FLOW": "0.58", "GALA": "0.018", "SAND": "0.27", "AXS": "4.7", "EGLD": "27", "EOS": "0.48", "XTZ": "0.68", "NEO": "9.6",
    "CHZ": "0.055", "MANA": "0.28", "KAVA": "0.3", "SNX": "1.35", "CRV": "0.27", "DYDX": "1.05", "ENS": "17", "ZEC": "38",
    "COMP": "43", "IOTA": "0.13", "ROSE": "0.058", "WOO": "0.14", "1INCH": "0.26", "LUNC": "0.000079", "XEC": "0.000031",
    "BAT": "0.17", "DASH": "24", "ENJ": "0.14", "ZIL": "0.014", "HOT": "0.0016", "YFI": "4900", "CELO": "0.49", "ANKR": "0.024",
    "QTUM": "2.3", "IOST": "0.0052", "SUSHI": "0.54", "STORJ": "0.34", "RVN": "0.017", "ONT": "0.18", "SC": "0.0043", "GMX": "25",
    "PAXG": "2430", "WBTC": "63900", "LSK": "0.78", "DENT": "0.00077", "WIN": "0.000084", "SPELL": "0.00056", "JASMY": "0.019",
}
QUOTES = {  # value of one unit in USD
    "USDT": "1", "USDC": "1", "FDUSD": "1", "BTC": "64000", "ETH": "2700", "BNB": "560",
    "TRY": "0.03", "EUR": "1.09", "BRL": "0.18", "JPY": "0.0068", "IDR": "0.000062",
}
# fmt: on
_GREAT_COINS = 24  # of the coins above: those that are listed against further quotes too

# How many symbols, from the first on, are of each class of klinestream.standin.seeded.shapes.RATES; the rest is of the last.
_CLASS_SIZES = (2, 6, 22, 60, 150, 300, 400)
_TRADE_USD = (800, 600, 400, 250, 180, 120, 80, 60)  # value of a mean trade of each class

_LEAST_TICKS = 1000  # a price has at least that many ticks, so that a tick is at most 0.1 %
_CENT_CLASSES = 1  # up to this class prices above 1 have a tick of a hundredth, as the exchange's great coins do
_QUANTITY_STEPS = 1000  # a mean trade has at least that many steps, where a step may be so small
_MOST_QUANTITY = 20_000_000  # of a mean trade: so a second's volume fits an int64 of 1e-8
_FIRST_LISTING_DAY = (dt.date(2017, 8, 17) - dt.date(1970, 1, 1)).days
_FIRST_LISTED = 3  # symbols that are listed on the first day; the others follow
_LISTING_DAYS = 2500  # over that many days
_SYLLABLES = ("BA", "CO", "DE", "FI", "GO", "HU", "JI", "KA", "LU", "MO", "NE", "PI", "RA", "SO", "TE", "VI", "WA", "XO", "YU", "ZE")


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol with what the market makes its numbers from."""

    info: SymbolInfo
    activity: int
    """Its class: index into `shapes.RATES`, 0 the busiest."""
    base_ticks: int
    """The price, in ticks, near which it wanders."""
    weight: int
    """Steps of quantity that one unit of a shape's quantity stands for."""
    volatility: int
    """Deviation of its price over a quarter of an hour, in 1/65536 of the price."""
    listed_day: int
    """Day of its listing, since 1970."""


def listings(seed: int, count: int) -> list[Listing]:
    """The first `count` symbols; a longer list begins with the shorter one."""
    listed: list[Listing] = []
    names: set[str] = set()
    for base, quote, price in _pairs(seed):
        if len(listed) == count:
            break
        if base + quote in names or price < Decimal("0.00001"):
            continue  # cheaper than a thousand of the exchange's smallest ticks
        names.add(base + quote)
        listed.append(_listing(seed, len(listed), base, quote, price))
    return listed


def _pairs(seed: int) -> Iterator[tuple[str, str, Decimal]]:
    """Base, quote and price of each candidate, without end."""
    for coin, usd in COINS.items():
        yield coin, "USDT", Decimal(usd)
    for quote, worth in list(QUOTES.items())[1:]:
        for coin in list(COINS)[:_GREAT_COINS]:
            if coin != quote:
                yield coin, quote, (Decimal(COINS[coin]) / Decimal(worth)).quantize(Decimal("0.00000001"))
    number = 0
    while True:
        coin, price = _made_up(seed, number)
        if coin not in COINS and coin not in QUOTES:
            yield coin, "USDT", price
        number += 1


def _made_up(seed: int, number: int) -> tuple[str, Decimal]:
    bits = int(draw(seed, Purpose.NAME, number))
    count = 2 + (bits & 1)
    coin = "".join(_SYLLABLES[(bits >> 5 * place + 8) % len(_SYLLABLES)] for place in range(count))
    magnitude, digits = (bits >> 32) % 7 - 4, 1000 + (bits >> 40) % 9000
    return coin, Decimal(digits).scaleb(magnitude - 3)


def _listing(seed: int, rank: int, base: str, quote: str, price: Decimal) -> Listing:
    activity = next((number for number in range(len(_CLASS_SIZES)) if rank < sum(_CLASS_SIZES[: number + 1])), len(_CLASS_SIZES))
    tick_places = min(8, max(0, -(price / _LEAST_TICKS).adjusted()))
    if activity <= _CENT_CLASSES and price >= 1:
        tick_places = 2
    quantity = min(Decimal(_TRADE_USD[activity]) / Decimal(QUOTES[quote]) / price, Decimal(_MOST_QUANTITY))
    step_places = min(8 - tick_places, max(0, -(quantity / _QUANTITY_STEPS).adjusted()))
    listed_day = _FIRST_LISTING_DAY
    if rank >= _FIRST_LISTED:
        listed_day += int(below(draw(seed, Purpose.LISTING_DAY, rank), _LISTING_DAYS))
    info = SymbolInfo(
        name=base + quote,
        base=base,
        quote=quote,
        tick=UNIT // 10**tick_places,
        step=UNIT // 10**step_places,
        min_notional=int(Decimal(5) / Decimal(QUOTES[quote]) * UNIT),
        listed_ms=listed_day * DAY_MS,
    )
    return Listing(
        info=info,
        activity=activity,
        base_ticks=int(price * 10**tick_places),
        weight=max(1, int(quantity * 10**step_places / MEAN_QUANTITY)),
        volatility=140 + int(below(draw(seed, Purpose.VOLATILITY, rank), 190)) + 8 * activity,
        listed_day=listed_day,
    )
