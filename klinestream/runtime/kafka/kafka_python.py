"""`Publisher` and `Reader` by kafka-python: pure Python, the default."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import google_crc32c
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, RetriableError
from kafka.partitioner import DefaultPartitioner
from kafka.record import default_records

from klinestream.market.errors import BrokerError, DeliveryError
from klinestream.market.partitions import murmur2
from klinestream.runtime.kafka.delivery import (
    ATTEMPT_S,
    FETCH_WAIT_MS,
    LOOK_UP_S,
    Losses,
    Room,
    UnreachableError,
    connected,
    not_in_time,
    refused,
    unknown_topic,
)
from klinestream.runtime.kafka.interface import Record, Settled
from klinestream.runtime.sections import KafkaConfig

T = TypeVar("T")

_TOPIC_WAIT_MS = 5_000  # a topic that isn't known by then doesn't exist
_ASK_MS = 10_000
_BATCH_BYTES = 256 * 1024  # a second of a full market fits into one batch a partition
_POLL_RECORDS = 5000
_KEYS_REMEMBERED = 16_384  # all symbols of the exchange several times over
_RECONNECT_MOST_MS = 1000  # a broker that comes back is found within a second, not within the library's thirty

# The library's own checksum is pure Python and takes as long as all the rest of reading; the package in C that it would
# load by itself has a copyleft licence.
default_records.calc_crc32c = lambda data: google_crc32c.value(bytes(data))


def connection_settings(config: KafkaConfig, client_id: str) -> dict[str, Any]:
    """The library's settings that producer and consumer share."""
    settings: dict[str, Any] = {
        "bootstrap_servers": config.bootstrap_servers.split(","),
        "client_id": client_id,
        "security_protocol": config.security_protocol,
        "allow_auto_create_topics": False,
        "reconnect_backoff_max_ms": _RECONNECT_MOST_MS,
        "bootstrap_timeout_ms": int(ATTEMPT_S * 1000),
        "metrics_enabled": False,  # they cost a tenth of the rate, and nobody reads them
    }
    if config.security_protocol.startswith("SASL"):
        settings |= {
            "sasl_mechanism": config.sasl_mechanism,
            "sasl_plain_username": config.sasl_username,
            "sasl_plain_password": config.sasl_password.get_secret_value(),
        }
    if config.security_protocol.endswith("SSL"):
        settings |= {
            "ssl_cafile": config.ssl_cafile or None,
            "ssl_certfile": config.ssl_certfile or None,
            "ssl_keyfile": config.ssl_keyfile or None,
        }
    return settings


def _reached(connect: Callable[..., T], settings: dict[str, Any]) -> T:
    try:
        return connect(**settings)
    except RetriableError as error:
        raise UnreachableError(str(error)) from None
    except KafkaError as error:
        raise BrokerError(f"Kafka at {','.join(settings['bootstrap_servers'])} refused the connection: {error}") from None


class _RememberingPartitioner(DefaultPartitioner):  # type: ignore[misc]  # the library ships no types
    """The library's own partitioner sorts the partitions and runs murmur2 in Python for each record."""

    def partition(  # noqa: PLR0917  # the library's signature
        self, topic: str, key: Any, serialized_key: bytes | None, value: Any, serialized_value: Any, cluster: Any
    ) -> int:
        """The partition of a record's key."""
        if serialized_key is None:
            return int(super().partition(topic, key, serialized_key, value, serialized_value, cluster))
        return _place(serialized_key, len(cluster.partitions_for_topic(topic)))


@lru_cache(_KEYS_REMEMBERED)
def _place(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFF_FFFF) % partitions


