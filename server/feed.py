"""The thread that reads `crypto_data_aggregated` and hands what it finds to the event loop.

It goes on by itself after any trouble with the broker, from the offsets it has reached, so nothing comes twice. One
`call_soon_threadsafe` carries a whole poll; a semaphore bounds how many wait, so a busy loop slows the reading down
and doesn't grow a queue.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Protocol

import structlog

from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.topics import WINDOWS
from klinestream.runtime.kafka import Reader, Record
from server.health import FeedState
from server.history import Entry
from server.metrics import Metrics
from server.records import entry_from

POLL_S = 0.5  # a poll returns with the first record; this only bounds how long a stop has to wait
IDLE_POLLS = 4  # after an assignment the first polls may come back before the broker's first answer
LAG_CHECK_S = 5.0
POLLS_WAITING_MOST = 8
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 5.0

log = structlog.get_logger()


class Sink(Protocol):
    """Where the feed's findings go; called in the event loop's thread."""

    def restart(self, starts: Mapping[int, int]) -> None:
        """Reading starts anew, from these offsets by partition."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Windows in the order in which they were read."""


class Feed:
    """Reads from `span_ms` before now, then whatever comes. `state` may be read from any thread."""

    def __init__(self, open_reader: Callable[[], Reader], sink: Sink, metrics: Metrics, now_ms: Callable[[], int], *, span_ms: int) -> None:
        """`open_reader` is called again after each trouble with the broker; `now_ms` is the wall clock."""
        self.state = FeedState()
        self._open_reader = open_reader
        self._sink = sink
        self._metrics = metrics
        self._now_ms = now_ms
        self._span_ms = span_ms
        self._next: dict[int, int] = {}
        self._stopping = threading.Event()
        self._waiting = threading.Semaphore(POLLS_WAITING_MOST)
        self._loop: asyncio.AbstractEventLoop | None = None
        # A daemon: a client library that hangs in a dead broker must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to read; findings go to `loop`."""
        self._loop = loop
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        waits = _backoff()
        while not self._stopping.is_set():
            try:
                with closing(self._open_reader()) as reader:
                    targets = self._assign(reader)
                    waits = _backoff()
                    self._read(reader, targets)
            except BrokerError as error:
                self.state = FeedState(caught_up=False, fault=str(error))
                self._metrics.reconnects.inc()
                wait_s = next(waits)
                log.warning("broker can't be read", reason=str(error), again_in_s=round(wait_s, 1))
                self._stopping.wait(wait_s)
            except BaseException:
                # A fault in the program: the thread ends, and nobody may take the server for ready.
                self.state = FeedState(caught_up=False, fault="the feed has died: see the log, and restart the server")
                raise

    def _assign(self, reader: Reader) -> dict[int, int]:
        """Go on where reading stopped, or start anew; the offsets at which the reader has caught up."""
        bounds = reader.bounds(WINDOWS.name)
        goes_on = self._next.keys() == bounds.keys() and all(
            first <= self._next[partition] <= end for partition, (first, end) in bounds.items()
        )
        if not goes_on:
            # A first start, a topic made anew, or one that dropped what was not read yet.
            self._next = dict(reader.offsets_at(WINDOWS.name, self._now_ms() - self._span_ms))
            self._hand_over(self._sink.restart, dict(self._next))
        reader.assign({(WINDOWS.name, partition): offset for partition, offset in self._next.items()})
        log.info("reading", topic=WINDOWS.name, goes_on=goes_on, offsets=self._next)
        self.state = FeedState()
        return {partition: end for partition, (_, end) in bounds.items()}

    def _read(self, reader: Reader, targets: Mapping[int, int]) -> None:
        lag_due_s = 0.0
        idle = 0
        while not self._stopping.is_set():
            records = reader.poll(POLL_S)
            idle = 0 if records else idle + 1
            if records:
                self._take(records)
            # Idle polls count too: the markers of transactions take offsets that no reader ever sees.
            if not self.state.caught_up and (idle >= IDLE_POLLS or all(self._next[p] >= end for p, end in targets.items())):
                self.state = FeedState(caught_up=True)
                log.info("caught up", offsets=self._next)
            # Best between two bursts: the question would hold up the reading of one.
            if time.monotonic() >= lag_due_s + (LAG_CHECK_S if records else 0):
                self._measure_lag(reader)
                lag_due_s = time.monotonic() + LAG_CHECK_S

    def _take(self, records: Sequence[Record]) -> None:
        now_ms = self._now_ms()
        entries = []
        for record in records:
            self._next[record.partition] = record.offset + 1
            try:
                entries.append(entry_from(record, now_ms))
            except RecordError as error:
                self._metrics.rejected.inc()
                log.warning("record is no window", partition=record.partition, offset=record.offset, reason=str(error))
        self._hand_over(self._sink.publish, entries)

    def _measure_lag(self, reader: Reader) -> None:
        """How much is left to read; asks the broker, so that one that is away is noticed."""
        for partition, (_, end) in reader.bounds(WINDOWS.name).items():
            self._metrics.lag.labels(partition).set(max(0, end - self._next.get(partition, 0)))

    def _hand_over(self, receive: Callable[..., None], what: object) -> None:
        """Call `receive(what)` in the event loop; waits while too much waits there."""
        while not self._waiting.acquire(timeout=POLL_S):
            if self._stopping.is_set():
                return

        def received() -> None:
            self._waiting.release()
            receive(what)

        assert self._loop is not None, "start() gives the loop"  # noqa: S101  # a fault in the program
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(received)


def _backoff() -> Iterator[float]:
    """Waits between attempts: doubled up to the most, with jitter so that replicas don't come in step."""
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        wait_s = min(BACKOFF_MOST_S, 2 * wait_s)
