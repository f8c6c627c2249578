"""`klinestream model serve`: crypto_indicators in, crypto_predictions out, for one model, for ever.

crypto_indicators ─► Live ─► crypto_predictions ─► acknowledged ─► the next round begins where this one ended
                       └───► crypto_dead_letters, what is no record of indicators
"""

import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import structlog

from klinestream.market.codec import decode_event, encode_event
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import DeadLetter, Indicators
from klinestream.market.topics import DEAD_LETTERS, PREDICTIONS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.models.live import Live
from klinestream.models.metrics import ModelMetrics
from klinestream.models.position import resume
from klinestream.models.storage import Stored, load
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.signals import told_to_end

log = structlog.get_logger()

CLIENT_ID = "klinestream-model"
_POLL_S = 0.2
_CONNECT_S = 3.0
_FLUSH_S = 30.0
_CLOSE_S = 1.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0


def run(config: Config, folder: Path, from_ms: int) -> None:
    """Predict until SIGTERM or SIGINT; where the model has said nothing yet, from `from_ms` on. Raises ModelError and ConfigError."""
    stored, metrics = load(folder), ModelMetrics()
    with told_to_end() as ending, ExitStack() as stack:
        serving = Serving(stored, metrics, from_ms)
        if config.models.metrics_port:
            faults = lambda: [serving.fault] if serving.fault else []  # noqa: E731  # nowhere else of use
            server = MetricsServer(config.models.metrics_host, config.models.metrics_port, metrics.registry, faults)
            stack.callback(server.close)
        _keep(serving, config.kafka, metrics, ending)
    log.info("stopped")


def _keep(serving: "Serving", kafka: KafkaConfig, metrics: ModelMetrics, ending: threading.Event) -> None:
    """Go on until the end, whatever becomes of the broker."""
    kafka = kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, kafka.connect_timeout_s)})
    wait_s = _BACKOFF_FIRST_S
    while not ending.is_set():
        try:
            with ExitStack() as stack:
                reader = stack.enter_context(closing(open_reader(kafka, CLIENT_ID)))
                publisher = open_publisher(kafka, CLIENT_ID)
                stack.callback(_close, publisher)
                serving.begin(reader)
                serving.fault, wait_s = "", _BACKOFF_FIRST_S
                while not ending.is_set():
                    serving.round(reader, publisher)
        except BrokerError as error:
            serving.fault = str(error)
            metrics.reconnects.inc()
            log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
            ending.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
            wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)


class Serving:
    """One model over connections that may break at any time. Not for several threads at once."""

    def __init__(self, stored: Stored, metrics: ModelMetrics, from_ms: int) -> None:
        """Connects to nothing yet."""
        self.fault = "not connected to Kafka yet"
        self._stored, self._metrics, self._from_ms = stored, metrics, from_ms
        self._live = Live(stored)
        metrics.follow(self._live)

    def begin(self, reader: Reader) -> None:
        """Go on after what the model has said. Raises BrokerError."""
        # Anew: what was read but not acknowledged before a trouble is read again, and must count as new.
        self._live = Live(self._stored)
        self._metrics.follow(self._live)
        task = self._stored.header.task
        positions = resume(reader, self._stored, self._live.hears_others, self._from_ms)
        reader.assign(positions)
        log.info("predicting", model=self._stored.id, kind=self._stored.header.kind, interval=task.interval, horizon=task.horizon)

    def round(self, reader: Reader, publisher: Publisher) -> None:
        """Take what came, and publish what follows; done when the brokers have it. Raises BrokerError."""
        records = reader.poll(_POLL_S)
        if not records:
            return
        began_s = time.monotonic()
        predictions = self._live.take(self._decoded(records, publisher))
        now_ms = _now_ms()
        for one in predictions:
            publisher.publish(_record(PREDICTIONS.name, one.symbol.encode(), encode_event(one), one.close_time_ms, now_ms))
        publisher.flush(_FLUSH_S)
        self._metrics.round(predictions, time.monotonic() - began_s)

    def _decoded(self, records: Sequence[Record], publisher: Publisher) -> list[Indicators]:
        found = []
        for record in records:
            try:
                found.append(decode_event(Indicators, record.value or b""))
            except RecordError as error:
                self._metrics.unreadable.inc()
                log.warning("no record of indicators", topic=record.topic, offset=record.offset, reason=str(error))
                now_ms = _now_ms()
                letter = DeadLetter.of(
                    str(error), record.topic, record.value or b"", now_ms, partition=record.partition, offset=record.offset
                )
                publisher.publish(_record(DEAD_LETTERS.name, None, encode_event(letter), now_ms, now_ms))
        return found


def _record(topic: str, key: bytes | None, value: bytes, time_ms: int, now_ms: int) -> Record:
    return Record(topic, key, value, time_ms, ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms)))


def _close(publisher: Publisher) -> None:
    try:
        publisher.close(_CLOSE_S)
    except BrokerError as error:
        # Nothing is lost by it: what is not in the topic is said again.
        log.warning("kafka did not take everything", reason=str(error))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
