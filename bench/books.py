"""What order books cost: a market's diffs at the exchange's pace, and as fast as the feed of books takes them."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import psutil
from websockets.sync.server import ServerConnection, serve

from bench.report import Report
from klinestream.market.topics import DEAD_LETTERS, ID_GAPS, ORDER_BOOK, Topic
from klinestream.runtime.config import Config, load
from klinestream.runtime.kafka import Reader, open_reader
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker, broker_with_topics
from tests.topics import kafka

_SYMBOLS = 50
_UPDATE_MS = 100  # a diff a symbol: what the exchange sends
_PHASES = {"first": 2, "paced": 100, "fast": 240}  # diffs a symbol: for the books to begin with, in their time, and at once
_LEVELS = 5000  # of a snapshot a side
_CHANGED = range(25, 51)  # levels of a diff a side; recorded ones of BTCUSDT have 57 on both together on average, half of them up to 30
_NEAR = 1 / 400  # mean distance of a changed level from the mid, inverted, in ticks
_TICK = 1_000_000  # of 1e-8
_MID = 400_000  # ticks: a snapshot reaches 1.25 % then, beyond the widest band
_TEXT_FRAME, _TWO_BYTES = 0x81, 126


class Market:
    """One symbol's book that moves: its diffs as bytes of the websocket, and the snapshot before the first of them."""

    def __init__(self, symbol: str, began_ms: int) -> None:
        """Make them all; `began_ms` is the time of the first."""
        noise = random.Random(symbol)
        sides = [set(range(_MID - _LEVELS, _MID)), set(range(_MID + 1, _MID + 1 + _LEVELS))]
        levels = [[_level(noise, tick) for tick in ticks] for ticks in (sorted(sides[0], reverse=True), sorted(sides[1]))]
        self.snapshot = orjson.dumps({"lastUpdateId": 999, "bids": levels[0], "asks": levels[1]}).decode()
        self.frames: list[bytes] = []
        mid = _MID
        for number in range(sum(_PHASES.values())):
            to = mid + noise.randint(-3, 3)
            data = {
                "e": "depthUpdate", "E": began_ms + number * _UPDATE_MS, "s": symbol, "U": 1000 + 40 * number, "u": 1039 + 40 * number,
                "b": _changes(noise, sides[0], range(mid, to - 1, -1), to, -1), "a": _changes(noise, sides[1], range(mid, to + 1), to, 1),
            }  # fmt: skip  # as the exchange groups them
            mid = to
            payload = orjson.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data})
            self.frames.append(bytes((_TEXT_FRAME, _TWO_BYTES)) + len(payload).to_bytes(2, "big") + payload)


def _level(noise: random.Random, tick: int) -> list[str]:
    return [f"{tick // 100}.{tick % 100:02}000000", f"{noise.randrange(50)}.{noise.randrange(1, 100_000):05}000"]


def _changes(noise: random.Random, side: set[int], passed: range, mid: int, sign: int) -> list[list[str]]:
    """Levels that the mid has passed go; others near it come, change, or in one case of three go."""
    gone = {tick for tick in passed if tick in side}
    found = {tick: [_level(noise, tick)[0], "0.00000000"] for tick in gone}
    side -= gone
    for _ in range(noise.choice(_CHANGED)):
        tick = mid + sign * (1 + int(noise.expovariate(_NEAR)))
        found[tick] = _level(noise, tick)
        if tick in side and noise.random() < 1 / 3:
            found[tick][1] = "0.00000000"
            side.discard(tick)
        else:
            side.add(tick)
    return [found[tick] for tick in sorted(found, key=lambda tick: sign * tick)]


