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
        self.candle_records = counter("candle_records", "Records of crypto_candle_history that were read")
        self.candles = counter("candles", "Candles that were corrected")
        self.indicators = counter("indicators", "Records of indicators that were published again")
        self.aggregates = counter("aggregates", "Records of aggregates that were published again")
        self.signals_fired = counter("signals_fired", "Signals that corrected candles led to")
        self.signals_withdrawn = counter("signals_withdrawn", "Signals that were withdrawn")
        self.candles_finished = counter("candle_clusters_finished", "Clusters of candles that were looked at to the end")
        self.candles_too_old = counter(
            "candle_clusters_too_old", "Clusters of candles passed over, since the candles around them are not held any more"
        )
        self.candles_waiting = Gauge("klinestream_repair_candle_clusters_waiting", "Clusters of candles that wait", registry=self.registry)

    def count_candles(self, indicators: int, aggregates: int, fired: int, withdrawn: int) -> None:
        """Records that were published again after corrected candles."""
        self.indicators.inc(indicators)
        self.aggregates.inc(aggregates)
        self.signals_fired.inc(fired)
        self.signals_withdrawn.inc(withdrawn)
