"""The producer's process: what it starts, watches and ends."""

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

import structlog

from klinestream.market.errors import ConfigError
from klinestream.market.topics import KLINES
from klinestream.runtime.config import Config
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.kafka import Publisher, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.rest import Rest
from klinestream.runtime.signals import ended_by_signals
from klinestream.runtime.symbol_lists import configured
from klinestream.runtime.weights import Weights
from producer.clock import ClockCheck
from producer.fleet import Fleet
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.reconcile import Reconciler
from producer.tails import Tails
from producer.wanted import Wanted

log = structlog.get_logger()

CLIENT_ID = "klinestream-producer"
COMPONENT = "producer"
# Together below the five seconds in which a part ends.
_JOIN_S = 1.0
_FLUSH_S = 2.0
_NAMED_MOST = 20


def run(config: Config) -> None:
    """Produce until SIGTERM or SIGINT. Raises KlinestreamError if it can't start or go on."""
    with ended_by_signals():
        _produce(config)


def _produce(config: Config) -> NoReturn:
    metrics = Metrics()
    failures: SimpleQueue[Exception] = SimpleQueue()
    stopped = threading.Event()
    with ExitStack() as stack:
        weights = Weights(config.exchange.weight_per_minute)
        metrics.rest_weight.set_function(weights.used)
        metrics.rest_closed.set_function(weights.closed_s)
        rest = stack.enter_context(Rest(config.exchange, weights))
        _check_choice(config, rest.statuses())
        partitions = _partitions(config)
        publisher = open_publisher(config.kafka, CLIENT_ID, metrics.acknowledged)
        stack.callback(publisher.close, _FLUSH_S)
        metrics.queued.set_function(publisher.queued)

        clock = ClockCheck(rest, metrics, config.producer.clock_check_s, stopped)
        clock.start()
        stack.callback(clock.join, _JOIN_S)
        stack.callback(stopped.set)

        name = config.producer.name or f"{socket.gethostname()}:{config.producer.metrics_port}"
        outlet = Outlet(publisher, name, config.exchange.websocket_url, metrics, _now_ms)
        tails = Tails(config.kafka, CLIENT_ID)
        fleet = Fleet(config, partitions, outlet, metrics, tails=tails, weights=weights, now_ms=_now_ms, failures=failures)
        if config.producer.metrics_port:
            faults = _watch(fleet, config.producer.silence_s)
            server = MetricsServer(config.producer.metrics_host, config.producer.metrics_port, metrics.registry, faults)
            stack.callback(server.close)

        outlet.tell(COMPONENT, "started", name)
        stack.callback(_say_goodbye, outlet, publisher, config.kafka.queue_records, name)
        stack.callback(fleet.stop)
        fleet.start()
        wanted = Wanted(config, partial(_change, config, fleet, metrics), failures, weights=weights)
        stack.callback(wanted.stop)
        wanted.start()
        if config.producer.reconcile_s:
            reconciler = Reconciler(config, fleet, outlet, metrics, weights=weights, failures=failures)
            stack.callback(reconciler.stop)
            reconciler.start()
        log.info("producing", name=name, exchange=config.exchange.websocket_url)
        raise failures.get()


def _check_choice(config: Config, statuses: Mapping[str, str]) -> None:
    """A start that could follow nothing at all is a mistake; what is unknown beside others may have been delisted."""
    choice = configured(config.exchange).chosen(statuses)
    if not choice.symbols and choice.unknown:
        raise ConfigError(
            "exchange.symbols: expected symbols that the exchange lists, upper case, patterns, or * alone; "
            f"got {', '.join(choice.unknown[:_NAMED_MOST])}"
        )


def _change(config: Config, fleet: Fleet, metrics: Metrics, added: list[str], removed: list[str], _reasons: dict[str, str]) -> None:
    """Follow other symbols from now on. Raises BrokerError; then nothing is changed but what can be asked for again."""
    fleet.forget(removed)
    if added:
        fleet.follow(added, read_ledger(config.kafka))
    metrics.symbols.inc(len(added) - len(removed))


def _partitions(config: Config) -> int:
    """How many partitions the topic of klines has: the brokers' word, since a symbol's place depends on it."""
    reader = open_reader(config.kafka, CLIENT_ID)
    try:
        return len(reader.partitions(KLINES.name))
    finally:
        reader.close()


def _watch(fleet: Fleet, silence_s: float) -> Callable[[], list[str]]:
    """What tells which connection's data is too old."""

    def faults() -> list[str]:
        ages = {connection.label: connection.age_s() for connection in fleet.connections}
        # Noticing silence takes silence_s, mending it about a second.
        return [f"connection {label}: newest kline is {age:.1f} s old" for label, age in ages.items() if age > silence_s + 2]

    return faults


def _say_goodbye(outlet: Outlet, publisher: Publisher, queue_records: int, name: str) -> None:
    """Publish that the producer stops, unless that would wait for a broker that is away."""
    if publisher.queued() < queue_records:
        outlet.tell(COMPONENT, "stopped", name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
