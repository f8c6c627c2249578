"""klinestream: Binance market data in, numbers a person can trust out."""

__version__ = "0.1.0"
