"""What the archive counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ArchiveMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_archive_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str, *labels: str) -> Gauge:
            return Gauge(f"klinestream_archive_{name}", meaning, labels, registry=self.registry)

        self.records = counter("records", "Records that stand in files", "topic")
        self.files = counter("files", "Files written", "topic")
        self.bytes = counter("bytes", "Bytes of the files written", "topic")
        self.compacted = counter("files_compacted", "Small files that became part of larger ones")
        self.lost = counter("offsets_lost", "Offsets that the broker had dropped before they were read", "topic")
        self.reconnects = counter("reconnects", "Times that the connection to Kafka was made anew after trouble")
        self.waiting = gauge("records_waiting", "Records that stand in no file yet")
        self.waiting_bytes = gauge("bytes_waiting", "About as many bytes of them")
        self.oldest = gauge("oldest_waiting_seconds", "How long the oldest of them waits")
        self.write = gauge("last_write_seconds", "How long the last file took")