class Exchange:
    """Answers what the feed asks, and sends each phase's diffs when it is told to."""

    def __init__(self) -> None:
        """Make the market; listens on a free port."""
        second_ms = 1000
        self.began_ms = (time.time_ns() // 1_000_000 // second_ms - 600) * second_ms - _UPDATE_MS  # the next diff is a second's first
        self.markets = {symbol: Market(symbol, self.began_ms) for symbol in (f"SYM{number:04}USDT" for number in range(_SYMBOLS))}
        self.begin()
        self._server = serve(self._send, "127.0.0.1", 0, process_request=self._rest, compression=None, max_size=None, ping_interval=None)
        self.address = f"127.0.0.1:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def begin(self) -> None:
        """Be ready for the next feed."""
        self.go = {phase: threading.Event() for phase in (*_PHASES, "end")}
        self.subscribed = 0

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()

    def records(self, every_ms: int, upto: str) -> int:
        """How many records a feed publishes up to the end of a phase."""
        phases = list(_PHASES)
        diffs = sum(_PHASES[phase] for phase in phases[: phases.index(upto) + 1])
        stretches = len({(self.began_ms + number * _UPDATE_MS) // every_ms for number in range(diffs)})
        return _SYMBOLS * (stretches - (every_ms > _UPDATE_MS))

    def _rest(self, connection: ServerConnection, request: object) -> object:
        asked = urlsplit(getattr(request, "path", ""))
        if asked.path == "/api/v3/exchangeInfo":
            listed = [{"symbol": symbol, "status": "TRADING"} for symbol in self.markets]
            return connection.respond(200, orjson.dumps({"symbols": listed}).decode())
        if asked.path == "/api/v3/depth":
            return connection.respond(200, self.markets[parse_qs(asked.query)["symbol"][0]].snapshot)
        return None

    def _send(self, connection: ServerConnection) -> None:
        mine: list[str] = []
        go = self.go
        try:
            while True:
                request = orjson.loads(connection.recv(timeout=2))
                mine += [stream.split("@")[0].upper() for stream in request["params"]]
                connection.send(orjson.dumps({"result": None, "id": request["id"]}).decode())
        except TimeoutError:
            self.subscribed += len(mine)
        rounds = iter([b"".join(frames) for frames in zip(*(self.markets[symbol].frames for symbol in mine), strict=True)])
        for phase, diffs in _PHASES.items():
            go[phase].wait()
            began = time.perf_counter()
            for number in range(diffs):
                if phase == "paced":
                    time.sleep(max(0.0, began + number * _UPDATE_MS / 1000 - time.perf_counter()))
                connection.socket.sendall(next(rounds))
        go["end"].wait()


def measure(report: Report, folder: Path) -> None:
    """The feed's part, with each Kafka client, publishing each update and each second."""
    exchange = Exchange()
    with broker_with_topics(folder / "broker") as broker:
        for client in ("kafka-python", "confluent-kafka"):
            for every_ms in (100, 1000):
                _one(report, client, every_ms, broker, exchange)
    exchange.close()
    report.note(
        f"{_SYMBOLS} symbols on 4 connections; diffs of {2 * _CHANGED[0]} to {2 * _CHANGED[-1]} levels, snapshots of {_LEVELS:,} a side"
    )
    report.note("sender and broker share the machine's cores; until the last record due stands in the topic")


def _one(report: Report, client: str, every_ms: int, broker: TestBroker, exchange: Exchange) -> None:
    (port,) = free_ports(1)
    config = load(
        None,
        kafka={"bootstrap_servers": broker.bootstrap_servers, "client": client},
        exchange={
            "websocket_url": f"ws://{exchange.address}",
            "rest_url": f"http://{exchange.address}",
            "symbols": ["*"],
            "weight_per_minute": 100_000,  # the start is not what is measured
        },
        producer={"silence_s": 300, "reconcile_s": 0},
        books={"metrics_port": port, "symbols": list(exchange.markets), "every_ms": every_ms, "levels": _LEVELS},
        log={"level": "warning"},
    )
    exchange.begin()
    reader = open_reader(kafka(broker.bootstrap_servers), "bench")
    before = _standing(reader, ID_GAPS, DEAD_LETTERS), _standing(reader, ORDER_BOOK)
    with _feeding(config) as process:
        eventually(lambda: exchange.subscribed == _SYMBOLS, 120, "all symbols are subscribed")
        due = {phase: before[1] + exchange.records(every_ms, phase) for phase in _PHASES}
        _phase("first", exchange, due, process, reader)
        _, idle = _phase("paced", exchange, due, process, reader)
        seconds, busy = _phase("fast", exchange, due, process, reader)
        paced, fast = _SYMBOLS * _PHASES["paced"], _SYMBOLS * _PHASES["fast"]
        report.row(
            f"feed, {client}, every {every_ms:,} ms",
            updates_a_second_at_most=round(fast / seconds),
            cpu_us_an_update=round(idle / paced * 1e6),
            cpu_us_an_update_at_most=round(busy / fast * 1e6),
            percent_of_a_core_at_500=round(100 * idle / (_PHASES["paced"] * _UPDATE_MS / 1000), 1),
            records=_standing(reader, ORDER_BOOK) - before[1],
            lost=due["fast"] - _standing(reader, ORDER_BOOK),
            gaps_and_dead_letters=_standing(reader, ID_GAPS, DEAD_LETTERS) - before[0],
            memory_mb=process.memory_info().rss >> 20,
        )
    exchange.go["end"].set()
    reader.close()


def _phase(phase: str, exchange: Exchange, due: Mapping[str, int], process: psutil.Process, reader: Reader) -> tuple[float, float]:
    """Seconds until all is in the topic that is due, and the CPU that the feed took."""
    before, began = process.cpu_times(), time.perf_counter()
    exchange.go[phase].set()
    eventually(lambda: _standing(reader, ORDER_BOOK) >= due[phase], 120, f"all books of the phase {phase} are in the topic")
    seconds, after = time.perf_counter() - began, process.cpu_times()
    return seconds, after.user + after.system - before.user - before.system


def _standing(reader: Reader, *topics: Topic) -> int:
    return sum(end for topic in topics for _, end in reader.bounds(topic.name).values())


@contextmanager
def _feeding(config: Config) -> Iterator[psutil.Process]:
    feed = subprocess.Popen([scripts() / "klinestream", "feed", "books"], env=os.environ | configuration(config), stdout=sys.stderr)
    try:
        yield psutil.Process(feed.pid)
    finally:
        feed.terminate()
        feed.wait(15)
