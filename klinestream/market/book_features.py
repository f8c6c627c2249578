"""What follows from a book: each value from exact integers of 1e-8, divided once, so correctly rounded; null while a side is empty.

                   mid − 10 bp                mid                mid + 10 bp
bids  ▁   ▃   ▂   ▅ ┆  ▂   ▃       █          ┆    █   ▂   ▅   ▁ ┆  ▃   ▂    asks
                    └──── depth["10"][0] ─────┘└──── depth["10"][1] ────┘   both ends included
"""

from collections.abc import Sequence

from klinestream.market.decimals import UNIT, show
from klinestream.market.events import BINANCE, OrderBook, Proof
from klinestream.market.order_book import Book, Level, Side

SHOWN = 20
"""Levels a side that are published."""
_BASIS_POINTS = 10_000
Depth = dict[str, tuple[float | None, float | None]]


def order_book(symbol: str, book: Book, bands: Sequence[int]) -> OrderBook:
    """The book as it is published; `bands` in basis points."""
    bids, asks = book.bids.best(SHOWN), book.asks.best(SHOWN)
    return OrderBook(
        symbol=symbol,
        time_ms=book.time_ms,
        last_update_id=book.last_id,
        bids=_shown(bids),
        asks=_shown(asks),
        spread=(asks[0][0] - bids[0][0]) / UNIT if bids and asks else None,
        mid=(bids[0][0] + asks[0][0]) / (2 * UNIT) if bids and asks else None,
        microprice=microprice(bids[0], asks[0]) if bids and asks else None,
        imbalance=imbalance(bids[:1], asks[:1]) if bids and asks else None,
        imbalance_20=imbalance(bids, asks) if bids and asks else None,
        depth={str(band): _depth(book, bids[0][0] + asks[0][0], band) if bids and asks else (None, None) for band in bands},
        since_id=book.since_id,
        source=BINANCE,
        proof=Proof.IDS,
    )


def microprice(bid: Level, ask: Level) -> float:
    """Best bid and ask, each weighted by the other's quantity: near the side that is about to be used up.

    Gatheral and Oomen, Zero-intelligence realized variance estimation, Finance and Stochastics 14 (2010), call it the microprice. It is
    not that of Stoikov, The micro-price, Quantitative Finance 18 (2018), which is estimated from a history; he calls this one the
    weighted mid-price.

    >>> microprice((100_00000000, 3_00000000), (101_00000000, 1_00000000))
    100.75
    """
    (bid_price, bid_quantity), (ask_price, ask_quantity) = bid, ask
    return (bid_price * ask_quantity + ask_price * bid_quantity) / ((bid_quantity + ask_quantity) * UNIT)


def imbalance(bids: Sequence[Level], asks: Sequence[Level]) -> float:
    """(bid - ask) / (bid + ask) of the levels' quantities, -1 to 1; above 0 while more is bid than asked.

    Cartea, Jaimungal and Penalva, Algorithmic and High-Frequency Trading (2015), chapter 12.

    >>> imbalance([(100, 3)], [(101, 1)])
    0.5
    """
    bid, ask = (sum(quantity for _, quantity in side) for side in (bids, asks))
    return (bid - ask) / (bid + ask)


def _depth(book: Book, twice_mid: int, band: int) -> tuple[float | None, float | None]:
    """Base quantity of each side whose distance from the mid is at most so many basis points of the mid."""
    lowest = -(-twice_mid * (_BASIS_POINTS - band) // (2 * _BASIS_POINTS))
    highest = twice_mid * (_BASIS_POINTS + band) // (2 * _BASIS_POINTS)
    return _sum(book.bids, lowest), _sum(book.asks, highest)


def _sum(side: Side, price: int) -> float | None:
    found = side.within(price)
    return None if found is None else found / UNIT


def _shown(levels: Sequence[Level]) -> tuple[tuple[str, str], ...]:
    return tuple((show(price), show(quantity)) for price, quantity in levels)
