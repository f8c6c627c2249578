"""Reads back what all replicas write: the keys from a day ago on, and the ends of the topics that something was posted to.

A thread reads and hands over; all that is known changes in the event loop's thread alone. Who has published waits by `past` until the
topic is read up to there.
"""

import asyncio
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog

from klinestream.ingest.keys import KEPT_MS, Keys
from klinestream.ingest.order import Order
from klinestream.market.codec import decode_event
from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.events import IngestKey
from klinestream.market.topics import INGEST_KEYS
from klinestream.runtime.kafka import Reader, Record

log = structlog.get_logger()

TAIL_RECORDS = 10_000
"""How many records of each partition are read before its end, to know what is newest."""
POLL_S = 0.2
RETRY_S = 0.5
LOOK_AGAIN_S = 5.0
"""How soon a topic that wasn't there is looked for again."""

Place = tuple[str, int]
"""Topic and partition."""


class Follower:
    """What the topics tell. All but `_run` and what it calls belong to the loop's thread."""

    def __init__(
        self, open_reader: Callable[[], Reader], now_ms: Callable[[], int], broken: Callable[[Exception], None] = lambda _: None
    ) -> None:
        """`open_reader` is called again after each trouble with the broker; `broken` once, if anything else ends the thread."""
        self.keys = Keys()
        self.caught_up = False
        self._order: dict[str, Order] = {}
        self._positions: dict[Place, int] = {}
        self._waiting: dict[Place, list[tuple[int, asyncio.Future[None]]]] = defaultdict(list)
        self._open = open_reader
        self._now_ms = now_ms
        self._broken = broken
        self._wanted: tuple[str, ...] = (INGEST_KEYS.name,)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to read; in the loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop reading."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def follow(self, topic: str) -> None:
        """Read this topic too, from a little before its end on."""
        if topic not in self._order:
            self._order[topic] = Order()
            self._wanted += (topic,)

    def late(self, topic: str, partition: int, offsets: Sequence[int]) -> list[int]:
        """Which of these records of a topic that is followed came late; it has to be read past them."""
        return self._order[topic].late(partition, offsets)

    async def past(self, topic: str, partition: int, offset: int) -> None:
        """Return when this record is read."""
        place = (topic, partition)
        if self._positions.get(place, -1) > offset:
            return
        future = asyncio.get_running_loop().create_future()
        waiting = (offset, future)
        self._waiting[place].append(waiting)
        try:
            await future
        finally:
            if waiting in self._waiting[place]:  # who has given up, while nothing is read
                self._waiting[place].remove(waiting)

    def _take(self, records: Sequence[Record], positions: dict[Place, int], caught_up: bool, taken: threading.Event) -> None:
        for record in records:
            if record.topic == INGEST_KEYS.name:
                self._take_key(record)
            else:
                self._order[record.topic].take(record)
        self._positions |= positions
        self.caught_up = caught_up
        for place in positions.keys() & self._waiting.keys():
            left = []
            for offset, future in self._waiting.pop(place):
                if self._positions[place] <= offset and not future.done():
                    left.append((offset, future))
                elif not future.done():
                    future.set_result(None)
            if left:
                self._waiting[place] = left
        taken.set()

    def _take_key(self, record: Record) -> None:
        try:
            self.keys.take(decode_event(IngestKey, record.value or b""))
        except RecordError as error:
            log.warning("record is no key", partition=record.partition, offset=record.offset, reason=str(error))

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # whatever it is: nothing is read any more, and somebody has to know
            log.exception("reading back ended")
            self._broken(error)

    def _follow(self) -> None:
        positions: dict[Place, int] = {}
        while not self._stopping.is_set():
            try:
                reader = self._open()
                try:
                    self._read(reader, positions)
                finally:
                    reader.close()
            except BrokerError as error:
                log.warning("reading back goes on soon", reason=str(error))
                self._hand_over([], positions, caught_up=False)
                self._stopping.wait(RETRY_S)

    def _read(self, reader: Reader, positions: dict[Place, int]) -> None:
        ends: dict[Place, int] = {}
        assigned: tuple[str, ...] = ()
        again_s = math.inf

        def hand_over(records: Sequence[Record]) -> None:
            self._hand_over(records, positions, caught_up=all(positions.get(place, end) >= end for place, end in ends.items()))

        while not self._stopping.is_set():
            if assigned != self._wanted or time.monotonic() >= again_s:
                assigned = self._wanted
                found = self._begun(reader, assigned, positions, ends)
                again_s = math.inf if found == set(assigned) else time.monotonic() + LOOK_AGAIN_S
                reader.assign({place: offset for place, offset in positions.items() if place[0] in found})
                hand_over([])
            records = reader.poll(POLL_S)
            for record in records:
                positions[record.topic, record.partition] = record.offset + 1
            if records:
                hand_over(records)

    def _begun(self, reader: Reader, topics: Sequence[str], positions: dict[Place, int], ends: dict[Place, int]) -> set[str]:
        """Topics that can be read, with their positions set; without the keys nothing can be told, so their trouble raises BrokerError."""
        found = set()
        for topic in topics:
            try:
                self._begin(reader, topic, positions, ends)
            except BrokerError as error:
                if topic == INGEST_KEYS.name:
                    raise
                log.warning("topic isn't read back", topic=topic, reason=str(error))
            else:
                found.add(topic)
        return found

    def _begin(self, reader: Reader, topic: str, positions: dict[Place, int], ends: dict[Place, int]) -> None:
        bounds = reader.bounds(topic)
        for place in [place for place in positions if place[0] == topic and place[1] not in bounds]:
            del positions[place]  # made anew, with fewer partitions
        if all((topic, partition) in positions for partition in bounds):
            begins = {partition: _on(positions[topic, partition], *bounds[partition]) for partition in bounds}
        elif topic == INGEST_KEYS.name:
            begins = dict(reader.offsets_at(topic, self._now_ms() - KEPT_MS))
        else:
            begins = {partition: max(first, end - TAIL_RECORDS) for partition, (first, end) in bounds.items()}
        if topic == INGEST_KEYS.name:
            for partition, (_, end) in bounds.items():
                ends.setdefault((topic, partition), end)
        positions |= {(topic, partition): offset for partition, offset in begins.items()}

    def _hand_over(self, records: Sequence[Record], positions: dict[Place, int], *, caught_up: bool) -> None:
        """Wait until it is taken: a busy loop must not be buried."""
        assert self._loop is not None  # noqa: S101  # `start` came before
        taken = threading.Event()
        try:
            self._loop.call_soon_threadsafe(self._take, records, dict(positions), caught_up, taken)
        except RuntimeError:
            self._stopping.set()  # the loop is closed
            return
        while not taken.wait(POLL_S) and not self._stopping.is_set():
            pass


def _on(position: int, first: int, end: int) -> int:
    """Where reading goes on after trouble: where it was, unless retention has passed that, or the topic was made anew."""
    return first if position > end else max(position, first)
