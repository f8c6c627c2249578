"""The loop that reads topics in a thread of its own, and goes on by itself after any trouble with the broker.

It goes on from the offsets it has reached, so nothing comes twice; where a topic is another one now, or has dropped what
was not read yet, it starts anew from where the topic's plan says, and tells so first.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import structlog

from klinestream.market.errors import BrokerError
from klinestream.runtime.kafka import Reader, Record
from server.health import FeedState

POLL_S = 0.5  # a poll returns with the first record; this only bounds how long a stop has to wait
IDLE_S = 2.0  # after an assignment the first polls may come back before the broker's first answer
LAG_CHECK_S = 5.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MOST_S = 5.0
WINDOWS_FIRST_MOST_S = 15.0
"""Windows that aren't there by then don't come now: no job runs, or the topic is long."""
LOOK_S = 0.1

Starts = Callable[[Reader], Mapping[int, int]]
"""Partition → offset at which a topic's reading begins."""
Place = tuple[str, int]
"""Topic and partition."""

log = structlog.get_logger()


class Sink(Protocol):
    """Where what is read goes; called in the reading thread."""

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:
        """A topic's reading starts anew, from these offsets by partition: what is held of it is void."""

    def take(self, records: Sequence[Record]) -> None:
        """Records in the order in which they were read."""

    def lag(self, topic: str, partition: int, behind: int) -> None:
        """How many records are left to read."""

    def reconnecting(self) -> None:
        """The reader is about to be opened anew after trouble."""


@dataclass(slots=True)
class Reached:
    """How far one topic is read; may be looked at from any thread."""

    read: int = 0
    behind: int = 0
    per_s: float = 0.0


class Reading:
    """Reads topics, each from its start, then whatever comes. `state` and `reached` may be read from any thread."""

    def __init__(
        self, name: str, open_reader: Callable[[], Reader], topics: Mapping[str, Starts], sink: Sink, *, wait_most_s: float = BACKOFF_MOST_S
    ) -> None:
        """`open_reader` is called again after each trouble with the broker, after `wait_most_s` at the latest."""
        self.state = FeedState()
        self.complete = False
        """All that was there has been read: stays so when the broker is away, until a topic is another one."""
        self.reached = {topic: Reached() for topic in topics}
        self.stopping = threading.Event()
        self._open_reader = open_reader
        self._topics = topics
        self._sink = sink
        self._wait_most_s = wait_most_s
        self._after: Callable[[], bool] = lambda: True
        self._next: dict[Place, int] = {}
        self._counted: dict[str, int] = {}
        self._measured_s = time.monotonic()
        # A daemon: a client library that hangs in a dead broker must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self, after: Callable[[], bool] = lambda: True) -> None:
        """Start to read, once `after` says so, or after 15 s: a chart's windows come first."""
        self._after = after
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        for _ in range(round(WINDOWS_FIRST_MOST_S / LOOK_S)):
            if self._after() or self.stopping.wait(LOOK_S):
                break
        waits = _backoff(self._wait_most_s)
        while not self.stopping.is_set():
            try:
                with closing(self._open_reader()) as reader:
                    targets = self._assign(reader)
                    waits = _backoff(self._wait_most_s)
                    self._read(reader, targets)
            except BrokerError as error:
                self.state = FeedState(caught_up=False, fault=str(error))
                self._sink.reconnecting()
                wait_s = next(waits)
                log.warning("broker can't be read", reason=str(error), again_in_s=round(wait_s, 1))
                self.stopping.wait(wait_s)
            except BaseException:
                # A fault in the program: the thread ends, and nobody may take the server for ready.
                self.state = FeedState(caught_up=False, fault="the feed has died: see the log, and restart the server")
                raise

    def _assign(self, reader: Reader) -> dict[Place, int]:
        """Go on where reading stopped, or start anew; the offsets at which the reader has caught up."""
        targets: dict[Place, int] = {}
        for topic, starts in self._topics.items():
            bounds = reader.bounds(topic)
            reached = {partition: offset for (of, partition), offset in self._next.items() if of == topic}
            goes_on = reached.keys() == bounds.keys() and all(first <= reached[p] <= end for p, (first, end) in bounds.items())
            if not goes_on:
                # A first start, a topic made anew, or one that dropped what was not read yet.
                reached = dict(starts(reader))
                self._next = {place: offset for place, offset in self._next.items() if place[0] != topic}
                self._next |= {(topic, partition): offset for partition, offset in reached.items()}
                self.complete = False
                self._sink.restart(topic, reached)
            targets |= {(topic, partition): end for partition, (_, end) in bounds.items()}
            log.info("reading", topic=topic, goes_on=goes_on, offsets=reached)
        reader.assign(self._next)
        self.state = FeedState()
        return targets

    def _read(self, reader: Reader, targets: Mapping[Place, int]) -> None:
        lag_due_s = 0.0
        heard_s = time.monotonic()
        while not self.stopping.is_set():
            records = reader.poll(POLL_S)
            if self._take(records, targets):
                heard_s = time.monotonic()
            # Silence counts too: the markers of transactions take offsets that no reader ever sees.
            if not self.state.caught_up and (time.monotonic() - heard_s >= IDLE_S or not self._behind(targets)):
                self.state = FeedState(caught_up=True)
                self.complete = True
                lag_due_s = -LAG_CHECK_S  # at once: what was measured on the way is no longer so
                log.info("caught up", topics=list(self._topics), records=sum(reached.read for reached in self.reached.values()))
            # Best between two bursts: the question would hold up the reading of one.
            if time.monotonic() >= lag_due_s + (LAG_CHECK_S if records else 0):
                self._measure_lag(reader)
                lag_due_s = time.monotonic() + LAG_CHECK_S

    def _behind(self, targets: Mapping[Place, int]) -> bool:
        return any(self._next[place] < end for place, end in targets.items())

    def _take(self, records: Sequence[Record], targets: Mapping[Place, int]) -> bool:
        """Hand records over; whether one of them was among those that were there at the start."""
        awaited = False
        for record in records:
            place = record.topic, record.partition
            awaited = awaited or record.offset < targets.get(place, 0)
            self._next[place] = record.offset + 1
            self.reached[record.topic].read += 1
        if records:
            self._sink.take(records)
        return awaited

    def _measure_lag(self, reader: Reader) -> None:
        """How much is left to read; asks the broker, so that one that is away is noticed."""
        for topic, reached in self.reached.items():
            behind = 0
            for partition, (_, end) in reader.bounds(topic).items():
                left = max(0, end - self._next.get((topic, partition), 0))
                self._sink.lag(topic, partition, left)
                behind += left
            reached.behind = behind
        self._measure_rates()

    def _measure_rates(self) -> None:
        since_s, self._measured_s = time.monotonic() - self._measured_s, time.monotonic()
        for topic, reached in self.reached.items():
            reached.per_s = (reached.read - self._counted.get(topic, 0)) / max(since_s, POLL_S)
            self._counted[topic] = reached.read


def _backoff(most_s: float) -> Iterator[float]:
    """Waits between attempts: doubled up to the most, with jitter so that replicas don't come in step."""
    wait_s = BACKOFF_FIRST_S
    while True:
        yield wait_s * random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        wait_s = min(most_s, 2 * wait_s)
