"""How long a number takes from the exchange to a browser: live, all klines of a second in one burst, 1,400 symbols.

frame sent ─► producer ─► Kafka ─► job ─► Kafka ─► server ─► websocket client
          feed           └── job ──┘     └──── serving ─────┘
└──────────────────────── from the second's last frame ────────────────────────┘
"""

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench.market import SYMBOLS
from bench.report import Report, percentiles
from klinestream.market.events import SECOND_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINES, PUBLISHED_HEADER, WINDOWS
from klinestream.runtime.kafka import Record
from tests.topics import Topic
from tests.whole_stack import TestStack

_WARM_S = 30.0
_MEASURED_S = 40
_ASKED_AT_ONCE = 8  # the server closes a connection that asks for more than it reads
Received = dict[tuple[str, int], int]
"""(symbol, window end) → when the client had it, ms."""


def measure(report: Report, folder: Path) -> None:
    """Once with each Kafka client."""
    for client in ("kafka-python", "confluent-kafka"):
        # A client that follows everything must not be conflated.
        server = {"max_subscriptions": SYMBOLS, "client_queue": 4 * SYMBOLS, "messages_per_s": 1000}
        stack = TestStack(folder / client, str(SYMBOLS), kafka={"client": client}, server=server)
        try:
            stack.start()
            time.sleep(_WARM_S)  # the JVM compiles what runs often
            _one(report, client, stack)
        finally:
            stack.stop()
    report.note(f"ms; {_MEASURED_S} seconds of {SYMBOLS:,} symbols, after {_WARM_S:.0f} s of warming up; everything on this one machine")
    report.note("total is from the moment the second's last frame had been handed over, to the websocket client, for each window")


def _one(report: Report, client: str, stack: TestStack) -> None:
    bursts: set[int] = set()
    received: Received = {}
    began_ms = time.time_ns() // 1_000_000
    readers = _read_all(stack, received)
    for _ in range(_MEASURED_S // 5):
        time.sleep(5)
        bursts |= set(httpx.get(f"{stack.config.exchange.rest_url}/standin/status", trust_env=False).json()["bursts_ms"])
    for reader in readers:
        reader.close()
    sent = {burst // SECOND_MS * SECOND_MS: burst for burst in sorted(bursts)}
    fed = _published(stack, KLINES.name, "s", "T")
    made = _published(stack, WINDOWS.name, "symbol", "window_end")
    hops: dict[str, list[float]] = {"feed": [], "job": [], "serving": [], "total": []}
    for (symbol, end), at in received.items():
        edge = end // SECOND_MS * SECOND_MS  # the kline that completed the window closed just before
        if edge < began_ms + 2 * SECOND_MS or edge not in sent or (symbol, edge - 1) not in fed:
            continue
        hops["feed"].append(fed[(symbol, edge - 1)] - sent[edge])
        hops["job"].append(made[(symbol, end)] - fed[(symbol, edge - 1)])
        hops["serving"].append(at - made[(symbol, end)])
        hops["total"].append(at - sent[edge])
    for hop, values in hops.items():
        report.row(f"{client}: {hop}", windows=len(values), **percentiles(values))


def _read_all(stack: TestStack, received: Received) -> list[Any]:
    """One websocket a partition, each with all of its symbols."""
    url = f"ws://127.0.0.1:{stack.config.server.port}/ws"
    with httpx.Client(trust_env=False) as rest:
        answer = rest.get(f"{stack.config.exchange.rest_url}/api/v3/exchangeInfo").json()
    names = [entry["symbol"] for entry in answer["symbols"]]
    connections = []
    for partition in range(KLINES.partitions):
        connection = connect(url, max_size=None, proxy=None)
        room = threading.Semaphore(_ASKED_AT_ONCE)
        threading.Thread(target=_read, args=(connection, received, room), daemon=True).start()
        for symbol in (name for name in names if partition_of(name, KLINES.partitions) == partition):
            room.acquire()
            connection.send(orjson.dumps({"op": "subscribe", "symbol": symbol}).decode())
        connections.append(connection)
    return connections


def _read(connection: Iterable[str | bytes], received: Received, room: threading.Semaphore) -> None:
    try:
        for text in connection:
            at = time.time_ns() // 1_000_000
            message = orjson.loads(text)
            if message["type"] == "snapshot":
                room.release()
            elif message["type"] == "update":
                for window in message["windows"]:
                    received[(window["symbol"], window["window_end"])] = at
    except ConnectionClosed:
        return


def _published(stack: TestStack, topic: str, name: str, time_field: str) -> dict[tuple[str, int], int]:
    """(symbol, time) → when the record was published, ms."""
    held = Topic(stack.bootstrap_servers, topic)
    found = {}
    for record in held.read():
        value = orjson.loads(record.value or b"")
        found[(value[name], value[time_field])] = _header(record)
    held.close()
    return found


def _header(record: Record) -> int:
    return int(dict(record.headers)[PUBLISHED_HEADER])
