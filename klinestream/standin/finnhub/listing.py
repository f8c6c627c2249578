"""What the stand-in lists under Finnhub's names: stocks, exchange rates and coins, each with the trades of a symbol of the market."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CRYPTO_VENUE = "BINANCE:"
EXAMPLES = ("AAPL", "MSFT", "TSLA", "BINANCE:BTCUSDT", "OANDA:EUR_USD")
"""Some of each kind."""
# Symbols whose price is of the same size, where the market has them.
_STOCKS = {
    "AAPL": "SOLUSDT",
    "MSFT": "BCHUSDT",
    "TSLA": "BNBUSDT",
    "NVDA": "AAVEUSDT",
    "AMZN": "LTCUSDT",
    "META": "QNTUSDT",
    "GOOGL": "COMPUSDT",
    "AMD": "ZECUSDT",
}
_RATES = {"OANDA:EUR_USD": "DYDXUSDT", "OANDA:GBP_USD": "IMXUSDT", "OANDA:AUD_USD": "XTZUSDT", "OANDA:USD_CHF": "JUPUSDT"}


class Kind(enum.Enum):
    """How its trades look."""

    STOCK = "stock"
    """With conditions, mostly."""
    CRYPTO = "crypto"
    RATE = "rate"
    """Price updates without volume."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A name of Finnhub's."""

    name: str
    kind: Kind
    symbol: str
    """Of the market: its trades are this name's."""


def listing(symbols: Sequence[str]) -> Mapping[str, Listed]:
    """All names that a market of these symbols gives.

    >>> listing(["BTCUSDT"])["BINANCE:BTCUSDT"]
    Listed(name='BINANCE:BTCUSDT', kind=<Kind.CRYPTO: 'crypto'>, symbol='BTCUSDT')
    """
    there = set(symbols)
    listed = [Listed(CRYPTO_VENUE + symbol, Kind.CRYPTO, symbol) for symbol in symbols]
    for kind, wanted in ((Kind.STOCK, _STOCKS), (Kind.RATE, _RATES)):
        for number, (name, symbol) in enumerate(wanted.items()):
            listed.append(Listed(name, kind, symbol if symbol in there else symbols[number % len(symbols)]))
    return {one.name: one for one in listed}
