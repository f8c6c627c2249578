"""Reads `crypto_order_book` into the store, in a thread of its own, and tells the event loop of each symbol's newest book.

A server without a feed of books runs the same: where the topic lacks, it looks for it again now and then; nothing else waits.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from klinestream.market.errors import RecordError
from klinestream.market.topics import ORDER_BOOK
from klinestream.runtime.kafka import Reader, Record
from server.books.records import Book, book_from
from server.books.store import SPAN_MS, BookStore
from server.hand_over import HandOver
from server.health import FeedState
from server.metrics import Metrics
from server.reading import Reached, Reading

LOOK_AGAIN_S = 30.0
"""Most servers that lack the topic never get one."""

log = structlog.get_logger()


class Live(Protocol):
    """Where live books go; called in the event loop's thread."""

    def books(self, news: Mapping[str, Book]) -> None:
        """The newest books by symbol, which the store holds already."""


class BookFeed:
    """Reads from two minutes before now, then whatever comes. `state` and `reached` may be read from any thread."""

    def __init__(
        self, open_reader: Callable[[], Reader], store: BookStore, live: Live, metrics: Metrics, now_ms: Callable[[], int]
    ) -> None:
        """`open_reader` is called again after each trouble with the broker; `now_ms` is the wall clock."""
        self._store = store
        self._live = live
        self._metrics = metrics
        self._now_ms = now_ms
        self._batch: list[Book] = []
        starts = {ORDER_BOOK.name: lambda reader: reader.offsets_at(ORDER_BOOK.name, now_ms() - SPAN_MS)}
        self._reading = Reading("books", open_reader, starts, self, wait_most_s=LOOK_AGAIN_S)
        self._hand_over = HandOver(self._reading.stopping)

    @property
    def state(self) -> FeedState:
        """What the feed knows of itself."""
        return self._reading.state

    @property
    def reached(self) -> Reached:
        """How far the topic is read."""
        return self._reading.reached[ORDER_BOOK.name]

    def start(self, loop: asyncio.AbstractEventLoop, after: Callable[[], bool]) -> None:
        """Start to read once `after` says so, or after 15 s; findings go to `loop`."""
        self._hand_over.to(loop)
        self._reading.start(after)

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._reading.stop(timeout_s)

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:  # noqa: ARG002  # there is one topic
        """What is held is void: see `reading.Sink`."""
        self._batch = []
        self._hand_over.call(self._store.begin, dict(starts))

    def take(self, records: Sequence[Record]) -> None:
        """Hand books over: see `reading.Sink`."""
        now_ms = self._now_ms()
        for record in records:
            try:
                self._batch.append(book_from(record, now_ms))
            except RecordError as error:
                self._metrics.store_rejected.labels(ORDER_BOOK.name).inc()
                log.warning("record is no order book", partition=record.partition, offset=record.offset, reason=str(error))
        self._metrics.store_records.labels(ORDER_BOOK.name).inc(len(records))
        self._hand_over.call(self._publish, self._batch)

    def lag(self, topic: str, partition: int, behind: int) -> None:
        """Show how much is left to read."""
        self._metrics.store_lag.labels(topic, partition).set(behind)

    def reconnecting(self) -> None:
        """Nothing is counted: a topic that lacks is no trouble."""

    def _publish(self, batch: list[Book]) -> None:
        """In the loop's thread: all that has come by now in one go, of which each symbol's newest is told."""
        books = batch[:]
        del batch[: len(books)]
        news = {book.symbol: book for book in books if self._store.add(book)}
        if news:
            self._live.books(news)
