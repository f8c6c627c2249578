"""Books rebuilt from recorded frames of the exchange, against its own bookTicker and against few lines that share nothing with them."""

import gzip
from bisect import bisect_left
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.events import OrderBook
from klinestream.market.live_book import LiveBook
from klinestream.market.order_book import snapshot_of
from klinestream.runtime.config import Config
from producer.feeds.binance_books import BinanceBooks

FRAMES = Path(__file__).parents[3] / "shared" / "data" / "binance-spot-2024-08-09"
COMMON = {"BTCUSDT": 1072, "ETHUSDT": 1056}
"""Updates of which the recorded bookTicker tells too."""
SYMBOLS = tuple(COMMON)
LEVELS = 1000
BANDS = (1, 10)
NOW_MS = 1_800_000_000_000
UNIT = 10**8
EVERY = 100  # books whose features are computed again: in plain lines that takes a millisecond each

pytestmark = pytest.mark.skipif(not FRAMES.is_dir(), reason=f"the recorded frames are not at {FRAMES}")


@cache
def lines(symbol: str) -> list[dict[str, Any]]:
    """What was recorded of a symbol but for its trades."""
    found = []
    for file in sorted(FRAMES.glob(f"{symbol.lower()}_*.gz")):
        with gzip.open(file) as recorded:
            found += [orjson.loads(line.split(b" ", 1)[1]) for line in recorded if b"@trade" not in line]
    return found


def scaled(number: str) -> int:
    """Of 1e-8."""
    return int(number.replace(".", ""))


def ends(mid: Fraction, band: int) -> tuple[Fraction, Fraction]:
    """The prices that are just so many basis points away."""
    return mid - mid * band / 10_000, mid + mid * band / 10_000


@cache
def published(symbol: str, every_ms: int = 100) -> list[OrderBook]:
    """Our books of a symbol, from its frames and the recorded snapshot; further ones are asked of the plain book, as of REST."""
    feed, live, found, books = BinanceBooks(Config()), LiveBook(symbol, every_ms, BANDS), [], plain_books(symbol)
    for line in lines(symbol):
        if "lastUpdateId" in line:
            found += live.answer(snapshot_of(line, LEVELS)).books
        elif line["stream"].endswith("@depth@100ms"):
            entries = feed.read(orjson.dumps(line), NOW_MS)
            assert isinstance(entries, list)
            for entry in entries:
                found += live.take(entry.content).books
                if live.wanting and found:
                    sides = next(sides for update_id, sides in books if update_id == entry.last_id)
                    assert not live.answer(snapshot_of(asked(entry.last_id, sides), LEVELS)).gaps, "both say the same of what both know"
    return found


def asked(update_id: int, sides: dict[str, dict[int, int]]) -> dict[str, Any]:
    """A book as REST would answer."""
    ranked = {"bids": sorted(sides["b"].items(), reverse=True), "asks": sorted(sides["a"].items())}
    return {"lastUpdateId": update_id} | {
        name: [[f"{number // UNIT}.{number % UNIT:08}" for number in level] for level in side[:LEVELS]] for name, side in ranked.items()
    }


def plain(rows: list[list[str]]) -> dict[int, int]:
    """Price → quantity of 1e-8, as the exchange writes them."""
    return {scaled(price): scaled(quantity) for price, quantity in rows}


def plain_books(symbol: str) -> Iterator[tuple[int, dict[str, dict[int, int]]]]:
    """Update id → both sides after it, by nothing but dicts: price → quantity."""
    sides: dict[str, dict[int, int]] = {}
    waiting = []
    for line in lines(symbol):
        if "lastUpdateId" in line:
            sides = {"b": plain(line["bids"]), "a": plain(line["asks"])}
            waiting = [data for data in waiting if data["u"] > line["lastUpdateId"]]
        elif line["stream"].endswith("@depth@100ms"):
            waiting.append(line["data"])
        for data in waiting if sides else ():
            for side, levels in sides.items():
                changed = plain(data[side])
                levels.update(changed)
                for gone in [price for price, quantity in changed.items() if not quantity]:
                    del levels[gone]
            yield data["u"], sides
        waiting = [] if sides else waiting


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_book_is_the_exchange_s_own_at_each_common_update(symbol: str) -> None:
    """Best bid and ask with their quantities equal those of bookTicker wherever both tell of the same update."""
    tickers = {line["data"]["u"]: line["data"] for line in lines(symbol) if line.get("stream", "").endswith("@bookTicker")}
    common = [book for book in published(symbol) if book.last_update_id in tickers]
    assert len(common) == COMMON[symbol]
    for book in common:
        said = tickers[book.last_update_id]
        assert (*book.bids[0], *book.asks[0]) == (said["b"], said["B"], said["a"], said["A"])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_levels_and_features_equal_plain_lines(symbol: str) -> None:
    """Each field of a book is what fractions over a dict of all levels give, to the last bit."""
    ours = {book.last_update_id: book for book in published(symbol)}
    seen = 0
    for update_id, sides in plain_books(symbol):
        seen += 1
        book = ours.pop(update_id)
        if seen % EVERY:
            continue
        bids, asks = sorted(sides["b"].items(), reverse=True), sorted(sides["a"].items())
        assert [(scaled(p), scaled(q)) for p, q in book.bids] == bids[:20]
        assert [(scaled(p), scaled(q)) for p, q in book.asks] == asks[:20]
        (bid, bid_quantity), (ask, ask_quantity) = bids[0], asks[0]
        mid = Fraction(bid + ask, 2)
        assert (book.spread, book.mid) == (float(Fraction(ask - bid, UNIT)), float(mid / UNIT))
        assert book.microprice == float(Fraction(bid * ask_quantity + ask * bid_quantity, bid_quantity + ask_quantity) / UNIT)
        assert book.imbalance == float(Fraction(bid_quantity - ask_quantity, bid_quantity + ask_quantity))
        total_bid, total_ask = (sum(quantity for _, quantity in side[:20]) for side in (bids, asks))
        assert book.imbalance_20 == float(Fraction(total_bid - total_ask, total_bid + total_ask))
        for band in BANDS:
            low, high = ends(mid, band)
            within = [sum(q for p, q in bids if p >= low), sum(q for p, q in asks if p <= high)]
            said = book.depth[str(band)]
            assert all(one is None or one == float(Fraction(other, UNIT)) for one, other in zip(said, within, strict=True))
    assert seen > 6000
    assert not ours, "each book is that of an update"


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_once_a_second_it_is_the_newest_of_each(symbol: str) -> None:
    """With every_ms 1000 the books are those of 100 that stand last in each second of the exchange's time, but the one in progress."""
    each, seconds = published(symbol), published(symbol, 1000)
    times = [book.time_ms // 1000 for book in each]
    newest = [each[bisect_left(times, second + 1) - 1] for second in sorted(set(times))[:-1]]
    assert seconds == newest
