"""Reads candles, indicators, signals and the candles in progress into the store, in a thread of its own.

It begins once the windows are there: the chart never waits for months of candles.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from klinestream.market.topics import CANDLES, INDICATORS, PROVISIONAL_CANDLES, SIGNALS
from klinestream.runtime.kafka import Reader, Record
from server.candle_rows import Decoded, decode_candles, decode_indicators, decode_signals
from server.candle_store import CandleStore, Table
from server.health import FeedState
from server.metrics import Metrics
from server.protocol import SYMBOL_MOST_CHARS
from server.reading import Reached, Reading, Starts

WINDOWS_FIRST_MOST_S = 15.0
"""Windows that aren't there by then don't come now: no job runs, or the topic is long."""
LOOK_S = 0.1
NEWEST = 5000
"""Records of candles in progress read of each partition at the start: one of each symbol, several times over."""
CHUNK = 250
"""Records decoded at once: while the parser works, nothing else in the process does."""

log = structlog.get_logger()


class CandleFeed:
    """Fills a store from the topics' beginnings, then with whatever comes. `state` and `reached` may be read from any thread."""

    def __init__(self, open_reader: Callable[[], Reader], store: CandleStore, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        """`open_reader` is called again after each trouble with the broker; `now_ms` is the wall clock."""
        self._store = store
        self._metrics = metrics
        self._starter = threading.Thread(target=self._start_after, name="candles-first", daemon=True)
        self._after: Callable[[], bool] = lambda: True
        topics: dict[str, Starts] = {topic.name: _beginnings(topic.name) for topic in (CANDLES, INDICATORS, SIGNALS)}
        topics[PROVISIONAL_CANDLES.name] = _newest
        self._reading = Reading("candles", open_reader, topics, self)
        self._takers: dict[str, tuple[Table, Callable[[Sequence[bytes | None]], Decoded]]] = {
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

    def start(self, after: Callable[[], bool]) -> None:
        """Start to read once `after` says so, or after 15 s."""
        self._after = after
        self._starter.start()

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._reading.stopping.set()
        self._starter.join(timeout_s)
        self._reading.stop(timeout_s)

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:  # noqa: ARG002  # where it starts doesn't matter
        """Forget what came from a topic that is another one now: see `reading.Sink`."""
        if topic in self._takers:
            self._takers[topic][0].clear()

    def take(self, records: Sequence[Record]) -> None:
        """Put records into the store: see `reading.Sink`."""
        by_topic: dict[str, list[bytes | None]] = {topic: [] for topic in self._takers}
        for record in records:
            if record.topic in by_topic:
                by_topic[record.topic].append(record.value)
            elif record.key is not None and record.value is not None and len(record.key) <= SYMBOL_MOST_CHARS:
                self._store.put_provisional(record.key.decode(errors="replace"), record.timestamp_ms, record.value)
        for topic, values in by_topic.items():
            for begin in range(0, len(values), CHUNK):
                self._put(topic, values[begin : begin + CHUNK])

    def lag(self, topic: str, partition: int, behind: int) -> None:
        """Show how much is left to read."""
        self._metrics.store_lag.labels(topic, partition).set(behind)

    def reconnecting(self) -> None:
        """Count it."""
        self._metrics.reconnects.inc()

    def _start_after(self) -> None:
        for _ in range(round(WINDOWS_FIRST_MOST_S / LOOK_S)):
            if self._after() or self._reading.stopping.wait(LOOK_S):
                break
        if not self._reading.stopping.is_set():
            self._reading.start()

    def _put(self, topic: str, values: Sequence[bytes | None]) -> None:
        table, decode = self._takers[topic]
        found = decode(values)
        refused = table.put(found.series, found.rows)
        self._metrics.store_records.labels(topic).inc(len(values))
        if found.rejected or refused:
            self._metrics.store_rejected.labels(topic).inc(found.rejected + refused)
            log.warning("records can't be used", topic=topic, unusable=found.rejected, too_many_symbols=refused)


def _beginnings(topic: str) -> Starts:
    return lambda reader: {partition: first for partition, (first, _) in reader.bounds(topic).items()}


def _newest(reader: Reader) -> Mapping[int, int]:
    return {partition: max(first, end - NEWEST) for partition, (first, end) in reader.bounds(PROVISIONAL_CANDLES.name).items()}
