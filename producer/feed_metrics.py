"""What a feed's process counts; the same for every feed."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from producer.metrics import LATENCY_BUCKETS_S, LATENCY_SAMPLE
from producer.tallies import Tallies, Tally


class FeedMetrics:
    """A feed's metrics in a registry of their own; each one's help text says what it counts."""

    def __init__(self, feed: str, source: str) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_feed_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"klinestream_feed_{name}", meaning, labels, registry=self.registry)

        self._acknowledged = 0
        self._tallies = Tallies("klinestream_feed", "records")
        self.registry.register(self._tallies)
        gauge("info", "Which feed this is: 1", "feed", "source").labels(feed, source).set(1)
        self.passed = counter("frames_passed_over", "Sound frames with nothing to publish", "kind")
        self.repeats = counter("repeats", "Entries published or held already (duplicate), or given up (stale)", "kind")
        self.withheld = counter("records_withheld", "Records that were due and not published, by reason", "reason")
        self.ledger = counter("ledger_entries", "Entries of the ledger of ids, by state", "state")
        self.missing = counter("missing_ids", "Ids that were missing when that was noticed")
        self.deferred = counter("deferred_ids", "Ids of those that the feed went on without")
        self.repaired = counter("repair_records", "Records that went to the repairs")
        self.backlog = gauge("backlog_spans", "Deferred spans that are still being fetched")
        self.waiting = gauge("waiting_symbols", "Symbols whose entries are held for missing ones")
        self.rest_answers = counter("rest_answers", "Answers of REST")
        self.rest_retries = counter("rest_retries", "Requests that have to be sent again")
        self.rest_failures = counter("rest_failures", "Requests that got an answer that can't be used")
        self.rest_refused = counter("rest_refused", "Requests not taken, since the queue was full")
        self.rest_waiting = gauge("rest_waiting", "Requests that wait")
        self.rest_weight = gauge("rest_weight", "Weight of REST requests used in this minute")
        self.rest_closed = gauge("rest_closed_seconds", "For how long nothing is sent, since the exchange said so (429, 418)")
        self.checked = counter("checked_items", "Items, such as klines made of what was published, that were held to what REST says")
        self.check_mismatches = counter("check_mismatches", "Fields of those in which REST says something else, twice", "field")
        self.check_put_off = counter("check_put_off", "Comparisons put off, since REST gave no answer to be used")
        self.dead_letters = counter("dead_letters", "Frames that could not be used")
        self.request_errors = counter("request_errors", "Requests that the exchange answered with an error")
        self.reconnects = counter("reconnects", "Connections that ended, by reason", "reason")
        self.hand_overs = counter("hand_overs", "Planned changes from one session to the next, by outcome", "outcome")
        self.stalls = counter("stalled_symbols", "Symbols that were silent while others of their connection spoke")
        self.connections = gauge("connections", "Websockets that are open")
        self.symbols = gauge("symbols", "Symbols that are followed")
        self.queued = gauge("queued_records", "Records that Kafka has not acknowledged yet")
        self.data_age = gauge("data_age_seconds", "Age of the newest record, by connection", "connection")
        self.publish_latency = Histogram(
            "klinestream_feed_publish_latency_seconds",
            f"From publishing a record to Kafka's acknowledgement, of one in {LATENCY_SAMPLE}",
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )

    def acknowledged(self, seconds: float) -> None:
        """A record was acknowledged, so many seconds after it was published; one in `LATENCY_SAMPLE` is observed."""
        self._acknowledged += 1  # a lost update between threads only moves the sample
        if self._acknowledged % LATENCY_SAMPLE == 0:
            self.publish_latency.observe(seconds)

    def tally(self, partition: int) -> Tally:
        """What a partition's lane counts on from now."""
        return self._tallies.of(partition)
