"""The metrics of HTTP ingestion for Prometheus, in a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Every metric of one replica."""

    def __init__(self) -> None:
        """Start all at zero."""
        self.registry = CollectorRegistry()
        name = "klinestream_ingest_{}".format
        self.accepted = Counter(name("records_accepted"), "Posted records that the broker has", ["topic"], registry=self.registry)
        self.late = Counter(name("records_late"), "Accepted records behind a newer one of their symbol", ["topic"], registry=self.registry)
        self.rejected = Counter(name("requests_rejected"), "Requests that were not taken, by reason", ["reason"], registry=self.registry)
        self.replayed = Counter(name("requests_replayed"), "Requests answered as before under their key", registry=self.registry)
        self.waiting = Gauge(name("records_waiting"), "Records that wait for the broker", registry=self.registry)
        self.keys = Gauge(name("keys"), "Idempotency keys that are held", registry=self.registry)
        self.publish_seconds = Histogram(
            name("publish_seconds"),
            "From the hand-over of a request's records to the broker's last acknowledgement",
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            name("request_seconds"), "From a request to its answer", ["route", "status"], buckets=_LATENCY_BUCKETS, registry=self.registry
        )
