"""What both clients share around connecting and losing: the patience at the start, and losses told to the caller."""

import socket
import threading
from collections.abc import Callable
from typing import TypeVar

import structlog
from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential, wait_random

from klinestream.market.errors import BrokerError, ConfigError, DeliveryError
from klinestream.runtime.kafka.interface import Record
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

T = TypeVar("T")

LOOK_UP_S = 0.2  # how often a publisher that waits for room looks whether something was lost meanwhile
# A broker answers nothing else on a connection while a fetch on it waits for records: every other question waits as long.
FETCH_WAIT_MS = 100
_PORTS = 1 << 16
ATTEMPT_S = 3.0  # a broker that is there answers in milliseconds; one attempt at one that isn't must not eat the bound


class UnreachableError(BrokerError):
    """One attempt to reach a broker failed; the next one may not."""


def connected(attempt: Callable[[], T], config: KafkaConfig) -> T:
    """What `attempt` returns, tried again while it raises UnreachableError, for `config.connect_timeout_s` at most.

    Raises BrokerError that says what to check.
    """

    def look_and_attempt() -> T:
        # A client that finds no broker takes its time, and kafka-python leaves threads and sockets behind.
        _find_listener(config.bootstrap_servers)
        return attempt()

    def tell(state: RetryCallState) -> None:
        reason = state.outcome.exception() if state.outcome else None
        log.warning("kafka not reachable, trying again", servers=config.bootstrap_servers, reason=str(reason), attempt=state.attempt_number)

    retrying = Retrying(
        retry=retry_if_exception_type(UnreachableError),
        stop=stop_after_delay(config.connect_timeout_s),
        wait=wait_exponential(multiplier=0.2, max=2.0) + wait_random(0, 0.2),
        before_sleep=tell,
    )
    try:
        return retrying(look_and_attempt)
    except RetryError as error:
        raise BrokerError(
            f"expected a Kafka broker at {config.bootstrap_servers} ({config.security_protocol}), but none answered in "
            f"{config.connect_timeout_s:g} s ({error.last_attempt.exception()}): check that it runs, kafka.bootstrap_servers, "
            "kafka.security_protocol and the user's name and password"
        ) from None


def addresses(servers: str) -> list[tuple[str, int]]:
    """The host and port of each of these `host:port`, comma separated; raises ConfigError.

    >>> addresses("kafka-0:9092, [::1]:9093")
    [('kafka-0', 9092), ('::1', 9093)]
    """
    found = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not (host and port.isascii() and port.isdecimal() and 0 < int(port) < _PORTS):
            raise ConfigError(f"kafka.bootstrap_servers: expected host:port, comma separated, got {server!r}")
        found.append((host.strip("[]"), int(port)))
    return found


def _find_listener(servers: str) -> None:
    """Return if anybody listens on one of these `host:port`, comma separated; raises UnreachableError."""
    reason: object = None
    for address in addresses(servers):
        try:
            socket.create_connection(address, timeout=ATTEMPT_S).close()
        except OSError as error:
            reason = error
        else:
            return
    raise UnreachableError(str(reason))


def unknown_topic(topic: str) -> str:
    """What to say of a topic that isn't there."""
    return f"expected a topic {topic} in Kafka, but there is none: create the topics with `klinestream topics create`"


def refused(record: Record, reason: object) -> str:
    """What to say of a record that the client didn't take."""
    return f"Kafka's client refused a record of {len(record.value or b'')} bytes for topic {record.topic}, key {record.key!r}: {reason}"


def not_in_time(records: int, timeout_s: float) -> str:
    """What to say when a flush takes too long."""
    return f"{records} record(s) were not acknowledged by Kafka within {timeout_s:g} s: check the broker, and what it logs"


class Losses:
    """Records that were not acknowledged: noted by the client's thread, raised once in the caller's.

    Thread-safe; holds the first loss and a count, however many there are.
    """

    def __init__(self) -> None:
        """Nothing is lost yet."""
        self._lock = threading.Lock()
        self._first = ""
        self._count = 0

    def note(self, topic: str, key: bytes | None, reason: object) -> None:
        """Remember one lost record."""
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._first = f"topic {topic}, key {key!r}: {reason}"

    def raise_any(self) -> None:
        """Raise DeliveryError if anything was lost since the last time."""
        if not self._count:
            return
        with self._lock:
            first, count = self._first, self._count
            self._count = 0
        raise DeliveryError(f"{count} record(s) were not acknowledged by Kafka, the first of {first}")


class Room:
    """Counts the records under way and lets no more than `most` in at once. Thread-safe."""

    def __init__(self, most: int) -> None:
        """All places are free."""
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """How many are under way."""
        return self._taken

    def enter(self, timeout_s: float) -> bool:
        """Take a place, waiting for one up to `timeout_s`; False if there was none."""
        with self._changed:
            if self._taken >= self._most and not self._changed.wait_for(lambda: self._taken < self._most, timeout_s):
                return False
            self._taken += 1
            return True

    def leave(self) -> None:
        """Give a place back."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()
