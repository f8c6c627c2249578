"""How long a number takes from the exchange to a browser: live, all klines of a second in one burst, 1,400 symbols.

frame sent ─► producer ─► Kafka ─► job ─► Kafka ─► server ─► websocket client
          feed           └── job ──┘     └──── serving ─────┘
└──────────────────────── from the second's last frame ────────────────────────┘
"""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import websocket

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
_SUBSCRIBED_S = 60.0
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
    readers = _read_all(stack, received)
    began_ms = time.time_ns() // 1_000_000
    before, before_s = _cpu_s(stack), time.monotonic()
    for _ in range(_MEASURED_S // 5):
        time.sleep(5)
        bursts |= set(httpx.get(f"{stack.config.exchange.rest_url}/standin/status", trust_env=False).json()["bursts_ms"])
    after, passed_s = _cpu_s(stack), time.monotonic() - before_s
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
    for part, spent_s in after.items():
        report.row(f"{client}: CPU of {part}", ms_a_second=round((spent_s - before[part]) / passed_s * 1000))


def _cpu_s(stack: TestStack) -> dict[str, float]:
    """Part → CPU seconds of its processes so far; the measuring is a part too, with what supervises all."""
    found = {"measuring and supervising": time.process_time()}
    for part, pid in stack.supervisor.pids().items():
        root = psutil.Process(pid)
        times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
        found[part] = sum(spent.user + spent.system for spent in times)
    return found


def _read_all(stack: TestStack, received: Received) -> list["_Client"]:
    """One websocket a partition, each with all of its symbols."""
    url = f"ws://127.0.0.1:{stack.config.server.port}/ws"
    with httpx.Client(trust_env=False) as rest:
        answer = rest.get(f"{stack.config.exchange.rest_url}/api/v3/exchangeInfo").json()
    names = [entry["symbol"] for entry in answer["symbols"]]
    return [
        _Client(url, [name for name in names if partition_of(name, KLINES.partitions) == p], received) for p in range(KLINES.partitions)
    ]


class _Client(threading.Thread):
    """Notes when each message was there, and looks into them afterwards: what measures shares the machine with what is measured."""

    def __init__(self, url: str, symbols: list[str], received: Received) -> None:
        super().__init__(daemon=True)
        self._socket = websocket.create_connection(url, skip_utf8_validation=True)
        self._symbols = symbols
        self._received = received
        self._heard: list[tuple[int, bytes]] = []
        self.subscribed = threading.Event()
        self.start()

    def run(self) -> None:
        """Subscribe, as fast as the server answers, then listen."""
        left = list(self._symbols)
        for symbol in left[:_ASKED_AT_ONCE]:
            self._subscribe(symbol)
        del left[:_ASKED_AT_ONCE]
        try:
            while True:
                message = self._socket.recv_data()[1]
                self._heard.append((time.time_ns() // 1_000_000, message))
                if self.subscribed.is_set() or orjson.loads(message)["type"] != "snapshot":
                    continue
                if left:
                    self._subscribe(left.pop())
                else:
                    self.subscribed.set()
        except (websocket.WebSocketException, OSError):
            return

    def close(self) -> None:
        """End, and say what was received."""
        self._socket.abort()
        self.join()
        for at, text in self._heard:
            message: dict[str, Any] = orjson.loads(text) if text.startswith(b"{") else {}
            if message.get("type") == "update":
                for window in message["windows"]:
                    self._received[(window["symbol"], window["window_end"])] = at

    def _subscribe(self, symbol: str) -> None:
        self._socket.send(orjson.dumps({"op": "subscribe", "symbol": symbol}).decode())


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
