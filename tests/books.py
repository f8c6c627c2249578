"""Order books of a made-up market, and windows over its trades, as their events' own encoders write them."""

import math
import random
from collections.abc import Iterator

from klinestream.market.codec import encode_event
from klinestream.market.events import BINANCE, OrderBook, Proof, TradeWindow
from klinestream.market.topics import ORDER_BOOK, TRADE_WINDOWS
from klinestream.runtime.kafka import Record
from tests.serving import SIZE_MS, window_at

LEVELS = 20
BANDS = (10, 50, 100)
SINCE_ID = 70_800_000_000
QUIET_EVERY = 23
"""So many windows over trades follow each other until one holds none."""


def book_at(symbol: str, time_ms: int, *, price: float = 60_000.0, tick: float = 0.01, since_id: int = SINCE_ID) -> OrderBook:
    """A book of 20 levels a side: a function of its arguments, so that no identity ever has two values."""
    noise = random.Random(f"{symbol}{time_ms}")
    middle = price * (1 + 0.0008 * math.sin(time_ms / 17_000) + 0.0001 * noise.uniform(-1, 1))
    apart = tick * noise.choice((1, 1, 1, 2, 3, 7))
    best_bid = math.floor(middle / tick) * tick
    lean = math.sin(time_ms / 9000)
    bids = tuple(_levels(noise, best_bid, -tick * 9, 1 + 0.6 * lean))
    asks = tuple(_levels(noise, best_bid + apart, tick * 9, 1 - 0.6 * lean))
    (bid, bid_quantity), (ask, ask_quantity) = ((float(p), float(q)) for p, q in (bids[0], asks[0]))
    of_bids, of_asks = (sum(float(quantity) for _, quantity in side) for side in (bids, asks))
    return OrderBook(
        symbol=symbol,
        time_ms=time_ms,
        last_update_id=since_id + time_ms // 100 - 17_000_000_000,
        bids=bids,
        asks=asks,
        spread=round(ask - bid, 8),
        mid=(bid + ask) / 2,
        microprice=(bid * ask_quantity + ask * bid_quantity) / (bid_quantity + ask_quantity),
        imbalance=(bid_quantity - ask_quantity) / (bid_quantity + ask_quantity),
        imbalance_20=(of_bids - of_asks) / (of_bids + of_asks),
        depth={str(band): (of_bids * band / 8, of_asks * band / 8) for band in BANDS},
        since_id=since_id,
        source=BINANCE,
        proof=Proof.IDS,
    )


def _levels(noise: random.Random, best: float, step: float, weight: float) -> Iterator[tuple[str, str]]:
    price = best
    for _ in range(LEVELS):
        yield f"{price:.8f}", f"{weight * noise.expovariate(0.7):.5f}000"
        price += step * noise.choice((1, 1, 2, 4))


def book_record(book: OrderBook) -> Record:
    """As the feed of books publishes it."""
    return Record(ORDER_BOOK.name, book.symbol.encode(), encode_event(book), book.time_ms)


def trade_window_at(symbol: str, end_ms: int, since_ms: int, *, price: float = 60_000.0) -> TradeWindow:
    """A window over trades that moves each half second; now and then one holds no trade."""
    step = end_ms // 500
    noise = random.Random(f"{symbol}{step}")
    like = window_at(symbol, end_ms, since_ms, price=price)
    close = like.close * (1 + 0.0001 * noise.uniform(-1, 1))
    common = {
        "symbol": symbol,
        "start_ms": end_ms - SIZE_MS,
        "end_ms": end_ms,
        "close": close,
        "rsi": like.rsi,
        "rsi_ready": like.rsi_ready,
    }
    run = {"whole": end_ms - SIZE_MS >= since_ms, "since_ms": since_ms, "since_id": 7_000_000, "source": BINANCE, "proof": Proof.IDS}
    if step % QUIET_EVERY == 0:
        nothing = {"average_price": None, "average_by_volume": None, "low": None, "high": None}
        return TradeWindow(**common, **run, **nothing, volume=0.0, buy_volume=0.0, sell_volume=0.0, points=0)  # type: ignore[arg-type]
    bought = like.volume * (0.5 + 0.45 * math.sin(step / 19))
    return TradeWindow(
        **common,  # type: ignore[arg-type]
        **run,  # type: ignore[arg-type]
        average_price=like.average_price,
        average_by_volume=like.average_price * (1 + 0.0001 * noise.uniform(-1, 1)),
        low=min(like.low, close),
        high=max(like.high, close),
        volume=like.volume,
        buy_volume=bought,
        sell_volume=like.volume - bought,
        points=noise.randrange(1, 300),
    )


def trade_window_record(window: TradeWindow) -> Record:
    """As the job of windows over trades publishes it."""
    return Record(TRADE_WINDOWS.name, window.symbol.encode(), encode_event(window), window.end_ms - 1)
