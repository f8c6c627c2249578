"""How many frames a second the producer takes when the exchange sends as fast as it can, and whether any is lost."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import psutil
from websockets.sync.server import ServerConnection, serve

from bench.market import SYMBOLS, lines
from bench.report import Report
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import DEAD_LETTERS, KLINES
from klinestream.runtime.config import load
from klinestream.runtime.kafka import open_reader
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, broker_with_topics
from tests.topics import kafka

_SECONDS = 100


class Exchange:
    """Answers what the producer asks, then sends frames that were made before, each connection's as fast as it takes them."""

    def __init__(self) -> None:
        """Make the frames; listens on free ports."""
        start_ms = (int(time.time()) - _SECONDS - 5) * SECOND_MS
        self.frames: dict[str, list[bytes]] = {}
        for symbol, closed, line in lines(start_ms, _SECONDS):
            kline = orjson.loads(line) | {"x": True, "B": "0"}
            del kline["last_trade_id"], kline["origin"]
            data = {"e": "kline", "E": closed + 1, "s": symbol, "k": kline}
            self.frames.setdefault(symbol, []).append(orjson.dumps({"stream": f"{symbol.lower()}@kline_1s", "data": data}))
        self.go = threading.Event()
        self._done = threading.Event()
        self.subscribed = 0
        self._server = serve(self._send, "127.0.0.1", 0, process_request=self._rest, compression=None, max_size=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._done.set()
        self._server.shutdown()

    def _rest(self, connection: ServerConnection, request: object) -> object:
        path = getattr(request, "path", "")
        if path.startswith("/api/v3/time"):
            return connection.respond(200, orjson.dumps({"serverTime": time.time_ns() // 1_000_000}).decode())
        if path.startswith("/api/v3/exchangeInfo"):
            listed = [{"symbol": symbol, "status": "TRADING"} for symbol in self.frames]
            return connection.respond(200, orjson.dumps({"symbols": listed}).decode())
        return None

    def _send(self, connection: ServerConnection) -> None:
        mine: list[str] = []
        try:
            while True:
                request = orjson.loads(connection.recv(timeout=2))
                mine += [stream.split("@")[0].upper() for stream in request["params"]]
                connection.send(orjson.dumps({"result": None, "id": request["id"]}).decode())
        except TimeoutError:
            self.subscribed += len(mine)
        self.go.wait()
        for second in range(_SECONDS):
            for symbol in mine:
                connection.send(self.frames[symbol][second], text=True)
        self._done.wait()


def measure(report: Report, folder: Path) -> None:
    """Once with each Kafka client."""
    exchange = Exchange()
    for client in ("kafka-python", "confluent-kafka"):
        with broker_with_topics(folder / client) as broker:
            _one(report, client, broker, exchange)
    exchange.close()
    report.note(
        f"{SYMBOLS:,} symbols on 4 connections, {_SECONDS} klines each, sent as fast as they are taken by a Python websocket server"
    )
    report.note("seconds until the last kline stands in the topic; the sender shares the machine's cores")


def _one(report: Report, client: str, broker: TestBroker, exchange: Exchange) -> None:
    address = f"127.0.0.1:{exchange.port}"
    market = {"websocket_url": f"ws://{address}", "rest_url": f"http://{address}", "symbols": ["*"]}
    (port,) = free_ports(1)
    config = load(
        None,
        kafka={"bootstrap_servers": broker.bootstrap_servers, "client": client},
        exchange=market,
        producer={"metrics_port": port, "silence_s": 300, "stall_s": 300},
        log={"level": "warning"},
    )
    exchange.subscribed = 0
    exchange.go.clear()
    producer = subprocess.Popen([scripts() / "klinestream", "producer"], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        eventually(lambda: exchange.subscribed == SYMBOLS, 60, "all symbols are subscribed")
        reader = open_reader(kafka(broker.bootstrap_servers), "bench")
        process, frames = psutil.Process(producer.pid), SYMBOLS * _SECONDS
        before, began = process.cpu_times(), time.perf_counter()
        exchange.go.set()
        eventually(lambda: sum(end for _, end in reader.bounds(KLINES.name).values()) >= frames, 300, "all klines are in the topic")
        seconds, after = time.perf_counter() - began, process.cpu_times()
        arrived = sum(end for _, end in reader.bounds(KLINES.name).values())
        dead = sum(end for _, end in reader.bounds(DEAD_LETTERS.name).values())
        cpu = after.user + after.system - before.user - before.system
        report.row(
            client,
            frames=frames,
            lost=frames - arrived + dead,
            frames_a_second=round(frames / seconds),
            cpu_us_a_frame=round(cpu / frames * 1e6, 1),
            memory_mb=process.memory_info().rss >> 20,
        )
        reader.close()
    finally:
        producer.terminate()
        producer.wait(15)
