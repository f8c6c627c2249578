"""What a model's process counts."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from klinestream.market.events import Prediction
from klinestream.models.live import Counts, Live


class ModelMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"klinestream_model_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"klinestream_model_{name}", meaning, registry=self.registry)

        self.predictions = counter("predictions", "Predictions published")
        self.passed = counter("records_passed_over", "Records of indicators that led to nothing, and why", "reason")
        self.unreadable = counter("unreadable", "Records that are no indicators, written to crypto_dead_letters")
        self.reconnects = counter("reconnects", "Times that the connection to Kafka was made anew after trouble")
        self.newest = gauge("newest_open_time_ms", "Open time of the newest candle that something was said of")
        self.took = gauge("last_round_seconds", "How long the last records took, until their predictions were acknowledged")
        self.held = gauge("records_held", "Records that are held, since a symbol hears others")
        self._counts, self._told = Counts(), Counts()
        for reason in Counts.__slots__:
            self.passed.labels(reason)

    def follow(self, live: Live) -> None:
        """Count what becomes of its records from now on."""
        self._counts, self._told = live.counts, Counts()
        self.held.set_function(lambda: len(live))

    def round(self, predictions: Sequence[Prediction], took_s: float) -> None:
        """Some records were taken."""
        self.predictions.inc(len(predictions))
        self.took.set(took_s)
        if predictions:
            self.newest.set(max(one.open_time_ms for one in predictions))
        for reason in Counts.__slots__:
            count = getattr(self._counts, reason)
            self.passed.labels(reason).inc(count - getattr(self._told, reason))
            setattr(self._told, reason, count)
