"""What the alerts' process counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from klinestream.runtime.webhook import Fate, Kind


class AlertMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"klinestream_alerts_{name}", meaning, labels, registry=self.registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"klinestream_alerts_{name}", meaning, registry=self.registry)

        self.messages = counter("messages", "Messages by what they tell of and what became of them", ("kind", "fate"))
        self.attempts_failed = counter("attempts_failed", "Attempts to post a message that failed")
        self.repeated = counter("repeated", "Records that said again what was told already")
        self.too_old = counter("signals_too_old", "Signals that were not told, since their candle closed too long ago")
        self.unreadable = counter("unreadable", "Records that are no signal and no gap")
        self.dead_letters = counter("dead_letters", "Records written to crypto_dead_letters")
        self.reconnects = counter("reconnects", "Times that the connection to Kafka was made anew after trouble")
        self.waiting = gauge("waiting", "Messages that wait to be posted")
        self.stale = gauge("data_stale", "1 while the newest kline is older than server.stale_after_s")
        for kind in Kind:
            for fate in Fate:
                self.messages.labels(kind, _label(fate))

    def settled(self, kind: Kind, fate: Fate) -> None:
        """Something became of a message."""
        self.messages.labels(kind, _label(fate)).inc()


def _label(fate: Fate) -> str:
    return fate.name.lower()
