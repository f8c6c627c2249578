"""A replica of ingestion as its own process, records to post, and what the topics hold of them."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import orjson

from klinestream.market.topics import CANDLE_HISTORY, INGEST_KEYS, KLINES, TRADES
from tests.eventually import eventually
from tests.ports import free_ports
from tests.topics import Topic

_START_S = 90.0
_STOP_S = 20.0
SECOND_MS = 1000


class IngestProcess:
    """`klinestream ingest` as a process of its own, on a free port that it keeps when it is started again."""

    def __init__(self, bootstrap_servers: str, log: Path, client: str = "kafka-python", **settings: object) -> None:
        """`settings` are keys of `[ingest]`."""
        self.port, self.metrics_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self._log = log
        keys = {"ingest__port": self.port, "ingest__metrics_port": self.metrics_port}
        keys |= {"kafka__bootstrap_servers": bootstrap_servers, "kafka__connect_timeout_s": 2}
        keys |= {"kafka__client": client} | {f"ingest__{key}": value for key, value in settings.items()}
        self._environment = {f"KLINESTREAM_{key.upper()}": str(value) for key, value in keys.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> "IngestProcess":
        """Start it."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "klinestream.cli.main", "ingest"]
            self._process = subprocess.Popen(command, env=os.environ | self._environment, stdout=log, stderr=log)
        return self

    def start(self) -> "IngestProcess":
        """Start it; returns when it is ready."""
        self.spawn().wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return when it is."""
        eventually(self.ready, _START_S, f"it is ready; its log: {self._log}")

    def ready(self) -> bool:
        """Whether /readyz says yes."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(self._log.read_text())
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP_S)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Wait until it has; its exit code."""
        assert self._process is not None
        return self._process.wait(_STOP_S)

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.http.close()

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, summed over what has these labels."""
        found = 0.0
        for line in self.http.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text.splitlines():
            if line.startswith(name) and all(f'{label}="{value}"' in line for label, value in labels.items()):
                found += float(line.rpartition(" ")[2])
        return found


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def second_ms(back_s: int = 3600) -> int:
    """A whole second, so many before now."""
    return now_ms() // SECOND_MS * SECOND_MS - back_s * SECOND_MS


def kline_post(symbol: str, opened_ms: int, close: str = "10.00000000") -> dict[str, Any]:
    """A kline to post."""
    volumes = dict.fromkeys("vqVQ", "1.00000000")
    return {"s": symbol, "t": opened_ms, "T": opened_ms + 999, **dict.fromkeys("ohlc", close), **volumes, "n": 1}


def trade_post(symbol: str, number: int, time_ms: int) -> dict[str, Any]:
    """A trade to post."""
    return {"s": symbol, "f": number, "p": "10.5", "q": "2", "T": time_ms, "m": True}


def bar_post(symbol: str, timestamp: int, close: float = 10.5) -> dict[str, Any]:
    """A bar to post."""
    return {
        "stock_symbol": symbol,
        "opening_price": 10.25,
        "closing_price": close,
        "high": 11,
        "low": 10,
        "volume": 4000,
        "timestamp": timestamp,
    }


class Held:
    """What the topics hold, by symbol and in order."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._topics = {topic.name: Topic(bootstrap_servers, topic.name) for topic in (KLINES, TRADES, CANDLE_HISTORY, INGEST_KEYS)}

    def of(self, topic: str, symbol: str) -> list[dict[str, Any]]:
        """The records of a symbol, as JSON."""
        return [orjson.loads(record.value or b"") for record in self._topics[topic].read() if record.key == symbol.encode()]

    def symbols(self, topic: str) -> dict[str, list[dict[str, Any]]]:
        """All symbols' records."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self._topics[topic].read():
            found[(record.key or b"").decode()].append(orjson.loads(record.value or b""))
        return found

    def close(self) -> None:
        """Disconnect."""
        for topic in self._topics.values():
            topic.close()
