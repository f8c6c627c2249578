"""How many trades a second the feed of trades takes when the exchange sends as fast as it can, and whether any is lost."""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import psutil
from websockets.sync.server import ServerConnection, serve

from bench.market import SYMBOLS
from bench.report import Report
from klinestream.market.topics import DEAD_LETTERS, TRADES
from klinestream.runtime.config import Config, load
from klinestream.runtime.kafka import open_reader
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, broker_with_topics
from tests.topics import kafka

_TRADES = 300_000
_SENT_AT_ONCE = 500  # frames in one write: what a socket gives at a time when trades come fast
_TEXT_FRAME, _TWO_BYTES = 0x81, 126


class Exchange:
    """Answers what the feed asks, then sends aggregated trades that were made before, as bytes of the websocket already."""

    def __init__(self, symbols: int) -> None:
        """Make the frames of so many symbols, in turns; listens on a free port."""
        self.names = [f"SYM{number:04}USDT" for number in range(symbols)]
        self.go = threading.Event()
        self._done = threading.Event()
        self.subscribed = 0
        self._began_ms = time.time_ns() // 1_000_000 - 60_000
        self._server = serve(self._send, "127.0.0.1", 0, process_request=self._rest, compression=None, max_size=None, ping_interval=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._done.set()
        self._server.shutdown()

    def _rest(self, connection: ServerConnection, request: object) -> object:
        path = getattr(request, "path", "")
        if path.startswith("/api/v3/exchangeInfo"):
            listed = [{"symbol": symbol, "status": "TRADING"} for symbol in self.names]
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
            writes = list(self._writes(mine))
            self.subscribed += len(mine)
        self.go.wait()
        for write in writes:
            connection.socket.sendall(write)
        self._done.wait()

    def _writes(self, symbols: list[str]) -> Iterator[bytes]:
        """The frames of a connection's symbols, some hundred a write."""
        write = bytearray()
        next_id: dict[str, int] = defaultdict(lambda: 1000)
        for number in range(_TRADES // len(self.names) * len(symbols)):
            symbol = symbols[number % len(symbols)]
            first = next_id[symbol]
            next_id[symbol] = first + 1 + number % 3
            time_ms = self._began_ms + number // 50
            data = {
                "e": "aggTrade", "E": time_ms, "s": symbol, "a": first, "p": f"{60_000 + number % 997}.{number % 100:02}000000",
                "q": f"0.{number % 99_999:05}000", "f": first, "l": next_id[symbol] - 1, "T": time_ms, "m": number % 2 == 0, "M": True,
            }  # fmt: skip  # as the exchange groups them
            payload = orjson.dumps({"stream": f"{symbol.lower()}@aggTrade", "data": data})
            write += bytes((_TEXT_FRAME, _TWO_BYTES)) + len(payload).to_bytes(2, "big") + payload
            if number % _SENT_AT_ONCE == _SENT_AT_ONCE - 1:
                yield bytes(write)
                write.clear()
        yield bytes(write)

    def frames(self) -> int:
        """How many frames all connections send together."""
        return _TRADES // len(self.names) * len(self.names)


def measure(report: Report, folder: Path) -> None:
    """The feed's part, with each Kafka client: one symbol alone, and a full market."""
    for symbols in (1, SYMBOLS):
        for client in ("kafka-python", "confluent-kafka"):
            exchange = Exchange(symbols)
            with broker_with_topics(folder / f"{client}-{symbols}") as broker:
                _one(report, client, broker, exchange)
            exchange.close()
    report.note(f"{_TRADES:,} aggregated trades, sent as fast as the feed takes them, {SYMBOLS:,} symbols on 4 connections, one on one")
    report.note("until the last trade stands in the topic; sender and broker share the machine's cores")


def _one(report: Report, client: str, broker: TestBroker, exchange: Exchange) -> None:
    address = f"127.0.0.1:{exchange.port}"
    (port,) = free_ports(1)
    config = load(
        None,
        kafka={"bootstrap_servers": broker.bootstrap_servers, "client": client},
        exchange={"websocket_url": f"ws://{address}", "rest_url": f"http://{address}", "symbols": ["*"]},
        producer={"silence_s": 300, "reconcile_s": 0},
        trades={"metrics_port": port},
        log={"level": "warning"},
    )
    with _feeding(config) as process:
        eventually(lambda: exchange.subscribed == len(exchange.names), 120, "all symbols are subscribed")
        reader = open_reader(kafka(broker.bootstrap_servers), "bench")
        frames = exchange.frames()
        before, began = process.cpu_times(), time.perf_counter()
        exchange.go.set()
        eventually(lambda: sum(end for _, end in reader.bounds(TRADES.name).values()) >= frames, 280, "all trades are in the topic")
        seconds, after = time.perf_counter() - began, process.cpu_times()
        arrived = sum(end for _, end in reader.bounds(TRADES.name).values())
        dead = sum(end for _, end in reader.bounds(DEAD_LETTERS.name).values())
        cpu = after.user + after.system - before.user - before.system
        report.row(
            f"feed, {client}, {len(exchange.names):,} symbol{'s' * (len(exchange.names) > 1)}",
            trades=frames,
            lost=frames - arrived + dead,
            trades_a_second=round(frames / seconds),
            cpu_us_a_trade=round(cpu / frames * 1e6, 1),
            memory_mb=process.memory_info().rss >> 20,
        )
        reader.close()


@contextmanager
def _feeding(config: Config) -> Iterator[psutil.Process]:
    feed = subprocess.Popen([scripts() / "klinestream", "feed", "trades"], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        yield psutil.Process(feed.pid)
    finally:
        feed.terminate()
        feed.wait(15)
