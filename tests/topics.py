"""Topics as tests see them: records published at once, and everything a topic holds, as it comes."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import orjson

from klinestream.market.codec import encode_kline
from klinestream.market.events import Kline
from klinestream.market.topics import KLINES, TOPICS
from klinestream.runtime.config import KafkaConfig
from klinestream.runtime.kafka import Reader, Record, open_publisher, open_reader
from klinestream.runtime.topic_admin import TopicAdmin


def kafka(bootstrap_servers: str) -> KafkaConfig:
    """How tests reach a broker: with the client that leaves no socket behind when the broker is killed, since warnings are errors."""
    return KafkaConfig(bootstrap_servers=bootstrap_servers, client="confluent-kafka")


def create_all(bootstrap_servers: str) -> None:
    """Make every topic of klinestream."""
    with TopicAdmin(kafka(bootstrap_servers)) as admin:
        admin.create(TOPICS)


def record_of(kline: Kline) -> Record:
    """A kline as the producer publishes it."""
    return Record(KLINES.name, kline.symbol.encode(), encode_kline(kline), kline.close_time_ms)


def publish(bootstrap_servers: str, records: Iterable[Record]) -> None:
    """Publish records and wait until all are acknowledged."""
    publisher = open_publisher(kafka(bootstrap_servers), "test-publisher")
    for record in records:
        publisher.publish(record)
    publisher.flush(60)
    publisher.close(10)


class Topic:
    """All that a topic holds, read on as it grows."""

    def __init__(self, bootstrap_servers: str, name: str) -> None:
        self._reader: Reader = open_reader(kafka(bootstrap_servers), "test-reader")
        self._reader.assign({(name, partition): 0 for partition in self._reader.partitions(name)})
        self.records: list[Record] = []

    def read(self) -> list[Record]:
        """All records so far."""
        while got := self._reader.poll(0.1):
            self.records += got
        return self.records

    def values(self) -> list[dict[str, Any]]:
        """All values so far, as JSON."""
        return [orjson.loads(record.value or b"null") for record in self.read()]

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()


def windows_by_identity(records: Iterable[Record]) -> dict[tuple[str, int], bytes]:
    """(symbol, window end) → value. Fails where an identity has two values."""
    found: dict[tuple[str, int], set[bytes]] = defaultdict(set)
    for record in records:
        value = orjson.loads(record.value or b"")
        found[(value["symbol"], value["window_end"])].add(record.value or b"")
    double = {identity: values for identity, values in found.items() if len(values) > 1}
    assert not double, f"expected one value an identity, got {len(double)} with more, such as {next(iter(double.items()))}"
    return {identity: next(iter(values)) for identity, values in found.items()}
