"""`klinestream alerts`: tells a web address of signals, of gaps, and of data that grows old.

    crypto_signals, crypto_feed_gaps ─► Chooser ─► Outbox ─► the web address
    crypto_kline_data, once a second ─► Freshness ─┘  └─► crypto_dead_letters, and the position in crypto_pipeline_events

This thread alone talks to Kafka, the outbox's alone to the web address, so neither waits for the other.
"""

import hashlib
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import orjson
import structlog

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError, ConfigError, RecordError
from klinestream.market.events import SECOND_MS, DeadLetter, PipelineEvent
from klinestream.market.topics import DEAD_LETTERS, KLINES, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.runtime.alert_messages import SOURCES, Chooser, Freshness, Passed, stale_since
from klinestream.runtime.alert_metrics import AlertMetrics
from klinestream.runtime.alert_position import COMPONENT, EVENT, Position, find
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import ended_by_signals
from klinestream.runtime.webhook import Fate, Kind, Message, Outbox, Webhook, host_of

log = structlog.get_logger()

CLIENT_ID = "klinestream-alerts"
_POLL_S = 0.2
_LOOK_S = 1.0
_TAIL_S = 3.0
_TELL_S = 1.0
_TELL_AGAIN_S = 3600.0  # the topic forgets after a week
_REMEMBERED = 500  # records of each partition that are read again after a start, to know what was told
_FLUSH_S = 10.0
_CONNECT_S = 3.0  # one attempt: this process tries for as long as it takes, and ends at once when it shall
_END_POST_S = 1.0
_END_WRITE_S = 0.5
_CLOSE_S = 0.5
_ACKNOWLEDGED_S = 0.02
_BACKOFF_FIRST_S = 0.25
_BACKOFF_MOST_S = 5.0

_Letter = tuple[Record, tuple[str, int, int] | None]
"""A dead letter, and the record that it settles."""


def run(config: Config) -> None:
    """Tell until SIGTERM or SIGINT. Raises ConfigError without an address, or if the metrics' address can't be had."""
    if not config.signals.webhook_url:
        raise ConfigError("expected signals.webhook_url to say where alerts are posted, but it is empty: set it, or don't start the alerts")
    metrics = AlertMetrics()
    with ExitStack() as stack:
        alerter = Alerter(config, metrics)
        stack.callback(alerter.finish)
        if config.signals.metrics_port:
            server = MetricsServer(config.signals.metrics_host, config.signals.metrics_port, metrics.registry, alerter.faults)
            stack.callback(server.close)
        with ended_by_signals():
            alerter.run()


@dataclass(slots=True)
class _Connection:
    """What one connection to Kafka consists of."""

    following: Reader
    looking: Reader
    publisher: Publisher
    closing: ExitStack


