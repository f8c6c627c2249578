"""The server's metrics for Prometheus, in a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from server.distribution import Distribution

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Every metric of one server."""

    def __init__(self, started_ms: int) -> None:
        """Start all at zero, at this time."""
        self._newest_end_ms = started_ms
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        name = "klinestream_server_{}".format
        self.clients = Gauge(name("clients"), "Websocket clients", registry=self.registry)
        self.refused = Counter(name("clients_refused"), "Websocket clients refused", ["reason"], registry=self.registry)
        self.closed = Counter(name("clients_closed"), "Websocket clients closed by the server", ["reason"], registry=self.registry)
        self.read = Counter(name("windows_read"), "Windows read from the topic", registry=self.registry)
        self.repeated = Counter(name("windows_repeated"), "Windows that brought nothing new", registry=self.registry)
        self.rejected = Counter(name("records_rejected"), "Records that are not windows", registry=self.registry)
        self.sent = Counter(name("updates_sent"), "Updates sent, summed over clients", registry=self.registry)
        self.conflated = Counter(
            name("windows_conflated"), "Windows, and records of other kinds, left out for slow clients", registry=self.registry
        )
        self.encode_seconds = Histogram(
            name("encode_seconds"),
            "Time to hold a batch, encode its updates once and queue them for all clients",
            registry=self.registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.published_to_sent_seconds = Distribution(
            name("published_to_sent_seconds"),
            "From a window's published_ms to its hand-over to a client's socket",
            _LATENCY_BUCKETS,
            self.registry,
        )
        self.end_to_sent_seconds = Distribution(
            name("window_end_to_sent_seconds"),
            "From a window's end to its hand-over to a client's socket; below zero counts as zero",
            _LATENCY_BUCKETS,
            self.registry,
        )
        self.close_to_held_seconds = Histogram(
            name("kline_close_to_held_seconds"),
            "From the close of a batch's newest kline to its windows being here, whether anybody looks at them or not",
            registry=self.registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.data_age_seconds = Gauge(
            name("data_age_seconds"), "Now less the end of the newest window; before there is one, since the start", registry=self.registry
        )
        self.symbols = Gauge(name("symbols"), "Symbols with a window in the history", registry=self.registry)
        self.lag = Gauge(name("lag_records"), "Records in the topic that were not read yet", ["partition"], registry=self.registry)
        self.reconnects = Counter(name("broker_reconnects"), "Times the reader was opened anew", registry=self.registry)
        self.store_records = Counter(name("store_records"), "Candles, indicators and signals read", ["topic"], registry=self.registry)
        self.store_rejected = Counter(
            name("store_rejected"),
            "Records the store has no use or no room for",
            ["topic"],
            registry=self.registry,
        )
        self.store_lag = Gauge(
            name("store_lag_records"), "Records that the store has not read yet", ["topic", "partition"], registry=self.registry
        )
        self.requests = Counter(name("http_requests"), "REST requests", ["route", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            name("http_request_seconds"), "Time to answer a REST request", ["route"], registry=self.registry, buckets=_LATENCY_BUCKETS
        )

    def show_history(self, newest_end_ms: int | None, symbols: int, now_ms: int) -> None:
        """Set what is only known when somebody looks."""
        if newest_end_ms is not None:
            self._newest_end_ms = newest_end_ms
        # Without a window the age grows on from the last one, or from the start: who holds nothing must not look fresh.
        self.data_age_seconds.set((now_ms - self._newest_end_ms) / 1000)
        self.symbols.set(symbols)
