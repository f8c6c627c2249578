"""What the producer counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from producer.tallies import Tallies, Tally

# To observe each would cost a full market more than to parse it.
LATENCY_SAMPLE = 16
LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """The producer's metrics in a registry of their own; each one's help text says what it counts."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_producer_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"klinestream_producer_{name}", meaning, labels, registry=self.registry)

        self._acknowledged = 0
        self._tallies = Tallies("klinestream_producer", "klines")
        self.registry.register(self._tallies)
        self.passed = counter("frames_passed_over", "Sound frames with nothing to publish: open klines, other intervals", "kind")
        self.repeats = counter("repeats", "Klines of seconds published or held already (duplicate), or given up (stale)", "kind")
        self.gaps = counter("gaps", "Times that a symbol's klines skipped seconds")
        self.missing = counter("missing_klines", "Klines that were missing in those gaps when they were noticed")
        self.refilled = counter("refilled_klines", "Klines of those published in their place after all, by where they came from", "source")
        self.deferred = counter("deferred_klines", "Klines of those that the feed went on without")
        self.repaired = counter("repair_klines", "Klines that went to the repairs: deferred ones, and corrections")
        self.refuted = counter("refuted_answers", "Answers of REST that trade ids contradict; asked again")
        self.doubtful = counter("doubtful_spans", "Spans published from REST that trade ids contradict afterwards, or can't prove any more")
        self.doubts_settled = counter(
            "doubts_settled",
            "Of those: put right by a proved answer (corrected), contradicted by each answer (unexplained), or without a proof (unproved)",
            "outcome",
        )
        self.doubts = gauge("doubts_waiting", "Of those: still to be asked for again")
        self.ledger = counter("ledger_entries", "Entries of the ledger of gaps, by state", "state")
        self.backlog = gauge("backlog_spans", "Deferred spans that are still being fetched")
        self.rest_answers = counter("rest_answers", "Answers of REST with klines")
        self.rest_retries = counter("rest_retries", "Requests for klines that have to be sent again")
        self.rest_failures = counter("rest_failures", "Requests for klines that got an answer that can't be used")
        self.rest_refused = counter("rest_refused", "Requests for klines not taken, since the queue was full")
        self.rest_waiting = gauge("rest_waiting", "Requests for klines that wait")
        self.rest_weight = gauge("rest_weight", "Weight of REST requests used in this minute")
        self.rest_closed = gauge("rest_closed_seconds", "For how long nothing is sent, since the exchange said so (429, 418)")
        self.reconciled = counter(
            "reconciled_klines", "Published klines that were compared with REST's klines, or with its trades", "against"
        )
        self.reconcile_mismatches = counter(
            "reconcile_mismatches", "Fields of those in which REST says something else, twice", "field", "against"
        )
        self.reconcile_repairs = counter("reconcile_repairs", "REST's klines that went to the repairs in place of such ones")
        self.reconcile_put_off = counter(
            "reconcile_put_off", "Comparisons put off: limits or away, quiet after that, or answer that can't be used", "reason"
        )
        self.reconcile_age = gauge("reconcile_age_seconds", "How long ago the symbol that waits longest was compared, or joined")
        self.dead_letters = counter("dead_letters", "Frames that could not be used")
        self.request_errors = counter("request_errors", "Requests that the exchange answered with an error")
        self.reconnects = counter("reconnects", "Connections that ended, by reason", "reason")
        self.hand_overs = counter("hand_overs", "Planned changes from one session to the next, by outcome", "outcome")
        self.stalls = counter("stalled_symbols", "Symbols that were silent while others of their connection spoke")
        self.connections = gauge("connections", "Websockets that are open")
        self.symbols = gauge("symbols", "Symbols that are followed")
        self.watched = gauge("watched_symbols", "Symbols that come first, since somebody looks at them or the configuration says so")
        self.watched_passed_over = gauge("watched_records_passed_over", "Records of watched symbols that could not be used")
        self.reloads = counter("reloads", "Times that the configuration was to be read again, by outcome", "outcome")
        self.queued = gauge("queued_records", "Records that Kafka has not acknowledged yet")
        self.data_age = gauge("data_age_seconds", "Seconds since the close of the newest kline, by connection", "connection")
        self.clock_offset = gauge("clock_offset_seconds", "The exchange's clock less ours")
        self.clock_failures = counter("clock_check_failures", "Comparisons with the exchange's clock that failed")
        self.publish_latency = Histogram(
            "klinestream_producer_publish_latency_seconds",
            f"From publishing a record to Kafka's acknowledgement, of one in {LATENCY_SAMPLE}",
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )
        self.history = HistoryMetrics(counter, gauge)

    def acknowledged(self, seconds: float) -> None:
        """A record was acknowledged, so many seconds after it was published; one in `LATENCY_SAMPLE` is observed."""
        self._acknowledged += 1  # a lost update between threads only moves the sample
        if self._acknowledged % LATENCY_SAMPLE == 0:
            self.publish_latency.observe(seconds)

    def tally(self, partition: int) -> Tally:
        """What a partition's feed counts on from now."""
        return self._tallies.of(partition)


class HistoryMetrics:
    """What is counted of the exchange's own candles."""

    def __init__(self, counter: Callable[..., Counter], gauge: Callable[..., Gauge]) -> None:
        """All at zero; `counter` and `gauge` make one each."""
        self.candles = counter(
            "history_candles", "The exchange's own candles that were published, by interval and reason", "interval", "reason"
        )
        self.retries = counter("history_retries", "Requests for candles that have to be sent again")
        self.needs = gauge("history_needs", "Spans of candles that are needed and not there yet")
        self.oldest_need = gauge("history_oldest_need_seconds", "For how long the oldest of them has been needed")
