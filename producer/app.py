"""The producer's process: what it starts, watches and ends."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

import structlog

from klinestream.market.codec import encode_event
from klinestream.market.events import PipelineEvent
from klinestream.market.topics import KLINES, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Publisher, Record, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.rest import Rest, chosen_symbols
from producer.clock import ClockCheck
from producer.connection import Connection
from producer.groups import Group, groups
from producer.intake import Intake
from producer.metrics import Metrics

log = structlog.get_logger()

CLIENT_ID = "klinestream-producer"
COMPONENT = "producer"
# Together below the five seconds in which a part ends.
_JOIN_S = 1.0
_FLUSH_S = 2.0


class _Ended(BaseException):
    """A signal asked for the end."""


def run(config: Config) -> None:
    """Produce until SIGTERM or SIGINT. Raises KlinestreamError if it can't start or go on."""
    with _ended_by_signals():
        _produce(config)


def _produce(config: Config) -> NoReturn:
    metrics = Metrics()
    failures: SimpleQueue[Exception] = SimpleQueue()
    stopped = threading.Event()
    with ExitStack() as stack:
        rest = stack.enter_context(Rest(config.exchange))
        symbols = chosen_symbols(config.exchange.symbols, rest.statuses())
        planned = groups(symbols, _partitions(config), config.producer.streams_per_connection)
        publisher = open_publisher(config.kafka, CLIENT_ID, metrics.acknowledged)
        stack.callback(publisher.close, _FLUSH_S)
        metrics.queued.set_function(publisher.queued)

        clock = ClockCheck(rest, metrics, config.producer.clock_check_s, stopped)
        clock.start()
        stack.callback(clock.join, _JOIN_S)
        stack.callback(stopped.set)

        url = config.exchange.websocket_url.rstrip("/") + "/stream"
        intakes = [Intake(group, url, publisher, metrics, _now_ms) for group in planned]
        connections = [
            Connection(group, url, config.producer, intake=intake, metrics=metrics, failures=failures)
            for group, intake in zip(planned, intakes, strict=True)
        ]
        faults = _watch(planned, intakes, metrics, config.producer.silence_s)
        if config.producer.metrics_port:
            server = MetricsServer(config.producer.metrics_host, config.producer.metrics_port, metrics.registry, faults)
            stack.callback(server.close)

        detail = f"{len(symbols)} symbols on {len(planned)} connections"
        _tell(publisher, "started", detail)
        stack.callback(_say_goodbye, publisher, config.kafka.queue_records, detail)
        stack.callback(_stop, connections)
        log.info("producing", symbols=len(symbols), connections=len(planned), exchange=url)
        for connection in connections:
            connection.start()
        raise failures.get()


def _partitions(config: Config) -> int:
    """How many partitions the topic of klines has: the brokers' word, since a symbol's place depends on it."""
    reader = open_reader(config.kafka, CLIENT_ID)
    try:
        return len(reader.partitions(KLINES.name))
    finally:
        reader.close()


def _watch(planned: Sequence[Group], intakes: Sequence[Intake], metrics: Metrics, silence_s: float) -> Callable[[], list[str]]:
    """Set up the age of each connection's data as a metric, and return what tells which of them is too old."""

    for group, intake in zip(planned, intakes, strict=True):
        metrics.data_age.labels(group.name).set_function(intake.age_s)

    def faults() -> list[str]:
        ages = {group.name: intake.age_s() for group, intake in zip(planned, intakes, strict=True)}
        # Noticing silence takes silence_s, mending it about a second.
        return [f"connection {name}: newest kline is {age:.1f} s old" for name, age in ages.items() if age > silence_s + 2]

    return faults


def _stop(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.stop()
    deadline_s = time.monotonic() + _JOIN_S
    for connection in connections:
        if connection.is_alive():
            connection.join(max(0.0, deadline_s - time.monotonic()))


def _say_goodbye(publisher: Publisher, queue_records: int, detail: str) -> None:
    """Publish that the producer stops, unless that would wait for a broker that is away."""
    if publisher.queued() < queue_records:
        _tell(publisher, "stopped", detail)


def _tell(publisher: Publisher, event: str, detail: str) -> None:
    now_ms = _now_ms()
    happened = PipelineEvent(COMPONENT, event, now_ms, detail)
    headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
    publisher.publish(Record(PIPELINE_EVENTS.name, COMPONENT.encode(), encode_event(happened), now_ms, headers))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """End the block cleanly at the first SIGTERM or SIGINT; further ones don't disturb its end."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as `signal` calls it
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise _Ended

    previous = {one: signal.signal(one, end) for one in signals}
    try:
        yield
    except _Ended:
        log.info("stopped")
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
