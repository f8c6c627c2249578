"""Version 2 of the websocket on a real broker: two servers as processes, and real clients in both encodings."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgpack
import orjson
import polars as pl
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from klinestream.client import ClientError, frame
from klinestream.market.codec import encode_event
from klinestream.market.topics import CANDLES, INDICATORS, SIGNALS
from klinestream.runtime import config as configuration
from klinestream.runtime.kafka import Record
from tests.books import book_at, book_record
from tests.candles import best
from tests.eventually import eventually
from tests.integration.rest_server import SYMBOLS, Market, published
from tests.serving import ServerProcess, Windows, ends_between, now_ms, window_at
from tests.stack import TestBroker
from tests.topics import publish

WAIT_S = 20.0
MINUTE_MS = 60_000
SYMBOL = SYMBOLS[0]
CLOSED = {"candles": CANDLES.name, "indicators": INDICATORS.name, "signals": SIGNALS.name}


@pytest.fixture(scope="module")
def windows(module_broker: TestBroker) -> Iterator[Windows]:
    opened = Windows(module_broker.bootstrap_servers)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def market(module_broker: TestBroker, windows: Windows) -> Market:
    windows.publish([window_at(SYMBOL, end, now_ms() - 60_000) for end in ends_between(now_ms() - 5000, now_ms())])
    settings = configuration.Config(
        candles={"history": 20},  # type: ignore[arg-type]  # pydantic makes the section of it
        indicators={"rsi": (3, 14)},  # type: ignore[arg-type]
        signals={"rsi_period": 3, "rsi_low": 49.0, "rsi_high": 51.0, "hysteresis": 0.5},  # type: ignore[arg-type]
    )
    return published(module_broker.bootstrap_servers, settings)


@pytest.fixture(scope="module")
def servers(module_broker: TestBroker, market: Market, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ServerProcess]]:
    """Two replicas that have read all there is; the second one compresses."""
    assert market.records  # published before the servers start
    folder = tmp_path_factory.mktemp("stream")
    started = [
        ServerProcess(module_broker.bootstrap_servers, folder / f"{n}.log", history_s=600, max_subscriptions=3, compress=bool(n))
        for n in range(2)
    ]
    for server in started:
        server.start()
    for server in started:
        eventually(lambda: server.http.get("/api/v1/status").json()["candles"]["complete"], WAIT_S, "the candles are read")  # noqa: B023
    yield started
    for server in started:
        server.close()


@asynccontextmanager
async def client(server: ServerProcess, query: str = "") -> AsyncIterator[ClientConnection]:
    async with connect(f"{server.websocket_url}{query}", proxy=None, max_size=None) as opened:
        yield opened


async def message(opened: ClientConnection, *types: str) -> dict[str, Any]:
    """The next message of these types."""
    async with asyncio.timeout(WAIT_S):
        while True:
            raw = await opened.recv()
            found: dict[str, Any] = json.loads(raw) if isinstance(raw, str) else msgpack.unpackb(raw)
            if found["type"] in types:
                return found


async def subscribe(opened: ClientConnection, *kinds: str, **further: Any) -> list[dict[str, Any]]:
    """Subscribe; all messages of the answer."""
    asked = {"op": "subscribe", "kinds": kinds, "symbols": [SYMBOL], "intervals": ["1m"]} | further
    await opened.send(json.dumps(asked))
    found = [await message(opened, "subscribed", "error")]
    while found[-1]["type"] != "error" and "cursor" not in found[-1]:
        found.append(await message(opened, "snapshot", "update"))
    return found


async def next_records(opened: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """The records of this kind in the next update that has some."""
    while True:
        found = await message(opened, "update")
        for part in found["series"]:
            if part["kind"] == kind:
                return list(part["records"])


def of_topic(market: Market, kind: str) -> list[dict[str, Any]]:
    """The 1m records of the symbol that count, oldest first."""
    found = [orjson.loads(value) for key, value in best(market.records, CLOSED[kind]).items() if key[:2] == (SYMBOL, "1m")]
    return sorted(found, key=lambda record: record["t"])


class Candles:
    """Publishes candles that follow on the market's last one."""

    def __init__(self, bootstrap_servers: str, market: Market) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._last = of_topic(market, "candles")[-1]
        self._revisions = count(1)

    def publish(self, *, values: tuple[bytes, ...] = ()) -> dict[str, Any]:
        """The last candle again with a higher revision, after other values; what was published."""
        record = {**self._last, "revision": next(self._revisions), "later": 0.1}
        for value in (*values, orjson.dumps(record)):
            publish(self._bootstrap_servers, [Record(CANDLES.name, SYMBOL.encode(), value, record["T"])])
        return record


