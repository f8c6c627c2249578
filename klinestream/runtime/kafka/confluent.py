"""`Publisher` and `Reader` by confluent-kafka: librdkafka in C, the extra `fast`."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from klinestream.market.errors import BrokerError, DeliveryError
from klinestream.runtime.kafka.delivery import (
    ATTEMPT_S,
    FETCH_WAIT_MS,
    LOOK_UP_S,
    Losses,
    UnreachableError,
    connected,
    not_in_time,
    refused,
    unknown_topic,
)
from klinestream.runtime.kafka.interface import Record, Settled
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

T = TypeVar("T")

_ASK_S = 10.0
# In place of a time, as the protocol has them: the first record that is held, and the end of what readers may see.
_EARLIEST, _LATEST = -2, -1
_POLL_RECORDS = 5000
_TOPIC_WAIT_MS = 5_000  # a topic that isn't known by then doesn't exist
_RECONNECT_MOST_MS = 1000
_POLL_S = 0.1  # how long a poller waits for acknowledgements at once: it is woken by each
_NO_TOPIC = (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)
# Leaders move, and a new topic has none for a moment.
_PASSING = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
_UNREACHABLE = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)


class _Troubles:
    """What the library tells of its connections: the newest is kept to explain a failure, each change is logged."""

    def __init__(self) -> None:
        """No trouble yet."""
        self.newest = ""

    def __call__(self, error: KafkaError) -> None:
        self.newest = error.str()
        log.warning("kafka connection in trouble", reason=self.newest)


def connection_settings(config: KafkaConfig, client_id: str, troubles: _Troubles) -> dict[str, Any]:
    """The library's settings that producer and consumer share."""
    settings: dict[str, Any] = {
        "bootstrap.servers": config.bootstrap_servers,
        "client.id": client_id,
        "security.protocol": config.security_protocol,
        "reconnect.backoff.max.ms": _RECONNECT_MOST_MS,
        "error_cb": troubles,
        "logger": logging.getLogger("kafka.confluent"),
    }
    if config.security_protocol.startswith("SASL"):
        settings |= {
            "sasl.mechanism": config.sasl_mechanism,
            "sasl.username": config.sasl_username,
            "sasl.password": config.sasl_password.get_secret_value(),
        }
    files = {"ssl.ca.location": config.ssl_cafile, "ssl.certificate.location": config.ssl_certfile, "ssl.key.location": config.ssl_keyfile}
    if config.security_protocol.endswith("SSL"):
        settings |= {key: file for key, file in files.items() if file}
    return settings


def _reached(client: Any, troubles: _Troubles) -> None:
    """The library connects in the background: ask for something to know whether there is a broker."""
    try:
        client.list_topics(timeout=ATTEMPT_S)
    except KafkaException as error:
        if error.args[0].code() in _UNREACHABLE:
            raise UnreachableError(troubles.newest or error.args[0].str()) from None
        raise BrokerError(f"Kafka refused the connection: {error.args[0].str()}") from None


