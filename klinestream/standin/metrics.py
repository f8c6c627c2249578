"""What the stand-in counts, for Prometheus and for its status."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """Counters of one stand-in, in a registry of their own so that several can live in one process."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self.connections = Gauge("standin_connections", "Open websockets", registry=self.registry)
        self.subscriptions = Gauge("standin_subscriptions", "Subscriptions by kind of stream", ["kind"], registry=self.registry)
        self.frames = Counter("standin_frames_sent", "Frames sent by kind of stream", ["kind"], registry=self.registry)
        self.bytes = Counter("standin_bytes_sent", "Bytes sent on websockets", registry=self.registry)
        self.closed = Counter("standin_connections_closed", "Connections ended by us, by reason", ["reason"], registry=self.registry)
        self.late_ms = Gauge("standin_step_late_ms", "How late the newest step began", registry=self.registry)
        self.requests = Counter("standin_rest_requests", "REST requests by path and status", ["path", "status"], registry=self.registry)

    def frames_sent(self) -> dict[str, int]:
        """Frames sent so far, by kind of stream; kinds of which none was sent are left out."""
        samples = [sample for metric in self.frames.collect() for sample in metric.samples if sample.name.endswith("_total")]
        return {sample.labels["kind"]: int(sample.value) for sample in samples}
