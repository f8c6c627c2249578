"""`klinestream producer` in a process of its own, and what it writes into the topics."""

import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError

from klinestream.market import codec
from klinestream.market.events import Kline
from klinestream.market.partitions import partition_of
from klinestream.market.topics import (
    CANDLE_HISTORY,
    CONTROL,
    DEAD_LETTERS,
    FEED_GAPS,
    KLINE_REPAIRS,
    KLINES,
    PIPELINE_EVENTS,
    PUBLISHED_HEADER,
    SCHEMA_HEADER,
    WATCHED,
)
from klinestream.runtime.kafka import Reader, Record
from tests.eventually import eventually
from tests.stack import TestBroker

COMMAND = [sys.executable, "-m", "klinestream.cli.main", "producer"]
START_S = 90.0
SOON_S = 15.0
TOPICS = (KLINES, DEAD_LETTERS, PIPELINE_EVENTS, FEED_GAPS, KLINE_REPAIRS, CONTROL, WATCHED, CANDLE_HISTORY)


class RunningProducer:
    """The producer in a process of its own."""

    def __init__(self, folder: Path, config: dict[str, dict[str, Any]]) -> None:
        """Start it in `folder`, with this configuration there."""
        self.log = folder / "producer.log"
        (folder / "klinestream.toml").write_text(_toml(config))
        self.port = config["producer"]["metrics_port"]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                COMMAND,
                cwd=folder,
                env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
                stdout=output,
                stderr=output,
            )

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels; 0 while it isn't there."""
        lines = self.scrape().splitlines()
        full = f"klinestream_producer_{name}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == full)

    def scrape(self) -> str:
        """All metrics as Prometheus sees them; empty while nobody answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text
        except httpx.TransportError:
            return ""

    def health(self) -> httpx.Response:
        """What /healthz says."""
        return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False)

    def end(self, how: signal.Signals = signal.SIGTERM, within_s: float = 30.0) -> int:
        """Signal it, and its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(within_s)

    def wait(self, within_s: float) -> int:
        """Its exit code, without a signal."""
        return self._process.wait(within_s)


def _toml(config: dict[str, dict[str, Any]]) -> str:
    tables = []
    # The small exchange of these tests knows seconds only.
    for table, keys in ({"candles": {"history": 0}} | config).items():
        tables.append(f"[{table}]")
        tables += [f"{key} = {orjson.dumps(value).decode()}" for key, value in keys.items()]
    return "\n".join(tables) + "\n"


def create_topics(broker: TestBroker) -> None:
    """Create the topics that the producer writes, where they aren't there."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    for topic in TOPICS:
        try:
            admin.create_topics([NewTopic(topic.name, topic.partitions, 1, topic_configs=topic.settings())])
        except TopicAlreadyExistsError:
            continue
    admin.close()


def empty_topics(broker: TestBroker) -> None:
    """Delete what earlier tests left in the topics: a producer goes on from there."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    places = {
        TopicPartition(topic.name, partition): -1 for topic in TOPICS if topic is not CONTROL for partition in range(topic.partitions)
    }

    def emptied() -> bool:
        try:
            admin.delete_records(places)
        except UnknownTopicOrPartitionError:
            return False  # made a moment ago
        return True

    eventually(emptied, SOON_S, "the topics are empty")
    admin.close()


class Since:
    """What comes into the topics from now on."""

    def __init__(self, reader: Reader) -> None:
        """From the present ends of the topics on."""
        self._reader = reader
        places = {(topic.name, partition): end for topic in TOPICS for partition, (_, end) in reader.bounds(topic.name).items()}
        self._begin = sum(end for (topic, _), end in places.items() if topic == KLINES.name)
        reader.assign(places)
        self._found: list[Record] = []

    def of(self, topic: str) -> list[Record]:
        """All of a topic so far."""
        self._found.extend(self._reader.poll(0.1))
        return [record for record in self._found if record.topic == topic]

    def klines(self, count: int | None = None) -> dict[str, list[Kline]]:
        """So many klines and no more, or all that are there by now: by symbol, in the order of the topic."""
        if count is None:
            count = sum(end for _, end in self._reader.bounds(KLINES.name).values()) - self._begin
        eventually(lambda: len(self.of(KLINES.name)) >= count, SOON_S, f"{count} klines")
        found: dict[str, list[Kline]] = defaultdict(list)
        for record in self.of(KLINES.name):
            line = codec.decode_kline(record.value or b"")
            assert record.key == line.symbol.encode()
            assert record.timestamp_ms == line.close_time_ms
            assert record.partition == partition_of(line.symbol, KLINES.partitions)
            assert [name for name, _ in record.headers] == [SCHEMA_HEADER, PUBLISHED_HEADER]
            found[line.symbol].append(line)
        assert sum(map(len, found.values())) == count
        return found


def seconds(klines: Sequence[Kline]) -> list[int]:
    """Their open times, in seconds."""
    return [line.open_time_ms // 1000 for line in klines]


def now_s() -> int:
    """The current second, with some room behind it, so that what tests send lies in the past."""
    return int(time.time()) - 60
