"""The producer's process: what it starts, watches and ends."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

import structlog

from klinestream.market.topics import KLINES
from klinestream.runtime.config import Config, read_again
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.kafka import Publisher, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.rest import Rest
from klinestream.runtime.signals import ended_by_signals, told_of_hangups
from klinestream.runtime.symbol_lists import configured
from klinestream.runtime.watched import Watched, WatchedFollower
from klinestream.runtime.weights import Weights
from producer.fleet import Fleet
from producer.history import History
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.parts import Clock, Parts, check_choice
from producer.reconcile import Reconcilers
from producer.reload import Reloader
from producer.tails import Tails
from producer.wanted import Wanted

log = structlog.get_logger()

CLIENT_ID = "klinestream-producer"
COMPONENT = "producer"
# With what else is waited for, below the five seconds in which a part ends.
_FLUSH_S = 2.0
_HISTORY_JOIN_S = 0.2  # what its requests give is not lost: it is asked for again


def run(config: Config) -> None:
    """Produce until SIGTERM or SIGINT; SIGHUP reads the configuration again. Raises KlinestreamError if it can't start or go on."""
    with ended_by_signals(), told_of_hangups() as hangups:
        _produce(config, hangups)


def _produce(config: Config, hangups: "SimpleQueue[bool]") -> NoReturn:
    metrics = Metrics()
    failures: SimpleQueue[Exception] = SimpleQueue()
    with ExitStack() as stack:
        weights = Weights(config.exchange.weight_per_minute)
        metrics.rest_weight.set_function(weights.used)
        metrics.rest_closed.set_function(weights.closed_s)
        with Rest(config.exchange, weights) as rest:
            check_choice(configured(config.exchange), rest.statuses())
        partitions = _partitions(config)
        publisher = open_publisher(config.kafka, CLIENT_ID, metrics.acknowledged)
        stack.callback(publisher.close, _FLUSH_S)
        metrics.queued.set_function(publisher.queued)

        clock = Clock(metrics, weights)
        clock.start(config)
        stack.callback(clock.stop)
        watched = _follow_watched(config, metrics, failures, stack)

        name = config.producer.name or f"{socket.gethostname()}:{config.producer.metrics_port}"
        outlet = Outlet(publisher, name, config.exchange.websocket_url, metrics, _now_ms)
        tails, first = Tails(config.kafka, CLIENT_ID), watched.symbols
        fleet = Fleet(config, partitions, outlet, metrics, tails=tails, weights=weights, now_ms=_now_ms, failures=failures, first=first)
        if config.producer.metrics_port:
            server = MetricsServer(config.producer.metrics_host, config.producer.metrics_port, metrics.registry, _watch(fleet))
            stack.callback(server.close)

        history = _history(config, fleet, outlet, metrics, weights, watched, failures)
        outlet.tell(COMPONENT, "started", name)
        stack.callback(_say_goodbye, outlet, publisher, config.kafka.queue_records, name)
        stack.callback(fleet.stop)
        fleet.start()
        wanted = Wanted(config, partial(_change, config, fleet, metrics), failures, weights=weights)
        stack.callback(wanted.stop)
        wanted.start()
        reconciler = None
        if config.producer.reconcile_s:
            reconciler = Reconcilers(config, fleet, outlet, metrics, weights=weights, failures=failures)
            stack.callback(reconciler.stop)
            reconciler.start()
        parts = Parts(outlet, fleet, wanted, watched, clock, reconciler, history)
        again = partial(read_again, config)
        reloader = Reloader(config, hangups, again, parts.check, parts.reconfigure, metrics=metrics, failures=failures)
        stack.callback(reloader.stop)
        reloader.start()
        if history:
            stack.callback(history.stop, _HISTORY_JOIN_S)
            history.start()
        log.info("producing", name=name, exchange=config.exchange.websocket_url)
        raise failures.get()


def _history(  # noqa: PLR0917  # the parts it connects
    config: Config, fleet: Fleet, outlet: Outlet, metrics: Metrics, weights: Weights, watched: Watched, failures: "SimpleQueue[Exception]"
) -> History | None:
    """What fetches the exchange's candles, if any are wanted. It hears of lost klines from here on, so it is made before any can be."""
    if not config.candles.history:
        return None
    return History(config, fleet.followed, outlet, metrics, weights=weights, watched=watched.symbols, failures=failures)


def _follow_watched(config: Config, metrics: Metrics, failures: "SimpleQueue[Exception]", stack: ExitStack) -> Watched:
    """What somebody looks at, kept up until the stack ends."""
    watched = Watched(config.producer.priority_symbols)
    metrics.watched.set_function(lambda: len(watched.symbols()))
    metrics.watched_passed_over.set_function(lambda: watched.passed_over)
    follower = WatchedFollower(config.kafka, watched, failures)
    stack.callback(follower.stop)
    follower.start()
    return watched


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


def _watch(fleet: Fleet) -> Callable[[], list[str]]:
    """What tells which connection's data is too old."""

    def faults() -> list[str]:
        ages = [(connection, connection.age_s()) for connection in fleet.connections]
        # Noticing silence takes silence_s, mending it about a second.
        return [f"connection {one.label}: newest kline is {age:.1f} s old" for one, age in ages if age > one.silence_s + 2]

    return faults


def _say_goodbye(outlet: Outlet, publisher: Publisher, queue_records: int, name: str) -> None:
    """Publish that the producer stops, unless that would wait for a broker that is away."""
    if publisher.queued() < queue_records:
        outlet.tell(COMPONENT, "stopped", name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
