"""python-binance, as published, against the stand-in: only its two addresses are changed."""

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.integration.running_standin import RunningStandin, running

with warnings.catch_warnings():
    # It imports names that websockets has deprecated.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*websockets.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*WebSocketClientProtocol.*")
    from binance import AsyncClient, BinanceAPIException, BinanceSocketManager
    from binance.ws.depthcache import DepthCacheManager

WITHIN_S = 20

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*websockets.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def standin() -> Iterator[RunningStandin]:
    with running() as started:
        yield started


@pytest.fixture(autouse=True)
def addresses(standin: RunningStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncClient, "API_URL", f"{standin.http}/api")
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", f"{standin.ws}/")


@asynccontextmanager
async def client() -> AsyncIterator[Any]:
    opened = await AsyncClient.create()
    try:
        yield opened
    finally:
        await opened.close_connection()


def messages(socket_of: Callable[[Any], Any], count: int) -> list[Any]:
    """The first messages of one of its sockets."""

    async def receive() -> list[Any]:
        async with client() as opened, socket_of(BinanceSocketManager(opened)) as stream:
            return [await asyncio.wait_for(stream.recv(), WITHIN_S) for _ in range(count)]

    return asyncio.run(receive())


def test_rest() -> None:
    """Its REST calls give klines, symbols, trades, books and errors."""

    async def ask() -> None:
        async with client() as opened:
            klines = await opened.get_klines(symbol="BTCUSDT", interval=AsyncClient.KLINE_INTERVAL_1MINUTE, limit=10)
            assert len(klines) == 10
            history = await opened.get_historical_klines("BTCUSDT", "1h", "1 Jan, 2024", "3 Jan, 2024")
            assert [row[0] for row in history] == list(range(1_704_067_200_000, 1_704_240_000_001, 3_600_000))
            info = await opened.get_symbol_info("ETHUSDT")
            assert info["baseAsset"] == "ETH"
            assert len((await opened.get_exchange_info())["symbols"]) == 6
            assert len((await opened.get_order_book(symbol="BTCUSDT", limit=5))["bids"]) == 5
            assert len(await opened.get_recent_trades(symbol="BTCUSDT", limit=3)) == 3
            assert len(await opened.get_aggregate_trades(symbol="BTCUSDT", limit=3)) == 3
            assert len(await opened.get_ui_klines(symbol="BTCUSDT", interval="1d", limit=2)) == 2
            with pytest.raises(BinanceAPIException, match="Invalid symbol") as refused:
                await opened.get_klines(symbol="NOTHING", interval="1m")
            assert refused.value.code == -1121

    asyncio.run(ask())


def test_kline_socket() -> None:
    """Its kline socket carries the closed seconds."""
    seen = messages(lambda manager: manager.kline_socket("BTCUSDT", interval="1s"), 3)
    assert [message["e"] for message in seen] == ["kline"] * 3
    assert [message["k"]["t"] - seen[0]["k"]["t"] for message in seen] == [0, 1000, 2000]


def test_multiplex_socket() -> None:
    """Its multiplex socket carries several symbols, wrapped."""
    seen = messages(lambda manager: manager.multiplex_socket(["btcusdt@kline_1s", "ethusdt@kline_1s"]), 4)
    assert {message["stream"] for message in seen} == {"btcusdt@kline_1s", "ethusdt@kline_1s"}
    assert all(message["stream"].startswith(message["data"]["s"].lower()) for message in seen)


def test_trade_sockets() -> None:
    """Its sockets for trades and aggTrades carry contiguous ids."""
    trades = messages(lambda manager: manager.trade_socket("BTCUSDT"), 10)
    assert all(later["t"] == earlier["t"] + 1 for earlier, later in itertools.pairwise(trades))
    aggregated = messages(lambda manager: manager.aggtrade_socket("BTCUSDT"), 5)
    assert all(later["f"] == earlier["l"] + 1 for earlier, later in itertools.pairwise(aggregated))


def test_depth_sockets() -> None:
    """Its sockets for the book carry diffs and partial books."""
    diffs = messages(lambda manager: manager.depth_socket("BTCUSDT", interval=100), 3)
    assert all(later["U"] == earlier["u"] + 1 for earlier, later in itertools.pairwise(diffs))
    (book,) = messages(lambda manager: manager.depth_socket("BTCUSDT", depth="5"), 1)
    assert len(book["bids"]) == len(book["asks"]) == 5


def test_ticker_sockets() -> None:
    """Its sockets for best prices and tickers work."""
    (best,) = messages(lambda manager: manager.symbol_book_ticker_socket("BTCUSDT"), 1)
    assert float(best["b"]) < float(best["a"])
    (tickers,) = messages(lambda manager: manager.miniticker_socket(), 1)
    assert "BTCUSDT" in {ticker["s"] for ticker in tickers}


def test_depth_cache() -> None:
    """Its local order book, which follows the documented recipe, fills and goes on."""

    async def follow() -> None:
        async with client() as opened, DepthCacheManager(opened, symbol="BTCUSDT", ws_interval=100) as stream:
            for _ in range(3):
                cache = await asyncio.wait_for(stream.recv(), WITHIN_S)
                assert cache.get_bids()[0][0] < cache.get_asks()[0][0]

    asyncio.run(follow())
