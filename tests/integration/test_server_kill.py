"""A server that is killed with 500 clients on: whoever comes back has every record of what it follows, and none twice."""

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from klinestream.market.codec import encode_event
from klinestream.market.events import Candle, CandleOrigin
from klinestream.market.topics import CANDLES, WINDOWS
from klinestream.runtime.kafka import Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from tests.serving import SLIDE_MS, ServerProcess, now_ms, window_at
from tests.stack import TestBroker
from tests.topics import Topic

CLIENTS = 500
WAIT_S = 60.0
EVERY_S = 1.0  # this process has to keep up with 500 clients, on a busy machine too: one that falls behind is conflated
MINUTE_MS = 60_000
SYMBOLS = tuple(f"C{number:02}USDT" for number in range(20))
UNIT = 10**8

Series = tuple[str, str]
"""Kind and symbol."""
Version = tuple[int, int]
"""Time and revision of a record."""


class Flow:
    """Publishes the next window and the next candle of each symbol, again and again, some of them corrected, until it is stopped."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._publisher = open_publisher(KafkaConfig(bootstrap_servers=bootstrap_servers, client="confluent-kafka"), "test-flow")
        self._end_ms = now_ms() // SLIDE_MS * SLIDE_MS - 30_000
        self._opened_ms = now_ms() // MINUTE_MS * MINUTE_MS - 300 * MINUTE_MS
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flow")
        self._thread.start()

    def stop(self) -> None:
        """Publish no more; all that was published is in the topics then. Once is enough."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join()
        self._publisher.close(10)

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self._end_ms += SLIDE_MS
            self._opened_ms += MINUTE_MS
            for number, symbol in enumerate(SYMBOLS):
                self._window(symbol, self._end_ms, 0)
                self._candle(symbol, self._opened_ms, 0)
                if (self._end_ms // SLIDE_MS + number) % 5 == 0:
                    self._window(symbol, self._end_ms - 2 * SLIDE_MS, 1)
                    self._candle(symbol, self._opened_ms - MINUTE_MS, 1)
            self._publisher.flush(10)

    def _window(self, symbol: str, end_ms: int, revision: int) -> None:
        window = window_at(symbol, end_ms, 0, revision=revision)
        self._publisher.publish(Record(WINDOWS.name, symbol.encode(), encode_event(window), end_ms - 1))

    def _candle(self, symbol: str, opened_ms: int, revision: int) -> None:
        candle = Candle(
            symbol=symbol,
            interval="1m",
            open_time_ms=opened_ms,
            close_time_ms=opened_ms + MINUTE_MS - 1,
            open=UNIT,
            high=2 * UNIT,
            low=UNIT,
            close=2 * UNIT,
            base_volume=UNIT,
            quote_volume=UNIT,
            taker_base_volume=0,
            taker_quote_volume=0,
            trades=1,
            first_trade_id=1,
            last_trade_id=1,
            klines=60,
            complete=True,
            origin=CandleOrigin.BUILT,
            revision=revision,
        )
        self._publisher.publish(Record(CANDLES.name, symbol.encode(), encode_event(candle), candle.close_time_ms))


class Client:
    """Follows its series over as many connections as it takes, and counts each version of each record that it holds."""

    def __init__(self, number: int) -> None:
        chosen = random.Random(number)
        self.version = 1 if number % 10 > 7 else 2
        self.packed = number % 10 in (5, 6)
        self.kinds = ("windows", "candles") if number % 10 in (5, 6, 7) else ("windows",)
        self.symbols = [symbol for symbol in SYMBOLS if symbol.startswith("C0")] if number % 10 == 7 else chosen.sample(SYMBOLS, 3)
        self.asks = ["C0*"] if number % 10 == 7 else self.symbols
        self.held: dict[Series, Counter[Version]] = {(kind, symbol): Counter() for kind in self.kinds for symbol in self.symbols}
        self.connections = 0
        self.answers: set[str] = set()
        """How its series were answered on the present connection: update where it goes on, snapshot where it starts anew."""
        self.conflated = 0
        self._cursors: dict[str, dict[str, int]] = {}
        self._in_snapshot: dict[Series, set[Version]] = {}
        """A record of the last snapshot may come once more in an update, says the protocol: it was read while the snapshot was made."""

    async def follow(self, url: str) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                async with connect(f"{url}?encoding=msgpack" if self.packed else url, proxy=None, max_size=None) as opened:
                    self.answers = set()
                    await self._subscribe(opened)
                    self.connections += 1
                    async for raw in opened:
                        self._take(orjson.loads(raw) if isinstance(raw, str) else msgpack.unpackb(raw))
            await asyncio.sleep(random.uniform(0.1, 0.3))  # as the protocol asks of a client: not all at once

    async def _subscribe(self, opened: ClientConnection) -> None:
        if self.version == 1:
            for symbol in self.symbols:
                await opened.send(orjson.dumps({"op": "subscribe", "symbol": symbol, "cursor": self._cursors.get(symbol)}).decode())
            return
        asked = {"op": "subscribe", "kinds": self.kinds, "symbols": self.asks, "intervals": ["1m"], "limit": 1000}
        await opened.send(orjson.dumps(asked | ({"cursor": self._cursors} if self._cursors else {})).decode())

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"], self.version:
            case "error", _:
                raise AssertionError(message)
            case (("snapshot" | "update"), 1):
                self._hold(message["type"], ("windows", message["symbol"]), message["windows"], message)
                self._cursors[message["symbol"]] = message["cursor"]
            case "snapshot", _:
                self._hold("snapshot", (message["kind"], message["symbol"]), message["records"], message)
            case "update", _:
                self.answers.add("update")
                for part in message["series"]:
                    self._hold("update", (part["kind"], part["symbol"]), part["records"], part)
        if self.version == 2:
            for topic, offsets in message.get("cursor", {}).items():
                self._cursors.setdefault(topic, {}).update(offsets)

    def _hold(self, how: str, series: Series, records: list[dict[str, Any]], told: dict[str, Any]) -> None:
        self.answers.add(how)
        self.conflated += told.get("conflated", 0)
        held, in_snapshot = self.held[series], self._in_snapshot.setdefault(series, set())
        versions = [(record["window_end"] if series[0] == "windows" else record["t"], record["revision"]) for record in records]
        if how == "snapshot":
            held.clear()
            self._in_snapshot[series] = set(versions)
            held.update(versions)
            return
        held.update(version for version in versions if version not in in_snapshot)
        in_snapshot.difference_update(versions)


def truth(bootstrap_servers: str) -> dict[Series, set[Version]]:
    """All versions of all records, as the topics have them."""
    found: dict[Series, set[Version]] = {}
    for topic, kind, name, time in ((WINDOWS, "windows", "symbol", "window_end"), (CANDLES, "candles", "s", "t")):
        held = Topic(bootstrap_servers, topic.name)
        for value in held.values():
            found.setdefault((kind, value[name]), set()).add((value[time], value["revision"]))
        held.close()
    return found


def lacks(client: Client, published: dict[Series, set[Version]]) -> list[object]:
    """What a client holds that it should not, or more than once, or not at all: of each time the highest revision counts."""
    faults: list[object] = []
    for series, held in client.held.items():
        newest = dict(sorted(published[series]))
        faults += [(series, version, "missing") for version in newest.items() if not held[version]]
        faults += [(series, version, f"{times} times") for version, times in held.items() if times > 1]
        faults += [(series, version, "never published") for version in held.keys() - published[series]]
    return faults


@pytest.fixture
def server(module_broker: TestBroker, tmp_path: Path) -> Iterator[ServerProcess]:
    started = ServerProcess(module_broker.bootstrap_servers, tmp_path / "server.log", handshakes_per_s=10_000)
    started.start()
    yield started
    started.close()


@pytest.fixture
def flow(module_broker: TestBroker) -> Iterator[Flow]:
    flowing = Flow(module_broker.bootstrap_servers)
    yield flowing
    flowing.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    """As `eventually`, in the event loop."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"expected within {WAIT_S} s: {what}") from None


def test_a_killed_server_loses_and_repeats_nothing(module_broker: TestBroker, server: ServerProcess, flow: Flow) -> None:
    """500 clients of both versions and encodings resume after a kill -9; in the end each holds every record that counts, once."""
    clients = [Client(number) for number in range(CLIENTS)]

    async def live() -> None:
        async with asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(client.follow(server.websocket_url)) for client in clients]
            await until(lambda: all("update" in client.answers for client in clients), "all get what is new")
            server.kill()
            await asyncio.to_thread(server.start)
            await until(lambda: all(client.connections > 1 and client.answers for client in clients), "all have come back")
            await asyncio.to_thread(flow.stop)
            published = await asyncio.to_thread(truth, module_broker.bootstrap_servers)
            with contextlib.suppress(AssertionError):  # then what is lacking is told
                await until(lambda: not any(lacks(client, published) for client in clients), "all have everything")
            assert [fault for client in clients for fault in lacks(client, published)] == []
            for task in following:
                task.cancel()

    asyncio.run(live())
    assert sum(client.conflated for client in clients) == 0
