"""What a feed's process writes, beside what every producer does: its records, and the ledger of missing ids."""

from collections.abc import Callable

from klinestream.market.codec import encode_event
from klinestream.market.events import IdGap, IdGapState, id_gap_id
from klinestream.market.topics import ID_GAPS, PUBLISHED_HEADER
from klinestream.runtime.kafka import Publisher, Record
from producer.feed_metrics import FeedMetrics
from producer.feeds.interface import Out, Settled
from producer.outlet import SCHEMA, AnyOutlet


class FeedOutlet(AnyOutlet):
    """For one feed. Thread-safe; every method raises DeliveryError if an earlier record was lost."""

    def __init__(  # noqa: PLR0917  # what it tells of itself
        self, publisher: Publisher, feed: str, name: str, source: str, metrics: FeedMetrics, now_ms: Callable[[], int]
    ) -> None:
        """`name` is this process's in the ledger; `source` is what dead letters say of where they came from."""
        super().__init__(publisher, name, source, metrics, now_ms)
        self._feed = feed
        self._metrics = metrics

    def records(self, key: bytes, out: list[Out]) -> None:
        """Records of one symbol, in order."""
        headers = (SCHEMA, (PUBLISHED_HEADER, b"%d" % self._now_ms()))
        for record in out:
            self._publisher.publish(Record(record.topic, key, record.value, record.time_ms, headers))

    def gap(self, symbol: str, settled: Settled) -> None:
        """An entry of the ledger."""
        now_ms = self._now_ms()
        gap = id_gap_id(self._feed, symbol, settled.from_id, settled.to_id)
        entry = IdGap(
            gap,
            self._feed,
            symbol,
            settled.state,
            self._name,
            settled.from_id,
            settled.to_id,
            settled.after_ms,
            settled.before_ms,
            settled.obtained,
            settled.reason,
            now_ms,
        )
        self._send(ID_GAPS.name, symbol, encode_event(entry), now_ms)
        self._metrics.ledger.labels(settled.state.value).inc()
        if settled.state is IdGapState.DETECTED:
            self._metrics.missing.inc(settled.to_id - settled.from_id)
        elif settled.state is IdGapState.DEFERRED:
            self._metrics.deferred.inc(settled.to_id - settled.from_id - settled.obtained)
