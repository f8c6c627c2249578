"""Reads candles, indicators, signals and the candles in progress into the store, in a thread of its own.

It begins once the windows are there: the chart never waits for months of candles. Once all that was there is in the
store, what comes is live: it goes into the store first, and then to the event loop as it was read.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import structlog

from klinestream.market.kinds import KIND_OF_TOPIC
from klinestream.market.topics import CANDLES, INDICATORS, PROVISIONAL_CANDLES, SIGNALS
from klinestream.runtime.kafka import Reader, Record
from server.candles.rows import AHEAD_MOST_MS, decode_candles, decode_indicators, decode_signals
from server.candles.store import CandleStore, Table
from server.hand_over import HandOver
from server.health import FeedState
from server.metrics import Metrics
from server.protocol import SYMBOL_MOST_CHARS
from server.reading import Reached, Reading, Starts
from server.stream.items import Decode, items_of
from server.stream.series import Item, Positions

NEWEST = 5000
"""Records of candles in progress read of each partition at the start: one of each symbol, several times over."""
CHUNK = 250
"""Records decoded at once: while the parser works, nothing else in the process does."""

log = structlog.get_logger()


class Live(Protocol):
    """Where live records go; called in the event loop's thread."""

    def void(self) -> None:
        """A topic is read anew: nothing is live until `begin`."""

    def begin(self, positions: Positions, newest_ms: Mapping[str, int]) -> None:
        """All that was there is in the store; what comes next stands at these offsets and after. And the newest time of each topic."""

    def closed(self, items: Sequence[Item], newest_ms: int) -> None:
        """Candles, indicators and signals, in the order in which they were read, and their newest time."""

    def in_progress(self, values: Mapping[str, tuple[int, bytes]]) -> None:
        """The newest candles in progress: symbol → time and record, which nobody has looked into."""


class CandleFeed:
    """Fills a store from the topics' beginnings, then with whatever comes. `state` and `reached` may be read from any thread."""

    def __init__(
        self, open_reader: Callable[[], Reader], store: CandleStore, live: Live, metrics: Metrics, now_ms: Callable[[], int]
    ) -> None:
        """`open_reader` is called again after each trouble with the broker; `now_ms` is the wall clock."""
        self._store = store
        self._live = live
        self._metrics = metrics
        self._now_ms = now_ms
        self._is_live = False
        self._positions: dict[str, dict[int, int]] = {}
        self._newest_ms: dict[str, int] = {}
        topics: dict[str, Starts] = {topic.name: _beginnings(topic.name) for topic in (CANDLES, INDICATORS, SIGNALS)}
        topics[PROVISIONAL_CANDLES.name] = _newest
        self._reading = Reading("candles", open_reader, topics, self)
        self._hand_over = HandOver(self._reading.stopping)
        self._takers: dict[str, tuple[Table, Decode]] = {
            CANDLES.name: (store.candles, lambda values: decode_candles(values, now_ms())),
            INDICATORS.name: (store.indicators, lambda values: decode_indicators(values, now_ms(), store.names)),
            SIGNALS.name: (store.signals, lambda values: decode_signals(values, now_ms())),
        }

    @property
    def state(self) -> FeedState:
        """What the feed knows of itself."""
        return self._reading.state

    @property
    def complete(self) -> bool:
        """All that was in the topics is in the store."""
        return self._reading.complete

    @property
    def reached(self) -> Mapping[str, Reached]:
        """Topic → how far it is read."""
        return self._reading.reached

    def start(self, loop: asyncio.AbstractEventLoop, after: Callable[[], bool]) -> None:
        """Start to read once `after` says so, or after 15 s; what is live goes to `loop`."""
        self._hand_over.to(loop)
        self._reading.start(after)

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._reading.stop(timeout_s)

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:
        """Forget what came from a topic that is another one now: see `reading.Sink`."""
        self._positions[topic] = dict(starts)
        self._newest_ms.pop(topic, None)
        self._is_live = False
        self._hand_over.call(self._live.void)
        if topic in self._takers:
            self._takers[topic][0].clear()

    def take(self, records: Sequence[Record]) -> None:
        """Put records into the store: see `reading.Sink`."""
        self._go_live()
        by_topic: dict[str, list[Record]] = {topic: [] for topic in self._takers}
        in_progress: dict[str, tuple[int, bytes]] = {}
        for record in records:
            self._positions[record.topic][record.partition] = record.offset + 1
            if record.topic in by_topic:
                by_topic[record.topic].append(record)
            elif record.key is not None and record.value is not None and len(record.key) <= SYMBOL_MOST_CHARS:
                symbol = record.key.decode(errors="replace")
                if self._store.put_provisional(symbol, record.timestamp_ms, record.value):
                    in_progress[symbol] = record.timestamp_ms, record.value
        for topic, found in by_topic.items():
            for begin in range(0, len(found), CHUNK):
                self._put(topic, found[begin : begin + CHUNK])
        if in_progress:
            self._saw(PROVISIONAL_CANDLES.name, max(time_ms for time_ms, _ in in_progress.values()))
            if self._is_live:
                self._hand_over.call(self._live.in_progress, in_progress)

    def lag(self, topic: str, partition: int, behind: int) -> None:
        """Show how much is left to read."""
        self._metrics.store_lag.labels(topic, partition).set(behind)
        # Asked for as soon as all is read, even when nothing comes any more.
        self._go_live()

    def reconnecting(self) -> None:
        """Count it."""
        self._metrics.reconnects.inc()

    def _go_live(self) -> None:
        if self._reading.complete and not self._is_live:
            self._is_live = True
            positions = {topic: dict(offsets) for topic, offsets in self._positions.items()}
            self._hand_over.call(self._live.begin, positions, dict(self._newest_ms))

    def _saw(self, topic: str, time_ms: int) -> int:
        """The newest time of a topic, with this one; one that lies far ahead counts as now."""
        newest_ms = max(min(time_ms, self._now_ms() + AHEAD_MOST_MS), self._newest_ms.get(topic, 0))
        self._newest_ms[topic] = newest_ms
        return newest_ms

    def _put(self, topic: str, records: Sequence[Record]) -> None:
        table, decode = self._takers[topic]
        found = decode([record.value for record in records])
        refused = table.put(found.series, found.rows)
        if len(found.rows):
            newest_ms = self._saw(topic, max(record.timestamp_ms for record in records))
            if self._is_live:
                self._hand_over.call(self._live.closed, items_of(KIND_OF_TOPIC[topic], records, found, decode), newest_ms)
        self._metrics.store_records.labels(topic).inc(len(records))
        if found.rejected or refused:
            self._metrics.store_rejected.labels(topic).inc(found.rejected + refused)
            log.warning("records can't be used", topic=topic, unusable=found.rejected, too_many_symbols=refused)


def _beginnings(topic: str) -> Starts:
    return lambda reader: {partition: first for partition, (first, _) in reader.bounds(topic).items()}


def _newest(reader: Reader) -> Mapping[int, int]:
    return {partition: max(first, end - NEWEST) for partition, (first, end) in reader.bounds(PROVISIONAL_CANDLES.name).items()}