class KafkaPythonPublisher:
    """Keeps `Publisher`. The library's own queue has no bound, so `Room` gives it one."""

    def __init__(self, config: KafkaConfig, client_id: str, acknowledged: Callable[[float], None] | None = None) -> None:
        """Connect; see `opening.open_publisher`."""
        self._room = Room(config.queue_records)
        self._losses = Losses()
        self._acknowledged = acknowledged
        settings = connection_settings(config, client_id) | {
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": "lz4",
            "linger_ms": config.linger_ms,
            "batch_size": _BATCH_BYTES,
            "delivery_timeout_ms": int(config.delivery_timeout_s * 1000),
            "max_block_ms": _TOPIC_WAIT_MS,
            "partitioner": _RememberingPartitioner(),
        }
        self._producer: Any = connected(lambda: _reached(KafkaProducer, settings), config)

    def publish(self, record: Record, settled: Settled | None = None) -> None:
        """Queue a record; see `Publisher`."""
        self._losses.raise_any()
        while not self._room.enter(LOOK_UP_S):
            self._losses.raise_any()
        published_s = time.monotonic()
        try:
            sent = self._producer.send(
                record.topic, value=record.value, key=record.key, headers=list(record.headers), timestamp_ms=record.timestamp_ms
            )
        except KafkaTimeoutError:
            self._room.leave()
            raise DeliveryError(unknown_topic(record.topic)) from None
        except KafkaError as error:
            self._room.leave()
            raise DeliveryError(refused(record, error)) from None

        def done(placed: Any) -> None:
            self._room.leave()
            if settled is not None:
                settled(None, placed.partition, placed.offset)
            if self._acknowledged is not None:
                self._acknowledged(time.monotonic() - published_s)

        def lost(error: object) -> None:
            self._room.leave()
            if settled is None:
                self._losses.note(record.topic, record.key, error)
            else:
                settled(str(error), -1, -1)

        sent.add_callback(done)
        sent.add_errback(lost)

    def queued(self) -> int:
        """How many records aren't acknowledged yet."""
        return self._room.taken

    def flush(self, timeout_s: float) -> None:
        """Wait until all is acknowledged; see `Publisher`."""
        try:
            self._producer.flush(timeout_s)
        except KafkaTimeoutError:
            self._losses.raise_any()
            raise DeliveryError(not_in_time(self.queued(), timeout_s)) from None
        self._losses.raise_any()

    def close(self, timeout_s: float) -> None:
        """Flush and disconnect; see `Publisher`."""
        try:
            self.flush(timeout_s)
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._room.taken:
            # The library's close flushes once more, and raises before it has closed anything if that fails.
            self._producer._sender.force_close()
            self._producer._closed = True
        else:
            self._producer.close(timeout=1.0)


class KafkaPythonReader:
    """Keeps `Reader`."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        """Connect; see `opening.open_reader`."""
        self._servers = config.bootstrap_servers
        settings = connection_settings(config, client_id) | {
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # records skipped in silence would be a hole that nobody knows of
            "isolation_level": "read_committed",
            "max_poll_records": _POLL_RECORDS,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }
        self._consumer: Any = connected(lambda: _reached(KafkaConsumer, settings), config)

    def partitions(self, topic: str) -> Sequence[int]:
        """Partition numbers of a topic; see `Reader`."""
        with self._asking(f"partitions of {topic}"):
            partitions = self._consumer.partitions_for_topic(topic)
        if not partitions:
            raise BrokerError(unknown_topic(topic))
        return sorted(partitions)

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Partition → (first offset held, offset after the last)."""
        places = [TopicPartition(topic, partition) for partition in self.partitions(topic)]
        with self._asking(f"offsets of {topic}"):
            first = self._consumer.beginning_offsets(places, timeout_ms=_ASK_MS)
            end = self._consumer.end_offsets(places, timeout_ms=_ASK_MS)
        return {place.partition: (first[place], end[place]) for place in places}

    def offsets_at(self, topic: str, time_ms: int) -> Mapping[int, int]:
        """Partition → offset of the first record not older than `time_ms`; the end where there is none."""
        # The ends first: a record that comes in between is then read, not skipped.
        ends = {partition: end for partition, (_, end) in self.bounds(topic).items()}
        with self._asking(f"offsets of {topic} by time"):
            found = self._consumer.offsets_for_times({TopicPartition(topic, partition): time_ms for partition in ends}, timeout_ms=_ASK_MS)
        return {place.partition: at.offset if at is not None else ends[place.partition] for place, at in found.items()}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read these (topic, partition) from these offsets on, and nothing else."""
        self._consumer.assign([TopicPartition(*place) for place in positions])
        for place, offset in positions.items():
            self._consumer.seek(TopicPartition(*place), offset)

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """What has come, after waiting for something up to `timeout_s`."""
        with self._asking("reading"):
            batches = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return [
            Record(found.topic, found.key, found.value, found.timestamp, tuple(found.headers), found.partition, found.offset)
            for batch in batches.values()
            for found in batch
        ]

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close(autocommit=False)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise BrokerError(f"Kafka at {self._servers} gave no answer to be used ({what}): {error}") from None
