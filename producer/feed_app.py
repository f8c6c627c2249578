"""The process of one feed: what it starts, watches and ends."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import NoReturn

import structlog

from klinestream.market.errors import ConfigError
from klinestream.market.events import BINANCE
from klinestream.market.selection import Selection
from klinestream.market.topics import Topic
from klinestream.runtime.config import Config
from klinestream.runtime.gap_ledger import read_id_ledger
from klinestream.runtime.kafka import Publisher, open_publisher, open_reader
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.rest import Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.signals import ended_by_signals
from klinestream.runtime.symbol_lists import checked_name, configured
from klinestream.runtime.weights import Weights
from producer.dialect import shown
from producer.feed_check import FeedCheck
from producer.feed_fleet import FeedFleet
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.catalogue import FEEDS
from producer.feeds.interface import Comparable, Feed
from producer.parts import check_choice
from producer.wanted import Listed, Wanted, exchange_list, names_of

log = structlog.get_logger()

_FLUSH_S = 2.0  # with what else is waited for, below the five seconds in which a part ends


def run(config: Config, name: str) -> None:
    """Run the feed of that name until SIGTERM or SIGINT. Raises KlinestreamError if it can't start or go on."""
    make = FEEDS.get(name)
    if make is None:
        raise ConfigError(f"expected a feed, one of {', '.join(FEEDS)}, got {name!r}")
    run_feed(config, make(config))


def run_feed(config: Config, feed: Feed) -> None:
    """Run a feed until SIGTERM or SIGINT."""
    with ended_by_signals(), ExitStack() as stack:
        _run(config, feed, stack)


def _run(config: Config, feed: Feed, stack: ExitStack) -> NoReturn:
    settings, component, client_id = feed.settings, f"feed {feed.name}", f"klinestream-{feed.name}"
    metrics, failures = FeedMetrics(feed.name, feed.source), SimpleQueue[Exception]()
    weights = Weights(config.exchange.weight_per_minute)
    metrics.rest_weight.set_function(weights.used)
    metrics.rest_closed.set_function(weights.closed_s)
    _check(config, feed, weights)
    partitions = _partitions(config, feed.topic, client_id)
    publisher = open_publisher(config.kafka, client_id, metrics.acknowledged)
    stack.callback(publisher.close, _FLUSH_S)
    metrics.queued.set_function(publisher.queued)

    name = config.producer.name or f"{socket.gethostname()}:{settings.metrics_port}"
    outlet = FeedOutlet(publisher, feed.name, name, shown(feed.url()), metrics, _now_ms)
    fleet = FeedFleet(config, feed, partitions, outlet, metrics, client_id=client_id, weights=weights, now_ms=_now_ms, failures=failures)
    if settings.metrics_port:
        server = MetricsServer(settings.metrics_host, settings.metrics_port, metrics.registry, _watch(config, feed, fleet))
        stack.callback(server.close)
    outlet.tell(component, "started", name)
    stack.callback(_say_goodbye, outlet, publisher, config.kafka.queue_records, component, name)
    stack.callback(fleet.stop)
    fleet.start()
    wanted = Wanted(
        config,
        partial(_change, config, fleet, metrics),
        failures,
        weights=weights,
        venue=feed.source,
        selection=partial(selection_of, feed),
        listed=_listed(feed),
    )
    stack.callback(wanted.stop)
    wanted.start()
    if isinstance(feed, Comparable) and config.producer.reconcile_s:
        check = FeedCheck(config, feed, fleet, metrics, weights, failures)
        stack.callback(check.stop)
        check.start()
    log.info("feeding", feed=feed.name, name=name, venue=shown(feed.url()), topic=feed.topic.name)
    raise failures.get()


def selection_of(feed: Feed, exchange: ExchangeConfig) -> Selection:
    """What the configuration says of a feed's symbols: its own names, or those of [exchange]. Raises ConfigError."""
    own = tuple(checked_name(name, f"{feed.name}.symbols") for name in feed.settings.symbols)
    if feed.source != BINANCE:
        return Selection(own)
    selection = configured(exchange)
    return Selection(own, selection.unwanted) if own else selection


def _listed(feed: Feed) -> Listed:
    return exchange_list if feed.source == BINANCE else partial(names_of, feed.settings.symbols)


def _check(config: Config, feed: Feed, weights: Weights) -> None:
    """Raise ConfigError for what could follow nothing."""
    selection = selection_of(feed, config.exchange)
    if feed.source == BINANCE:
        with Rest(config.exchange, weights) as rest:
            check_choice(selection, rest.statuses())


def _change(config: Config, fleet: FeedFleet, metrics: FeedMetrics, added: list[str], removed: list[str], _reasons: dict[str, str]) -> None:
    """Follow other symbols from now on. Raises BrokerError; then nothing is changed but what can be asked for again."""
    fleet.forget(removed)
    if added:
        fleet.follow(added, read_id_ledger(config.kafka))
    metrics.symbols.inc(len(added) - len(removed))


def _partitions(config: Config, topic: Topic, client_id: str) -> int:
    reader = open_reader(config.kafka, client_id)
    try:
        return len(reader.partitions(topic.name))
    finally:
        reader.close()


def _watch(config: Config, feed: Feed, fleet: FeedFleet) -> Callable[[], list[str]]:
    """What tells which connection is silent, or whether entries are held for long."""
    # Where silence is normal it takes a ping and its answer to know; noticing and mending takes about two seconds more.
    most_s = config.producer.silence_s * (2 if feed.settings.sparse else 1) + 2

    def faults() -> list[str]:
        silent = [(one.label, one.quiet_s) for one in fleet.connections]
        return [f"connection {label}: nothing heard for {quiet_s:.1f} s" for label, quiet_s in silent if quiet_s > most_s]

    return faults


def _say_goodbye(outlet: FeedOutlet, publisher: Publisher, queue_records: int, component: str, name: str) -> None:
    """Publish that the feed stops, unless that would wait for a broker that is away."""
    if publisher.queued() < queue_records:
        outlet.tell(component, "stopped", name)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