class Alerter:
    """Reads, chooses, hands over to the outbox, and keeps account of what became of it."""

    def __init__(self, config: Config, metrics: AlertMetrics) -> None:
        """Connects to nothing yet."""
        signals = config.signals
        self._kafka = config.kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, config.kafka.connect_timeout_s)})
        self._receiver = f"{host_of(signals.webhook_url)}#{hashlib.sha256(signals.webhook_url.encode()).hexdigest()[:12]}"
        self._metrics = metrics
        self._stale_after_ms = int(config.server.stale_after_s * SECOND_MS)
        self._chooser = Chooser(signals.webhook_age_s)
        self._freshness = Freshness(config.server.stale_after_s)
        self._position: Position | None = None
        self._letters: deque[_Letter] = deque()
        self._connection: _Connection | None = None
        self._fault = "not connected to Kafka yet"
        self._look_due_s = 0.0
        self._told, self._told_s = "", 0.0
        stopping = threading.Event()
        self._webhook = Webhook(
            signals.webhook_url,
            signals.webhook_attempts,
            stopping,
            secret=signals.webhook_secret.get_secret_value(),
            failed_once=metrics.attempts_failed.inc,
        )
        self._outbox = Outbox(self._webhook.post, stopping)

    def faults(self) -> list[str]:
        """What is wrong right now."""
        return [self._fault] if self._fault else []

    def run(self) -> None:
        """Go on for ever, whatever becomes of the broker and of the receiver."""
        wait_s = _BACKOFF_FIRST_S
        while True:
            try:
                connection = self._connect()
                position = self._assign(connection)
                self._fault, wait_s = "", _BACKOFF_FIRST_S
                while True:
                    self._take(connection.following.poll(_POLL_S), position)
                    self._look(connection.looking)
                    self._settle(position)
                    self._write(connection.publisher, position, _FLUSH_S)
            except BrokerError as error:
                self._fault = str(error)
                self._metrics.reconnects.inc()
                log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
                self._disconnect()
                time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
                wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)

    def finish(self) -> None:
        """End the outbox, and write down how far it came. What was not posted is posted after the next start."""
        self._outbox.close(_END_POST_S)
        try:
            if self._connection is not None and self._position is not None:
                self._settle(self._position)
                self._told_s = -_TELL_AGAIN_S
                self._write(self._connection.publisher, self._position, _END_WRITE_S)
        except BrokerError as error:
            log.warning("kafka did not take the position, so messages may be posted again", reason=str(error))
        finally:
            self._disconnect()
            self._webhook.close()

    def _connect(self) -> _Connection:
        with ExitStack() as stack:
            following = stack.enter_context(closing(open_reader(self._kafka, CLIENT_ID)))
            looking = stack.enter_context(closing(open_reader(self._kafka, CLIENT_ID)))
            publisher = open_publisher(self._kafka, CLIENT_ID)
            stack.callback(_close, publisher)
            self._connection = _Connection(following, looking, publisher, stack.pop_all())
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.closing.close()

    def _assign(self, connection: _Connection) -> Position:
        """Go on where reading stopped, before a trouble or a restart; at the end of what there is where nothing is known."""
        found = find(connection.looking, self._receiver) if self._position is None else None
        position = self._position or found or Position()
        bounds = {(topic, partition): span for topic in SOURCES for partition, span in connection.following.bounds(topic).items()}
        for place, (first, end) in bounds.items():
            at = position.read.get(place, end)
            if not first <= at <= end:
                log.warning("records to tell of are not held any more", topic=place[0], partition=place[1], expected=at, first=first)
            position.read[place] = min(max(at, first), end)
        back = _REMEMBERED if found else 0
        connection.following.assign({place: max(first, position.read[place] - back) for place, (first, _) in bounds.items()})
        if self._position is None:
            self._position = position
            self._freshness.stale_since_ms = position.stale_since_ms
        self._freshness.unseen()
        self._told = ""
        log.info("telling", receiver=host_of(self._receiver), goes_on=back > 0)
        return position

    def _take(self, records: Sequence[Record], position: Position) -> None:
        for record in records:
            place = (record.topic, record.partition)
            if record.offset < position.read[place]:
                self._chooser.remember(record)
                continue
            try:
                chosen = self._chooser.message(record, _now_ms())
            except RecordError as error:
                position.take(place, record.offset, waits=True)
                self._metrics.unreadable.inc()
                log.warning("record can't be told of", topic=record.topic, offset=record.offset, reason=str(error))
                self._give_up(str(error), record.value or b"", (*place, record.offset))
                continue
            position.take(place, record.offset, waits=isinstance(chosen, Message))
            if isinstance(chosen, Message):
                self._outbox.put(chosen)
            else:
                (self._metrics.repeated if chosen is Passed.REPEATED else self._metrics.too_old).inc()

    def _look(self, looking: Reader) -> None:
        """Whether klines come: the broker's index of times knows, so that none has to be read."""
        now_s = time.monotonic()
        if now_s < self._look_due_s:
            return
        self._look_due_s = now_s + _LOOK_S
        bounds = {partition: span for partition, span in looking.bounds(KLINES.name).items() if span[0] < span[1]}
        if not bounds:
            return  # nothing has ever come, so nothing has stopped coming
        now_ms = _now_ms()
        younger = looking.offsets_at(KLINES.name, now_ms - self._stale_after_ms)
        fresh = any(younger[partition] < end for partition, (_, end) in bounds.items())
        self._metrics.stale.set(not fresh)
        if self._freshness.turned(fresh, now_s):
            message = self._freshness.turn(_newest_ms(looking, bounds), now_ms)
            log.warning("klines come again" if fresh else "klines have stopped", newest_ms=orjson.loads(message.event)["newest"])
            self._outbox.put(message)

    def _settle(self, position: Position) -> None:
        for settled in self._outbox.settled():
            message = settled.message
            self._metrics.settled(message.kind, settled.fate)
            if message.kind is Kind.STALE:
                position.stale_since_ms = stale_since(message)
            if settled.fate in (Fate.FAILED, Fate.DROPPED):
                log.error("message not posted", key=message.key, reason=settled.reason)
                self._give_up(f"webhook: {settled.reason}", message.event, message.place)
                continue
            log.info("told" if settled.fate is Fate.POSTED else "too old to be told", key=message.key)
            if message.place is not None:
                position.settle(message.place[:2], message.place[2])
        self._metrics.waiting.set(len(self._outbox))

    def _give_up(self, reason: str, raw: bytes, place: tuple[str, int, int] | None) -> None:
        """Into the dead letters, with the next `_write`."""
        now_ms = _now_ms()
        topic, partition, offset = place or (KLINES.name, None, None)
        letter = DeadLetter.of(reason, topic, raw, now_ms, partition=partition, offset=offset)
        self._letters.append((_record(DEAD_LETTERS.name, None, encode_event(letter), now_ms), place))

    def _write(self, publisher: Publisher, position: Position, flush_s: float) -> None:
        """The dead letters, and once the brokers have them the position."""
        if self._letters:
            for record, _ in self._letters:
                publisher.publish(record)
            _acknowledged(publisher, flush_s)
            for _, place in self._letters:
                if place is not None:
                    position.settle(place[:2], place[2])
            self._metrics.dead_letters.inc(len(self._letters))
            self._letters.clear()
        text, now_s = position.tell(self._receiver), time.monotonic()
        if now_s - self._told_s < (_TELL_AGAIN_S if text == self._told else _TELL_S):
            return
        now_ms = _now_ms()
        event = PipelineEvent(COMPONENT, EVENT, now_ms, text)
        publisher.publish(_record(PIPELINE_EVENTS.name, COMPONENT.encode(), encode_event(event), now_ms))
        self._told, self._told_s = text, now_s


