"""What the PostgreSQL sink counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class PostgresMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_postgres_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"klinestream_postgres_{name}", meaning, labels, registry=self.registry)

        self.records = counter("records", "Records that were stored, or folded into others, or passed over", "table")
        self.rows = counter("rows", "Rows that were new, or better than the ones held", "table")
        self.expired = counter("records_expired", "Records of days that a table no longer keeps", "table")
        self.dead_letters = counter("dead_letters", "Records written to crypto_dead_letters")
        self.lost = counter("offsets_lost", "Offsets that the broker had dropped before they were stored", "topic")
        self.anew = counter("topics_made_anew", "Topics that were found to be others than those stored before", "topic")
        self.failures = counter("failures", "Connections that failed, by what to", "to")
        self.dropped = counter("partitions_dropped", "Partitions dropped because their days were over", "table")
        self.lag = gauge("lag_records", "Records that stand in no table yet", "topic")
        self.oldest = gauge("oldest_unsaved_seconds", "Age of the oldest record that was read and not stored yet")
        self.up = gauge("database_up", "1 while the database takes batches")
        self.stored = gauge("last_stored_seconds", "When the last batch was stored, in seconds since 1970")
        self.seconds = Histogram(
            "klinestream_postgres_batch_seconds",
            "How long the transaction of a batch took",
            registry=self.registry,
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120),
        )
