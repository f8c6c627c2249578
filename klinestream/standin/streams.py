"""Stream names, and what each asks for."""

import enum
import re
from dataclasses import dataclass
from functools import lru_cache

from klinestream.standin.intervals import INTERVALS, Interval

# Milliseconds between two pushes of a kline in progress.
KLINE_1S_PUSH_MS = 1000
KLINE_PUSH_MS = 2000


class Kind(enum.StrEnum):
    """What a stream carries, as its name says it."""

    KLINE = "kline"
    AGG_TRADE = "aggTrade"
    TRADE = "trade"
    MINI_TICKER = "miniTicker"
    MINI_TICKERS = "!miniTicker@arr"
    BOOK_TICKER = "bookTicker"
    DEPTH = "depth"
    PARTIAL_DEPTH = "partialDepth"
    SHUTDOWN = "serverShutdown"
    FINNHUB = "finnhub"
    """Another venue's messages, which are no streams of the exchange."""


# Those with a speed aren't documented any more, but published clients ask for them.
_MINI_TICKERS = {"!miniTicker@arr": 1000, "!miniTicker@arr@1000ms": 1000, "!miniTicker@arr@3000ms": 3000}
_NAME = re.compile(
    rf"(?P<symbol>[^@!/A-Z]+)@(?:kline_(?P<interval>{'|'.join(INTERVALS)})"
    r"|(?P<depth>depth)(?P<levels>5|10|20)?(?P<fast>@100ms)?"
    r"|(?P<plain>aggTrade|trade|miniTicker|bookTicker))"
)


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream; `symbol` is upper case, empty for all of the market; `push_ms` 0 means as it happens."""

    name: str
    kind: Kind
    symbol: str = ""
    interval: Interval | None = None
    levels: int = 0
    push_ms: int = 0


SERVER_SHUTDOWN = Stream("!serverShutdown", Kind.SHUTDOWN)


@lru_cache(maxsize=1 << 16)
def parse(name: str) -> Stream | None:
    """The stream of that name; None for one that the exchange doesn't have: it accepts it and stays silent.

    >>> stream = parse("btcusdt@depth20@100ms")
    >>> stream.symbol, stream.kind.value, stream.levels, stream.push_ms
    ('BTCUSDT', 'partialDepth', 20, 100)
    """
    if name in _MINI_TICKERS:
        return Stream(name, Kind.MINI_TICKERS, push_ms=_MINI_TICKERS[name])
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    symbol = found["symbol"].upper()
    if found["interval"]:
        push_ms = KLINE_1S_PUSH_MS if found["interval"] == "1s" else KLINE_PUSH_MS
        return Stream(name, Kind.KLINE, symbol, interval=INTERVALS[found["interval"]], push_ms=push_ms)
    if found["depth"]:
        kind = Kind.PARTIAL_DEPTH if found["levels"] else Kind.DEPTH
        return Stream(name, kind, symbol, levels=int(found["levels"] or 0), push_ms=100 if found["fast"] else 1000)
    kind = Kind(found["plain"])
    return Stream(name, kind, symbol, push_ms=1000 if kind is Kind.MINI_TICKER else 0)
