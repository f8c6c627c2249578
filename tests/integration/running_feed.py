"""`klinestream feed NAME` in a process of its own, and what it writes into the topics."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from klinestream.market.topics import Topic
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record, open_reader
from klinestream.stack.commands import configuration
from tests.eventually import eventually

ROOT = str(Path(__file__).parents[2])
START_S = 90.0


class RunningFeed:
    """A feed's process."""

    def __init__(self, name: str, config: Config, port: int, command: tuple[str, ...] = ("-m", "klinestream.cli.main", "feed")) -> None:
        """Start it; `port` is that of its metrics."""
        self._port = port
        self._process = subprocess.Popen([sys.executable, *command, name], env=os.environ | configuration(config) | {"PYTHONPATH": ROOT})

    def metric(self, name: str, label: str = "") -> float:
        """Sum of a metric over its labels, or over those that hold a text; 0 while it isn't there."""
        try:
            lines = httpx.get(f"http://127.0.0.1:{self._port}/metrics", trust_env=False).text.splitlines()
        except httpx.TransportError:
            return 0.0
        full = f"klinestream_feed_{name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == full and label in line)

    def publishes(self, more: int = 1) -> None:
        """Wait until it has published so many records more."""
        most = self.metric("records_published_total") + more
        eventually(lambda: self.metric("records_published_total") >= most, START_S, f"{more} records more")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, and its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(30)


def all_of(config: Config, topic: Topic) -> list[Record]:
    """All records of a topic, in order of each partition."""
    reader = open_reader(config.kafka, "test")
    try:
        bounds = reader.bounds(topic.name)
        reader.assign({(topic.name, partition): first for partition, (first, _) in bounds.items()})
        most = sum(end - first for first, end in bounds.values())
        found: list[Record] = []

        def complete() -> bool:
            found.extend(reader.poll(0.1))
            return len(found) >= most

        eventually(complete, START_S, f"{most} records of {topic.name}")
        return found
    finally:
        reader.close()
