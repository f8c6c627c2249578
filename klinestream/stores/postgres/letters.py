"""What no table can take, told on `crypto_dead_letters` and `crypto_pipeline_events`, over a connection opened when it is needed."""

from collections.abc import Iterable

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError
from klinestream.market.events import DeadLetter, PipelineEvent
from klinestream.market.topics import DEAD_LETTERS, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.runtime.kafka import Publisher, Record, open_publisher
from klinestream.runtime.sections import KafkaConfig

COMPONENT = "store-postgres"
_FLUSH_S = 10.0
_CLOSE_S = 2.0


class Letters:
    """Publishes; done when the brokers have it. Raises BrokerError."""

    def __init__(self, kafka: KafkaConfig, client_id: str) -> None:
        """Connects to nothing yet."""
        self._kafka, self._client_id = kafka, client_id
        self._publisher: Publisher | None = None

    def bad(self, found: Iterable[tuple[Record, str]], now_ms: int) -> None:
        """Records that can't be used, each with its reason."""
        letters = [
            DeadLetter.of(reason, one.topic, one.value or b"", now_ms, partition=one.partition, offset=one.offset) for one, reason in found
        ]
        self._send([_record(DEAD_LETTERS.name, None, encode_event(letter), now_ms) for letter in letters])

    def skipped(self, detail: str, now_ms: int) -> None:
        """Records that the broker dropped before they were stored."""
        event = PipelineEvent(COMPONENT, "offsets_skipped", now_ms, detail)
        self._send([_record(PIPELINE_EVENTS.name, COMPONENT.encode(), encode_event(event), now_ms)])

    def close(self) -> None:
        """Disconnect; all was acknowledged, or will be said again."""
        if self._publisher is not None:
            try:
                self._publisher.close(_CLOSE_S)
            except BrokerError:
                return

    def _send(self, records: Iterable[Record]) -> None:
        if self._publisher is None:
            self._publisher = open_publisher(self._kafka, self._client_id)
        for record in records:
            self._publisher.publish(record)
        self._publisher.flush(_FLUSH_S)


def _record(topic: str, key: bytes | None, value: bytes, now_ms: int) -> Record:
    return Record(topic, key, value, now_ms, ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms)))
