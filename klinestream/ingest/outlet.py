"""Records on their way to Kafka, each request's apart: the event loop hands them over, a thread publishes, acknowledgements come back.

```
 loop     send(records) ─► queue ─► thread: publish, publish, …           one thread: records stand in the order in which they came
 future ◄──────────────────────────────┴─ client: settled, settled, … ◄── brokers, in batches over all requests
```
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from klinestream.market.errors import BrokerError, DeliveryError
from klinestream.runtime.kafka import Publisher, Record

log = structlog.get_logger()

LOOK_S = 0.2
"""How soon a client that has lost something is replaced while nothing is posted: until then we are not ready."""
Places = list[tuple[int, int]]
"""Partition and offset of each record."""


class Delivery:
    """The records of one request, until each is acknowledged or lost. Thread-safe."""

    def __init__(self, records: Sequence[Record], told: Callable[["Delivery"], None]) -> None:
        """`told` is called once, from whatever thread brings the last word."""
        self.records = records
        self.places: Places = [(-1, -1)] * len(records)
        self.lost = ""
        self._left = len(records)
        self._told = told
        self._lock = threading.Lock()

    def settled(self, number: int, error: str | None, partition: int, offset: int) -> None:
        """A record is acknowledged, or lost."""
        with self._lock:
            self.places[number] = (partition, offset)
            self.lost = self.lost or error or ""
            self._left -= 1
            last = not self._left
        if last:
            self._told(self)


class Outlet:
    """Publishes deliveries one after the other. A client that has lost a record is replaced: it may lose all that follow too."""

    def __init__(self, open_publisher: Callable[[], Publisher], broken: Callable[[Exception], None] = lambda _: None) -> None:
        """`open_publisher` may raise BrokerError, and is called again then; `broken` is called if anything else ends the thread."""
        self._open = open_publisher
        self._broken = broken
        self._queue: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
        self._publisher: Publisher | None = None
        self._fit = True
        self._connected = threading.Event()

    @property
    def connected(self) -> bool:
        """Whether there is a publisher that has lost nothing."""
        return self._connected.is_set() and self._fit

    def start(self) -> None:
        """Connect, and begin to publish."""
        self._thread.start()

    def send(self, records: Sequence[Record]) -> "asyncio.Future[Places]":
        """Hand records over; the future has their places when all are acknowledged, or raises DeliveryError. In a loop's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Places] = loop.create_future()
        future.add_done_callback(_seen)
        self._queue.put(Delivery(records, partial(_tell, loop, future)))
        return future

    def stop(self, timeout_s: float) -> None:
        """Publish what was handed over, wait for the acknowledgements, and disconnect."""
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._publisher is not None:
            _close(self._publisher, timeout_s)

    def _run(self) -> None:
        try:
            self._publish_all()
        except Exception as error:  # whatever it is: nothing is published any more, and somebody has to know
            log.exception("publishing ended")
            self._fit = False
            self._broken(error)

    def _publish_all(self) -> None:
        while True:
            self._connect()
            try:
                delivery = self._queue.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if delivery is None:
                return
            self._connect()  # something may have been lost since
            self._publish(delivery)

    def _connect(self) -> None:
        while self._publisher is None or not self._fit:
            if self._publisher is not None:
                _close(self._publisher, 0.1)
                self._publisher = None
            try:
                self._publisher, self._fit = self._open(), True
                self._connected.set()
            except BrokerError as error:
                log.warning("no publisher yet", reason=str(error))

    def _publish(self, delivery: Delivery) -> None:
        publisher = self._publisher
        assert publisher is not None  # noqa: S101  # `_connect` came before
        for number, record in enumerate(delivery.records):
            try:
                publisher.publish(record, partial(self._settled, delivery, number))
            except DeliveryError as error:
                # The client took none of the rest: what is told of each is ours to say.
                log.error("records refused", topic=record.topic, reason=str(error))
                self._fit = False
                for rest in range(number, len(delivery.records)):
                    delivery.settled(rest, str(error), -1, -1)
                return

    def _settled(self, delivery: Delivery, number: int, error: str | None, partition: int, offset: int) -> None:
        if error is not None and self._fit:
            log.error("record lost", topic=delivery.records[number].topic, reason=error)
            self._fit = False
        delivery.settled(number, error, partition, offset)


def _tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Places]", delivery: Delivery) -> None:
    try:
        loop.call_soon_threadsafe(_finish, future, delivery)
    except RuntimeError:
        log.warning("nobody waits any more", records=len(delivery.records))  # the loop is closed


def _finish(future: "asyncio.Future[Places]", delivery: Delivery) -> None:
    if future.done():
        return
    if delivery.lost:
        future.set_exception(DeliveryError(delivery.lost))
    else:
        future.set_result(delivery.places)


def _seen(future: "asyncio.Future[Places]") -> None:
    """A loss that nobody waits for any more is logged already."""
    if not future.cancelled():
        future.exception()


def _close(publisher: Publisher, timeout_s: float) -> None:
    try:
        publisher.close(timeout_s)
    except BrokerError as error:
        log.warning("publisher didn't close cleanly", reason=str(error))
