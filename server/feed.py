"""Reads the topic of the windows, over klines or over trades, and hands what it finds to the event loop.

One call carries a whole poll, or several that came while the loop was busy.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import WINDOWS, Topic
from klinestream.runtime.kafka import Reader, Record
from server.hand_over import HandOver
from server.health import FeedState
from server.history import Entry
from server.metrics import Metrics
from server.reading import Reached, Reading
from server.records import entry_from

log = structlog.get_logger()


class Sink(Protocol):
    """Where the feed's findings go; called in the event loop's thread."""

    def restart(self, starts: Mapping[int, int]) -> None:
        """Reading starts anew, from these offsets by partition."""

    def publish(self, entries: Sequence[Entry]) -> None:
        """Windows in the order in which they were read."""


class Feed:
    """Reads from `span_ms` before now, then whatever comes. `state` may be read from any thread."""

    def __init__(
        self,
        open_reader: Callable[[], Reader],
        sink: Sink,
        metrics: Metrics,
        now_ms: Callable[[], int],
        *,
        span_ms: int,
        topic: Topic = WINDOWS,
    ) -> None:
        """`open_reader` is called again after each trouble with the broker; `now_ms` is the wall clock."""
        self._topic = topic
        self._sink = sink
        self._metrics = metrics
        self._now_ms = now_ms
        starts = {topic.name: lambda reader: reader.offsets_at(topic.name, now_ms() - span_ms)}
        self._batch: list[Entry] = []
        self._reading = Reading("feed", open_reader, starts, self)
        self._hand_over = HandOver(self._reading.stopping)

    @property
    def state(self) -> FeedState:
        """What the feed knows of itself."""
        return self._reading.state

    @property
    def reached(self) -> Reached:
        """How far the topic is read."""
        return self._reading.reached[self._topic.name]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to read; findings go to `loop`."""
        self._hand_over.to(loop)
        self._reading.start()

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._reading.stop(timeout_s)

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:  # noqa: ARG002  # there is one topic
        """What is held is void: see `reading.Sink`."""
        self._batch = []
        self._hand_over.call(self._sink.restart, dict(starts))

    def take(self, records: Sequence[Record]) -> None:
        """Hand windows over: see `reading.Sink`."""
        now_ms = self._now_ms()
        entries = []
        for record in records:
            try:
                entries.append(entry_from(record, now_ms, self._topic.event))
            except RecordError as error:
                self._metrics.rejected.inc()
                log.warning("record is no window", partition=record.partition, offset=record.offset, reason=str(error))
        self._observe(entries, now_ms)
        self._batch += entries
        self._hand_over.call(self._publish, self._batch)

    def lag(self, topic: str, partition: int, behind: int) -> None:  # noqa: ARG002  # there is one topic
        """Show how much is left to read."""
        self._metrics.lag.labels(partition).set(behind)

    def reconnecting(self) -> None:
        """Count it."""
        self._metrics.reconnects.inc()

    def _publish(self, batch: list[Entry]) -> None:
        """In the loop's thread: all that has come by now in one go, so that a busy loop makes fewer updates, and larger ones."""
        entries = batch[:]
        del batch[: len(entries)]
        if entries:
            self._sink.publish(entries)

    def _observe(self, entries: Sequence[Entry], now_ms: int) -> None:
        # What was there before the start, and what was repaired, is old for another reason.
        newest_ms = max((entry.end_ms for entry in entries if not entry.revision), default=None)
        if newest_ms is None or not self.state.caught_up:
            return
        # A window over klines that ends at .5 has no newer ones than the one that ends at .0 before it.
        closed_ms = newest_ms // SECOND_MS * SECOND_MS if self._topic is WINDOWS else newest_ms
        self._metrics.close_to_held_seconds.observe(max(0, now_ms - closed_ms) / SECOND_MS)