class ConfluentPublisher:
    """Keeps `Publisher`."""

    def __init__(self, config: KafkaConfig, client_id: str, acknowledged: Callable[[float], None] | None = None) -> None:
        """Connect; see `opening.open_publisher`."""
        self._losses = Losses()
        self._acknowledged = acknowledged
        troubles = _Troubles()
        settings = connection_settings(config, client_id, troubles) | {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": config.linger_ms,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": config.queue_records,
            "message.timeout.ms": int(config.delivery_timeout_s * 1000),
            "topic.metadata.propagation.max.ms": _TOPIC_WAIT_MS,
        }
        self._producer = Producer(settings)
        self._poller: threading.Thread | None = None
        self._closing = threading.Event()
        connected(lambda: _reached(self._producer, troubles), config)

    def publish(self, record: Record, settled: Settled | None = None) -> None:
        """Queue a record; see `Publisher`."""
        producer = self._producer
        if settled is not None and self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="kafka-acknowledgements", daemon=True)
            self._poller.start()
        while True:
            self._losses.raise_any()
            try:
                producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    on_delivery=self._settled if settled is None else partial(self._told, settled),
                    timestamp=record.timestamp_ms,
                    headers=list(record.headers),
                )
            except BufferError:
                producer.poll(LOOK_UP_S)
                continue
            except KafkaException as error:
                raise DeliveryError(refused(record, error.args[0].str())) from None
            producer.poll(0)
            return

    def _poll(self) -> None:
        """The library calls back only within calls: somebody who waits for one record must not depend on the next one."""
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)

    def _told(self, settled: Settled, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            settled(unknown_topic(message.topic()) if error.code() in _NO_TOPIC else error.str(), -1, -1)
            return
        settled(None, message.partition(), message.offset())
        if self._acknowledged is not None:
            self._acknowledged(message.latency())

    def _settled(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            reason = unknown_topic(message.topic()) if error.code() in _NO_TOPIC else error.str()
            self._losses.note(message.topic(), message.key(), reason)
        elif self._acknowledged is not None:
            self._acknowledged(message.latency())

    def queued(self) -> int:
        """How many records aren't acknowledged yet."""
        self._producer.poll(0)  # what is acknowledged counts until its callback has run
        return len(self._producer)

    def flush(self, timeout_s: float) -> None:
        """Wait until all is acknowledged; see `Publisher`."""
        left = self._producer.flush(timeout_s)
        self._losses.raise_any()
        if left:
            raise DeliveryError(not_in_time(left, timeout_s))

    def close(self, timeout_s: float) -> None:
        """Flush and disconnect; see `Publisher`."""
        try:
            self.flush(timeout_s)
        finally:
            self._producer.purge()
            self._closing.set()
            if self._poller is not None:
                self._poller.join()
            self._producer.poll(0)


class ConfluentReader:
    """Keeps `Reader`."""

    def __init__(self, config: KafkaConfig, client_id: str) -> None:
        """Connect; see `opening.open_reader`."""
        self._servers = config.bootstrap_servers
        troubles = _Troubles()
        settings = connection_settings(config, client_id, troubles) | {
            "group.id": client_id,  # the library insists on one; nothing is joined or committed
            "enable.auto.commit": False,
            "auto.offset.reset": "error",  # records skipped in silence would be a hole that nobody knows of
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
        }
        self._consumer = Consumer(settings)
        connected(lambda: _reached(self._consumer, troubles), config)

    def partitions(self, topic: str) -> Sequence[int]:
        """Partition numbers of a topic; see `Reader`."""
        found = self._asked(f"partitions of {topic}", lambda: self._consumer.list_topics(topic, timeout=_ASK_S).topics[topic])
        if found.error is not None or not found.partitions:
            raise BrokerError(unknown_topic(topic))
        return sorted(found.partitions)

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Partition → (first offset held, offset after the last)."""
        # Asked for all partitions at once: `get_watermark_offsets` asks for one, and each answer waits for what is being fetched.
        partitions = self.partitions(topic)
        firsts, ends = (self._limits(topic, partitions, limit) for limit in (_EARLIEST, _LATEST))
        return {partition: (firsts[partition], ends[partition]) for partition in partitions}

    def _limits(self, topic: str, partitions: Sequence[int], limit: int) -> dict[int, int]:
        places = [TopicPartition(topic, partition, limit) for partition in partitions]
        found = self._asked(f"offsets of {topic}", lambda: self._offsets(places))
        return {place.partition: place.offset for place in found}

    def _offsets(self, places: Sequence[TopicPartition]) -> Sequence[TopicPartition]:
        """Offset of the first record not older than the time that stands in a place's offset."""
        found: Sequence[TopicPartition] = self._consumer.offsets_for_times(places, timeout=_ASK_S)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        return found

    def offsets_at(self, topic: str, time_ms: int) -> Mapping[int, int]:
        """Partition → offset of the first record not older than `time_ms`; the end where there is none."""
        # The ends first: a record that comes in between is then read, not skipped.
        ends = {partition: end for partition, (_, end) in self.bounds(topic).items()}
        times = [TopicPartition(topic, partition, time_ms) for partition in ends]
        found = self._asked(f"offsets of {topic} by time", lambda: self._offsets(times))
        return {place.partition: place.offset if place.offset >= 0 else ends[place.partition] for place in found}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read these (topic, partition) from these offsets on, and nothing else."""
        self._consumer.assign([TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()])

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """What has come, after waiting for something up to `timeout_s`."""
        # `consume` alone would wait for its whole number: wait for the first, then take what is there.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        found = [first, *self._consumer.consume(_POLL_RECORDS - 1, timeout=0)]
        try:
            return [_record(message) for message in found if not _passing(message)]
        except KafkaException as error:
            raise self._broken("reading", error) from None

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _asked(self, what: str, ask: Callable[[], T]) -> T:
        """The answer, asked again for a while where the error passes: a new topic's partitions have no leader at first."""
        retrying = Retrying(retry=retry_if_exception(_passes), stop=stop_after_delay(_ASK_S), wait=wait_fixed(0.1), reraise=True)
        try:
            return retrying(ask)
        except KafkaException as error:
            raise self._broken(what, error) from None

    def _broken(self, what: str, error: KafkaException) -> BrokerError:
        return BrokerError(f"Kafka at {self._servers} gave no answer to be used ({what}): {error.args[0].str()}")


def _passes(error: BaseException) -> bool:
    return isinstance(error, KafkaException) and (error.args[0].retriable() or error.args[0].code() in _PASSING)


def _passing(message: Message) -> bool:
    """Whether a message is only the library's word of a trouble that it mends by itself."""
    error = message.error()
    if error is None:
        return False
    if error.code() in _UNREACHABLE or error.retriable():
        return True
    raise KafkaException(error)


def _record(message: Message) -> Record:
    return Record(
        message.topic(),
        message.key(),
        message.value(),
        message.timestamp()[1],
        tuple(message.headers() or ()),
        message.partition(),
        message.offset(),
    )