@pytest.fixture(scope="module")
def candles(module_broker: TestBroker, market: Market) -> Candles:
    return Candles(module_broker.bootstrap_servers, market)


@pytest.mark.parametrize("kind", CLOSED)
def test_a_snapshot_is_what_the_topic_holds(servers: list[ServerProcess], market: Market, kind: str) -> None:
    """Candles, indicators and signals with all their fields, of each identity the record that counts, and how much the limit left out."""
    # Before other tests publish: parametrised tests of a module run in order.
    expected = of_topic(market, kind)[-20:]

    async def look(query: str) -> dict[str, Any]:
        async with client(servers[0], query) as opened:
            subscribed, snapshot = await subscribe(opened, kind, limit=20)
            assert subscribed["symbols"] == [SYMBOL]
            return snapshot

    for query in ("", "?encoding=msgpack"):
        snapshot = asyncio.run(look(query))
        assert snapshot["records"] == expected
        assert snapshot["more"] == (len(of_topic(market, kind)) > 20)


def test_live_records_come_as_they_stand_in_the_topic(servers: list[ServerProcess], candles: Candles, windows: Windows) -> None:
    """In both encodings, fields that the server doesn't know with them; what is no candle is passed on to nobody."""

    async def listen() -> None:
        async with client(servers[0]) as plain, client(servers[0], "?encoding=msgpack") as packed:
            for opened in (plain, packed):
                await subscribe(opened, "windows", "candles", symbols=["BTC*"])
            broken = (b"\xff", b"{}", b'{"s":"BTCUSDT","i":"1m"}')
            record = await asyncio.to_thread(candles.publish, values=broken)
            window = window_at(SYMBOL, now_ms() // 500 * 500 + 500, 5)
            for opened in (plain, packed):
                assert await next_records(opened, "candles") == [record]
            await asyncio.to_thread(windows.publish, [window])
            for opened in (plain, packed):
                assert [found["window_end"] for found in await next_records(opened, "windows")] == [window.end_ms]

    asyncio.run(listen())


def test_order_books_come_as_they_stand_in_the_topic(servers: list[ServerProcess], module_broker: TestBroker) -> None:
    """In both encodings, and printed by `klinestream watch`; a client that comes later gets the newest at once."""
    books = [book_at(SYMBOL, now_ms() // 100 * 100 - 1000 + 100 * n) for n in range(2)]
    told = [orjson.loads(encode_event(book)) for book in books]

    async def listen() -> None:
        async with client(servers[0]) as plain, client(servers[0], "?encoding=msgpack") as packed:
            for opened in (plain, packed):
                assert (await subscribe(opened, "books"))[-1]["records"] == []
            for book, record in zip(books, told, strict=True):
                await asyncio.to_thread(publish, module_broker.bootstrap_servers, [book_record(book)])
                for opened in (plain, packed):
                    assert await next_records(opened, "books") == [record]
            async with client(servers[0]) as later:
                assert (await subscribe(later, "books"))[-1]["records"] == told[-1:]

    asyncio.run(listen())
    command = [sys.executable, "-m", "klinestream.cli.main", "watch", "books", SYMBOL, "--server", servers[0].url, "--json", "--count", "1"]
    printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    assert orjson.loads(printed) == {"kind": "books"} | told[-1]


def test_a_client_goes_on_at_another_replica(servers: list[ServerProcess], candles: Candles, windows: Windows) -> None:
    """With the cursor of the one it gets from the other just what was published since, of all kinds; a bad one gets snapshots."""

    async def move() -> None:
        async with client(servers[0]) as opened:
            cursor = (await subscribe(opened, "windows", "candles"))[-1]["cursor"]
        window = window_at(SYMBOL, now_ms() // 500 * 500 + 1000, 6)
        await asyncio.to_thread(windows.publish, [window])
        record = await asyncio.to_thread(candles.publish)
        async with client(servers[1]) as other:
            answer = await subscribe(other, "windows", "candles", cursor=cursor)
            assert {found["type"] for found in answer} == {"subscribed", "update"}
            got = {part["kind"]: part["records"] for found in answer for part in found.get("series", [])}
            for kind in {"windows", "candles"} - got.keys():
                got[kind] = await next_records(other, kind)
            assert [found["window_end"] for found in got["windows"]] == [window.end_ms]
            assert got["candles"] == [record]
            ahead = {topic: dict.fromkeys(offsets, 10**12) for topic, offsets in cursor.items()}
            again = await subscribe(other, "windows", "candles", cursor=ahead)
            assert [found["type"] for found in again] == ["subscribed", "snapshot", "snapshot"]

    asyncio.run(move())


def test_heartbeats_tell_how_old_each_kind_is(servers: list[ServerProcess]) -> None:
    """Windows, candles and the rest, each by its newest record."""

    async def listen() -> None:
        async with client(servers[0], "?encoding=json") as opened:
            beat = await message(opened, "heartbeat")
            assert beat["v"] == 2
            assert {kind for kind, age in beat["age_ms"].items() if age is not None} == {"windows", "provisional", "books", *CLOSED}
            assert 0 <= beat["age_ms"]["candles"] < 60 * MINUTE_MS
            assert abs(beat["server_time"] - now_ms()) < 5000

    asyncio.run(listen())


def test_what_is_wrong_is_said(servers: list[ServerProcess]) -> None:
    """An error says what to do, and the client stays; an encoding that there is not ends the connection with the reason."""

    async def err() -> None:
        async with client(servers[0]) as opened:
            [error] = await subscribe(opened, "trades")
            assert error["v"] == 2
            assert "windows, candles" in error["expected"]
            assert error["do"]
            [error] = await subscribe(opened, "windows", symbols=["A", "B", "C", "D"])
            assert error["expected"] == "at most 3 symbols a client"
            assert (await subscribe(opened, "provisional"))[-1]["records"][0]["s"] == SYMBOL
        async with client(servers[0], "?encoding=xml") as refused:
            with pytest.raises(ConnectionClosed) as caught:
                await message(refused, "heartbeat")
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "encoding: expected json or msgpack, got 'xml'")

    asyncio.run(err())


def test_history_is_a_frame_in_one_line(servers: list[ServerProcess]) -> None:
    """The client's frame is what REST's Arrow is; the server's refusal is an error with its words."""
    url = servers[0].url
    found = frame(SYMBOL, kind="candles", interval="1m", limit=10, url=url)
    answer = servers[0].http.get(f"/api/v1/candles?symbol={SYMBOL}&interval=1m&limit=10&format=arrow")
    assert found.equals(pl.read_ipc_stream(io.BytesIO(answer.content)))
    assert found.height == 10
    assert frame(SYMBOL, kind="windows", url=url).columns[0] == "symbol"
    with pytest.raises(ClientError, match="a symbol that has candles"):
        frame("NOSUCHUSDT", url=url)


def test_compression_is_by_choice(servers: list[ServerProcess]) -> None:
    """The server that was told to compresses for a client that offers it; the other one doesn't."""

    async def agreed(server: ServerProcess) -> bool:
        async with client(server) as opened:
            return bool(opened.protocol.extensions)

    assert [asyncio.run(agreed(server)) for server in servers] == [False, True]
