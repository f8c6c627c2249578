"""The topic `crypto_control`: what is said of symbols at run time, written and read.

Of each name the newest record counts; one without a value withdraws what was said. Commands for workflows stand there too, for
others to read. Whatever else there is is passed over, counted and logged: one bad record must not keep everybody from the good ones.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from klinestream.market.codec import decode_choice, encode_event, is_symbol_or_pattern
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import WORKFLOW, SymbolChoice
from klinestream.market.topics import CONTROL, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

CLIENT_ID = "klinestream-control"
NAMES_MOST = 10_000  # several times what the exchange lists; a topic with more is somebody's mistake
_NOT_OURS = WORKFLOW.encode()
_READ_S = 15.0
_POLL_S = 0.2
_WRITE_S = 15.0


@dataclass(frozen=True, slots=True)
class Said:
    """What is new of a name: the choice, or None where it was withdrawn."""

    name: str
    choice: SymbolChoice | None


class ControlLog:
    """Reads and writes the control topic. Not for several threads at once; connects when it has to. Raises BrokerError."""

    def __init__(self, config: KafkaConfig, topic: str = CONTROL.name, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000):
        """`now_ms` dates what is said."""
        self._config = config
        self._topic = topic
        self._now_ms = now_ms
        self._reader: Reader | None = None
        self._publisher: Publisher | None = None
        self._names: dict[str, SymbolChoice] = {}
        self._read_to: dict[int, int] = {}
        self.passed_over = 0
        """Records that could not be used."""

    def __enter__(self) -> Self:
        """Itself; it disconnects at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Disconnect."""
        self.close()

    def close(self) -> None:
        """Disconnect; what was said is acknowledged already."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._publisher is not None:
            publisher, self._publisher = self._publisher, None
            publisher.close(1.0)

    def say(self, name: str, wanted: bool, by: str) -> None:
        """Say that a symbol or pattern, upper case, is wanted or not. Returns when the brokers have it."""
        now_ms = self._now_ms()
        self._write(name, encode_event(SymbolChoice(name, wanted, now_ms, by)), now_ms)

    def withdraw(self, name: str) -> None:
        """Take back what was said of a name. Returns when the brokers have it."""
        self._write(name, None, self._now_ms())

    def read(self) -> dict[str, SymbolChoice]:
        """Name → newest choice, to the present end of the topic."""
        reader = self._connected()
        ends = {partition: end for partition, (first, end) in reader.bounds(self._topic).items() if end > first}
        deadline_s = time.monotonic() + _READ_S
        while any(self._read_to.get(partition, 0) < end for partition, end in ends.items()):
            if time.monotonic() > deadline_s:
                raise BrokerError(
                    f"expected to read topic {self._topic} to its end in {_READ_S:g} s, but the broker did not give it all: try again"
                )
            self._take_all(reader.poll(_POLL_S))
        return dict(self._names)

    def follow(self, timeout_s: float) -> list[Said]:
        """What is new since the last look, or from the topic's beginning; waits for something up to `timeout_s`."""
        return self._take_all(self._connected().poll(timeout_s))

    def names(self) -> dict[str, SymbolChoice]:
        """Name → newest choice, as far as the topic was read."""
        return dict(self._names)

    def _connected(self) -> Reader:
        if self._reader is None:
            reader = open_reader(self._config, CLIENT_ID)
            try:
                reader.assign({(self._topic, partition): first for partition, (first, _) in reader.bounds(self._topic).items()})
            except BrokerError:
                reader.close()
                raise
            self._reader = reader
            self._names, self._read_to = {}, {}
        return self._reader

    def _take_all(self, records: Iterable[Record]) -> list[Said]:
        found = []
        for record in records:
            self._read_to[record.partition] = record.offset + 1
            if (record.key or b"").startswith(_NOT_OURS):
                continue
            try:
                found.append(self._take(record))
            except RecordError as error:
                self.passed_over += 1
                log.warning("control record passed over", reason=str(error), topic=record.topic, offset=record.offset)
        return found

    def _take(self, record: Record) -> Said:
        try:
            name = (record.key or b"").decode()
        except UnicodeDecodeError:
            name = ""
        if not is_symbol_or_pattern(name):
            raise RecordError("key: expected a symbol or a pattern, upper case")
        if record.value is None:
            self._names.pop(name, None)
            return Said(name, None)
        choice = decode_choice(record.value)
        if choice.name != name:
            raise RecordError("name: expected the record's key")
        if name not in self._names and len(self._names) >= NAMES_MOST:
            raise RecordError(f"expected at most {NAMES_MOST} names")
        self._names[name] = choice
        return Said(name, choice)

    def _write(self, name: str, value: bytes | None, now_ms: int) -> None:
        if self._publisher is None:
            self._publisher = open_publisher(self._config, CLIENT_ID)
        headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % now_ms))
        self._publisher.publish(Record(self._topic, name.encode(), value, now_ms, headers))
        self._publisher.flush(_WRITE_S)
