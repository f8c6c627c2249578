"""Where a symbol is traded, as its name says it: the one definition of how names of several venues stand side by side.

    BTCUSDT            Binance: its names are bare
    FINNHUB:AAPL       Finnhub's AAPL
    FINNHUB:OANDA:EUR_USD    Finnhub's OANDA:EUR_USD: what stands before the first colon is the venue

So a symbol is the same text in each topic, key and file, and two venues' symbols never meet.
"""

from klinestream.market.events import BINANCE

_COLON = ":"


def venue_of(symbol: str) -> str:
    """The venue of a symbol, or of a pattern of symbols, in lower case as in the field `source`.

    >>> venue_of("BTCUSDT"), venue_of("FINNHUB:AAPL"), venue_of("FINNHUB:BINANCE:BTCUSDT"), venue_of("*USDT")
    ('binance', 'finnhub', 'finnhub', 'binance')
    """
    venue, colon, _ = symbol.partition(_COLON)
    return venue.lower() if colon else BINANCE


def symbol_of(venue: str, name: str) -> str:
    """Our name for what a venue calls `name`.

    >>> symbol_of("binance", "BTCUSDT"), symbol_of("finnhub", "OANDA:EUR_USD")
    ('BTCUSDT', 'FINNHUB:OANDA:EUR_USD')
    """
    return name if venue == BINANCE else f"{venue.upper()}{_COLON}{name}"


def name_of(symbol: str) -> str:
    """What a symbol's venue calls it.

    >>> name_of("BTCUSDT"), name_of("FINNHUB:OANDA:EUR_USD")
    ('BTCUSDT', 'OANDA:EUR_USD')
    """
    return symbol if venue_of(symbol) == BINANCE else symbol.partition(_COLON)[2]
