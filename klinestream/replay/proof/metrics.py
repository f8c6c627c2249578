"""What the proof counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from klinestream.replay.proof.prover import TOPICS, Stretch


class ProofMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_replay_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"klinestream_replay_{name}", meaning, registry=self.registry)

        self.equal = counter("equal", "Records that a replay gives to the last bit", "topic")
        self.different = counter("different", "Records that a replay gives otherwise, or that are on one side only", "topic")
        self.uncompared = counter("uncompared", "Records that could not be compared", "topic")
        self.stretches = counter("stretches", "Stretches of time that were compared")
        self.verified = gauge("verified_to_seconds", "End of the newest stretch that was compared, seconds since 1970")
        self.behind = gauge("behind_seconds", "How long the next stretch has been waiting for its proof")
        self.took = gauge("last_stretch_seconds", "How long the last proof took")
        self.differing = gauge("differing_stretches", "Stretches with a difference since the process began")
        for topic in TOPICS:
            for one in (self.equal, self.different, self.uncompared):
                one.labels(topic)

    def count(self, stretch: Stretch, took_s: float) -> None:
        """A stretch was compared."""
        for topic, compared in stretch.topics.items():
            self.equal.labels(topic).inc(compared.equal)
            self.different.labels(topic).inc(compared.different)
            self.uncompared.labels(topic).inc(sum(compared.uncompared.values()))
        self.stretches.inc()
        self.verified.set(stretch.to_ms / 1000)
        self.took.set(took_s)
        if stretch.different:
            self.differing.inc()
