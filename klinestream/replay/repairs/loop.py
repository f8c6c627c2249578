"""A process that follows topics for ever, whatever becomes of the broker, and a companion thread beside it."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

import orjson
import structlog

from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError
from klinestream.market.events import PipelineEvent
from klinestream.market.topics import PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.replay.repairs.metrics import RepairMetrics
from klinestream.replay.repairs.reading import Stretches
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

CLIENT_ID = "klinestream-repair"
COMPONENT = "repair"
FINISHED = "repaired"
_FLUSH_S = 60.0
_LOOK_S = 0.02
_FLUSH_LOOK_S = 0.5
_CLOSE_S = 1.0
_CONNECT_S = 3.0  # one attempt: a process tries for as long as it takes, and ends at once when it shall
_BACKOFF_FIRST_S = 0.25
_BACKOFF_MOST_S = 5.0


@dataclass(frozen=True, slots=True)
class Connections:
    """One reader for what is followed, one for what has to be looked up, and a publisher."""

    following: Reader
    looking: Reader
    publisher: Publisher


class Follows(Protocol):
    """What is done over connections that may break at any time."""

    fault: str
    """What is wrong right now, or nothing."""

    def begin(self, connections: Connections) -> None:
        """Go on where it stopped, over new connections. Raises BrokerError."""

    def round(self, connections: Connections) -> None:
        """Take what came, and do what is due. Raises BrokerError."""


def keep_following(work: Follows, kafka: KafkaConfig, metrics: RepairMetrics, going_on: Callable[[], None]) -> None:
    """Go on until `going_on`, which is called between rounds and attempts, raises."""
    kafka = kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, kafka.connect_timeout_s)})
    wait_s = _BACKOFF_FIRST_S
    while True:
        going_on()
        try:
            with ExitStack() as stack:
                following = stack.enter_context(closing(open_reader(kafka, CLIENT_ID)))
                looking = stack.enter_context(closing(open_reader(kafka, CLIENT_ID)))
                publisher = open_publisher(kafka, CLIENT_ID)
                stack.callback(_close, publisher)
                connections = Connections(following, looking, publisher)
                work.begin(connections)
                work.fault, wait_s = "", _BACKOFF_FIRST_S
                while True:
                    going_on()
                    work.round(connections)
        except BrokerError as error:
            work.fault = str(error)
            metrics.reconnects.inc()
            log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
            wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)


class _Ended(BaseException):
    """The companion shall end."""


class Companion:
    """A thread beside the process's own."""

    def __init__(self, name: str, work: Callable[[Callable[[], None]], None]) -> None:
        """`work` gets a function to call again and again, which ends it by raising."""
        self._work = work
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what the thread failed with."""
        if self._failure is not None:
            raise self._failure

    def stop(self, timeout_s: float) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join(timeout_s)

    def _going_on(self) -> None:
        if self._stopped.is_set():
            raise _Ended

    def _run(self) -> None:
        try:
            self._work(self._going_on)
        except _Ended:
            return
        except Exception as error:
            self._failure = error


def finished_event(detail: str, now_ms: int) -> Record:
    """What is told of something that is finished."""
    event = PipelineEvent(COMPONENT, FINISHED, now_ms, detail)
    headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
    return Record(PIPELINE_EVENTS.name, COMPONENT.encode(), encode_event(event), now_ms, headers)


def finished_before(looking: Reader) -> Iterator[str]:
    """What was told of all that is finished. Raises BrokerError."""
    places = {(PIPELINE_EVENTS.name, partition): span for partition, span in looking.bounds(PIPELINE_EVENTS.name).items()}
    for records in Stretches(looking).read(places, with_markers=True):
        for record in records:
            try:
                event = orjson.loads(record.value or b"")
            except orjson.JSONDecodeError:
                continue
            if isinstance(event, dict) and (event.get("component"), event.get("event")) == (COMPONENT, FINISHED):
                yield str(event.get("detail"))


def acknowledged(publisher: Publisher) -> None:
    """Wait until the brokers have everything. Raises DeliveryError."""
    until_s = time.monotonic() + _FLUSH_S
    # A client in C that flushes lets no signal through; this does.
    while publisher.queued() and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
    publisher.flush(_FLUSH_LOOK_S)


def wall_ms() -> int:
    """What the clock on the wall says."""
    return time.time_ns() // 1_000_000


def _close(publisher: Publisher) -> None:
    try:
        publisher.close(_CLOSE_S)
    except BrokerError as error:
        # Nothing is lost by it: what is not told as finished is repaired again.
        log.warning("kafka did not take everything", reason=str(error))
