"""A server as its own process, and windows published to a real broker, for the server's and the page's tests."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from klinestream.market.codec import encode_event
from klinestream.market.events import Window
from klinestream.market.topics import PUBLISHED_HEADER, WINDOWS
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from klinestream.runtime.sections import KafkaConfig
from tests.eventually import eventually
from tests.ports import free_ports

SIZE_MS = 3000
SLIDE_MS = 500
SEED_MS = 15_000  # a run's first RSI
READY_MS = 150_000  # a run's first converged RSI
_START_S = 90.0
_STOP_S = 30.0


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def window_at(symbol: str, end_ms: int, since_ms: int, *, price: float = 60_000.0, revision: int = 0) -> Window:
    """A window of a made-up market: a function of its arguments, so that no identity ever has two values.

    As in the real one, windows that end in the same second hold the same klines.
    """
    newest = end_ms // 1000 - 1
    points = min(SIZE_MS // 1000, max(1, newest - since_ms // 1000 + 1))
    closes, lows, highs, volumes = zip(*(_second(symbol, second, price) for second in range(newest - points + 1, newest + 1)), strict=True)
    age_ms = end_ms - since_ms
    return Window(
        symbol=symbol,
        start_ms=end_ms - SIZE_MS,
        end_ms=end_ms,
        close=closes[-1],
        average_price=sum(closes) / points,
        low=min(lows),
        high=max(highs),
        volume=sum(volumes),
        points=points,
        rsi=50 + 27 * math.sin(newest / 13) + 8 * _noise(symbol, newest) if age_ms >= SEED_MS else None,
        rsi_ready=age_ms >= READY_MS,
        since_ms=since_ms,
        revision=revision,
    )


def _second(symbol: str, second: int, price: float) -> tuple[float, float, float, float]:
    """Close, low, high and volume of one second."""
    noise = _noise(symbol, second)
    close = price * (1 + 0.0008 * math.sin(second / 17) + 0.0004 * math.sin(second / 5.3) + 0.0004 * noise)
    volume = 0.3 + 2 * abs(noise) ** 3 + 0.5 * (1 + math.sin(second / 11))
    return close, close * (1 - 0.0001 - 0.0001 * abs(noise)), close * (1 + 0.0001 + 0.0001 * abs(noise)), volume


def _noise(symbol: str, second: int) -> float:
    return random.Random(f"{symbol}{second}").uniform(-0.5, 0.5)


def ends_between(from_ms: int, to_ms: int) -> range:
    """The ends of the windows in (from, to]."""
    return range((from_ms // SLIDE_MS + 1) * SLIDE_MS, to_ms + 1, SLIDE_MS)


class Windows:
    """Publishes windows to `crypto_data_aggregated` of a real broker; creates the topic."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Connect."""
        create_topic(bootstrap_servers)
        self._publisher: Publisher = open_publisher(
            # This library leaves no open sockets behind when the broker is killed; the other does, and warnings are errors.
            KafkaConfig(bootstrap_servers=bootstrap_servers, client="confluent-kafka"),
            "test-windows",
        )

    def publish(self, windows: Sequence[Window]) -> None:
        """Publish windows and wait until all are acknowledged."""
        for window in windows:
            self._publisher.publish(
                Record(
                    WINDOWS.name,
                    window.symbol.encode(),
                    encode_event(window),
                    window.end_ms - 1,
                    ((PUBLISHED_HEADER, str(now_ms()).encode()),),
                )
            )
        self._publisher.flush(10)

    def raw(self, key: bytes, values: Sequence[bytes], timestamp_ms: int) -> None:
        """Publish any bytes and wait until all are acknowledged."""
        for value in values:
            self._publisher.publish(Record(WINDOWS.name, key, value, timestamp_ms))
        self._publisher.flush(10)

    def close(self) -> None:
        """Disconnect."""
        self._publisher.close(5)

    @contextmanager
    def running(self, prices: dict[str, float], *, history_s: float = 150, run_s: float = 400) -> Iterator[None]:
        """Publish history, then two windows a symbol a second as the job does, until the block ends.

        `run_s` before now the symbols' runs began: the younger, the less of the RSI is ready.
        """
        stop = threading.Event()
        began_ms = now_ms()
        since_ms = (began_ms - round(run_s * 1000)) // 1000 * 1000
        done_ms = began_ms - round(min(history_s, run_s) * 1000)

        def windows_to(end_ms: int) -> list[Window]:
            return [window_at(name, end, since_ms, price=price) for end in ends_between(done_ms, end_ms) for name, price in prices.items()]

        newest_ms = began_ms // 1000 * 1000 + SLIDE_MS
        self.publish(windows_to(newest_ms))
        done_ms = newest_ms

        def go_on() -> None:
            nonlocal done_ms
            while not stop.wait(max(0.0, (done_ms + SLIDE_MS + 60 - now_ms()) / 1000)):
                end_ms = now_ms() // 1000 * 1000 + SLIDE_MS
                self.publish(windows_to(end_ms))
                done_ms = max(done_ms, end_ms)

        thread = threading.Thread(target=go_on, name="windows")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def create_topic(bootstrap_servers: str) -> None:
    """Create `crypto_data_aggregated` if it isn't there."""
    # Not at the top: conftest.py is read before the filter for kafka-python's warnings holds.
    from kafka.admin import KafkaAdminClient, NewTopic  # noqa: PLC0415
    from kafka.errors import TopicAlreadyExistsError  # noqa: PLC0415

    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        admin.create_topics([NewTopic(WINDOWS.name, WINDOWS.partitions, 1, topic_configs=WINDOWS.settings())])
    except TopicAlreadyExistsError:
        pass
    finally:
        admin.close()


class ServerProcess:
    """`klinestream server` as a process of its own, on a free port that it keeps when it is started again."""

    def __init__(self, bootstrap_servers: str, log: Path, **settings: object) -> None:
        """`settings` are keys of `[server]`; one with two underscores is of another table."""
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/ws"
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self._log = log
        keys = {"server__port": self.port, "kafka__bootstrap_servers": bootstrap_servers, "kafka__connect_timeout_s": 20}
        keys |= {key if "__" in key else f"server__{key}": value for key, value in settings.items()}
        self._environment = {f"KLINESTREAM_{key.upper()}": str(value) for key, value in keys.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        self._spawn()
        eventually(self._answers, _START_S, f"the server answers; its log: {self._log}")

    def run_on(self, port: int) -> int:
        """Start it on this port and wait until it ends by itself; its exit code."""
        self._environment["KLINESTREAM_SERVER__PORT"] = str(port)
        return self._spawn().wait(_START_S)

    def ready(self) -> bool:
        """Whether /readyz says yes."""
        return self.http.get("/readyz").status_code == 200

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_STOP_S)

    def stop(self) -> int:
        """End it by SIGTERM; its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self.http.close()

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "klinestream.cli.main", "server"]
            self._process = subprocess.Popen(command, env=os.environ | self._environment, stdout=log, stderr=log)
        return self._process

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False
