"""Topics as tests see them: records published at once, and everything a topic holds, as it comes."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import orjson

from klinestream.market.codec import encode_kline
from klinestream.market.events import Kline
from klinestream.market.topics import KLINES, TOPICS
from klinestream.runtime.kafka import Reader, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin

_EMPTY_POLLS = 20


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
        self._name = name
        self._reader: Reader = open_reader(kafka(bootstrap_servers), "test-reader")
        # Not from 0: retention may have taken records with times long past.
        self._next = {partition: first for partition, (first, _) in self._reader.bounds(name).items()}
        self._reader.assign({(name, partition): first for partition, first in self._next.items()})
        self.records: list[Record] = []

    def read(self) -> list[Record]:
        """All records so far."""
        ends = {partition: end for partition, (_, end) in self._reader.bounds(self._name).items()}
        empty = 0
        # A topic may end with the markers of transactions, which no reader ever sees.
        while any(self._next[partition] < end for partition, end in ends.items()) and empty < _EMPTY_POLLS:
            got = self._reader.poll(0.1)
            empty = 0 if got else empty + 1
            self.records += got
            for record in got:
                self._next[record.partition] = record.offset + 1
        return self.records

    def values(self) -> list[dict[str, Any]]:
        """All values so far, as JSON."""
        return [orjson.loads(record.value or b"null") for record in self.read()]

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()


def windows_by_revision(records: Iterable[Record]) -> dict[tuple[str, int], dict[int, bytes]]:
    """(symbol, window end) → revision → value. Fails where one of them has two values."""
    found: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
    for record in records:
        value = orjson.loads(record.value or b"")
        held = found[(value["symbol"], value["window_end"])].setdefault(value["revision"], record.value or b"")
        assert held == record.value, f"expected one value an identity, got two: {held!r} and {record.value!r}"
    return found


def windows_by_identity(records: Iterable[Record]) -> dict[tuple[str, int], bytes]:
    """(symbol, window end) → value of the highest revision. Fails where a revision has two values."""
    return {identity: values[max(values)] for identity, values in windows_by_revision(records).items()}
