"""The tables of the feeds beside the klines: Binance's trades and order books, and Finnhub.

A key's docstring is what docs/operations.md says of it.
"""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from klinestream.runtime.sections import Seconds, Section


class TradesConfig(Section):
    """The feed of Binance's trades; its connections are those of [producer], its exchange that of [exchange]."""

    stream: Literal["aggTrade", "trade"] = "aggTrade"
    """Consecutive trades of one price, side and time as one, or each by itself."""
    symbols: tuple[str, ...] = ()
    """Symbols or patterns whose trades are followed; none means those of [exchange]."""
    hold_s: Seconds = 10.0
    """How long trades are held while none of the missing ones before them comes; then these are deferred to the repairs."""
    held_most: Annotated[int, Field(ge=100, le=1_000_000)] = 50_000
    """Trades of a symbol that are held at most."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9114
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""


class BooksConfig(Section):
    """The feed of Binance's order books."""

    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT")
    """Symbols or patterns whose books are followed; none means those of [exchange]."""
    every_ms: Annotated[int, Field(ge=100, le=60_000, multiple_of=100)] = 1000
    """How often a book's best levels are published, in the exchange's own time; 100 is each of its updates."""
    levels: Annotated[int, Field(ge=100, le=5000)] = 5000
    """Levels of a snapshot a side; 5,000 weigh 250 of the exchange's 6,000 a minute, 1,000 weigh 50 and are better for many symbols."""
    bands: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = (10, 50, 100)
    """Distances from the mid, in basis points, within which depth is summed."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9115
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""


class FinnhubConfig(Section):
    """The feed of Finnhub's trades."""

    websocket_url: str = "wss://ws.finnhub.io"
    """Base address of its websocket."""
    token: SecretStr = SecretStr("")
    """Its key; only from KLINESTREAM_FINNHUB__TOKEN."""
    symbols: tuple[str, ...] = ()
    """Its names of what to follow, such as AAPL, BINANCE:BTCUSDT or OANDA:EUR_USD; ours have FINNHUB: before them."""
    grace_s: Annotated[float, Field(ge=0.1, le=60)] = 2.0
    """How long after a second's end its kline is closed: a trade that comes later is told in the dead letters."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 9116
    """Prometheus metrics on this port of `metrics_host`; 0 for none."""
    metrics_host: str = "127.0.0.1"
    """Address the metrics listen on."""
