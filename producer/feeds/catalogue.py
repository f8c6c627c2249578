"""All feeds by name, for `klinestream feed NAME`: the only place where a new one is entered. The klines have a command of their own."""

from collections.abc import Callable

from klinestream.runtime.config import Config
from producer.feeds.binance_books import BinanceBooks
from producer.feeds.binance_trades import BinanceTrades
from producer.feeds.finnhub import Finnhub
from producer.feeds.interface import Feed

FEEDS: dict[str, Callable[[Config], Feed]] = {
    "trades": BinanceTrades,
    "books": BinanceBooks,
    "finnhub": Finnhub,
}
