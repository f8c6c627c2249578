"""What the repair process counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class RepairMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str) -> Counter:
            return Counter(f"klinestream_repair_{name}", meaning, registry=self.registry)

        self.klines = counter("klines", "Records of crypto_kline_repairs that were read")
        self.seconds = counter("seconds", "Seconds that were filled or corrected")
        self.windows = counter("windows", "Windows that were published again")
        self.finished = counter("clusters_finished", "Clusters of repairs that were finished")
        self.too_old = counter("clusters_too_old", "Clusters of repairs passed over, since the feed around them is not held any more")
        self.reconnects = counter("reconnects", "Times that the connection to Kafka was made anew after trouble")
        self.waiting = Gauge("klinestream_repair_clusters_waiting", "Clusters of repairs that wait", registry=self.registry)