def _newest_ms(reader: Reader, bounds: Mapping[int, tuple[int, int]]) -> int:
    """Time of the newest kline of all that stand last in their partitions. Raises BrokerError."""
    reader.assign({(KLINES.name, partition): end - 1 for partition, (_, end) in bounds.items()})
    newest: dict[int, int] = {}
    until_s = time.monotonic() + _TAIL_S
    while newest.keys() != bounds.keys():
        if time.monotonic() > until_s:
            raise BrokerError(f"expected the last records of {KLINES.name} in {_TAIL_S:g} s: check that the broker runs, and what it logs")
        for record in reader.poll(_POLL_S):
            if record.topic == KLINES.name:
                newest[record.partition] = max(newest.get(record.partition, 0), record.timestamp_ms)
    reader.assign({})  # a client may fetch on in the background whatever is assigned
    return max(newest.values())


def _record(topic: str, key: bytes | None, value: bytes, now_ms: int) -> Record:
    return Record(topic, key, value, now_ms, ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms)))


def _acknowledged(publisher: Publisher, within_s: float) -> None:
    """Wait until the brokers have everything. Raises DeliveryError."""
    until_s = time.monotonic() + within_s
    # A client in C that flushes lets no signal through; this does.
    while publisher.queued() and time.monotonic() < until_s:
        time.sleep(_ACKNOWLEDGED_S)
    publisher.flush(_ACKNOWLEDGED_S)


def _close(publisher: Publisher) -> None:
    try:
        publisher.close(_CLOSE_S)
    except BrokerError as error:
        log.warning("kafka did not take everything", reason=str(error))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
