"""What of the producer runs on when its configuration is read again."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from klinestream.market.errors import ConfigError
from klinestream.market.selection import Selection
from klinestream.runtime.config import Config
from klinestream.runtime.rest import Rest
from klinestream.runtime.symbol_lists import configured
from klinestream.runtime.watched import Watched
from klinestream.runtime.weights import Weights
from producer.clock import ClockCheck
from producer.fleet import Fleet
from producer.history import History
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.reconcile import Reconcilers
from producer.wanted import Wanted

_JOIN_S = 1.0  # with all others below the five seconds in which a part ends
_NAMED_MOST = 20


class Clock:
    """The comparison with the clock of the exchange that is configured now."""

    def __init__(self, metrics: Metrics, weights: Weights) -> None:
        self._metrics = metrics
        self._weights = weights
        self._running = ExitStack()

    def start(self, config: Config) -> None:
        """Compare from now on with this exchange's."""
        self.stop()
        stopped = threading.Event()
        rest = self._running.enter_context(Rest(config.exchange, self._weights))
        check = ClockCheck(rest, self._metrics, config.producer.clock_check_s, stopped)
        check.start()
        self._running.callback(check.join, _JOIN_S)
        self._running.callback(stopped.set)

    def stop(self) -> None:
        """Compare no longer."""
        self._running.close()


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, and may be given another configuration."""

    outlet: Outlet
    fleet: Fleet
    wanted: Wanted
    watched: Watched
    clock: Clock
    reconciler: Reconcilers | None
    history: History | None

    def check(self, config: Config) -> None:
        """Raises ConfigError for what could follow nothing."""
        configured(config.exchange)
        if self.wanted.statuses:
            check_choice(configured(config.exchange), self.wanted.statuses)

    def reconfigure(self, config: Config) -> bool:
        """Go on with another configuration; False if connections had to stay as they were."""
        self.watched.count_always(config.producer.priority_symbols)
        renewed = self.fleet.reconfigure(config)
        if renewed:
            self.outlet.reads_from(config.exchange.websocket_url)
        self.wanted.reconfigure(config)
        self.clock.start(config)
        if self.reconciler is not None:
            self.reconciler.reconfigure(config)
        if self.history is not None:
            self.history.reconfigure(config)
        return renewed


def check_choice(selection: Selection, statuses: Mapping[str, str]) -> None:
    """A start that could follow nothing at all is a mistake; what is unknown beside others may have been delisted."""
    choice = selection.chosen(statuses)
    if not choice.symbols and choice.unknown:
        raise ConfigError(
            "exchange.symbols: expected symbols that the exchange lists, upper case, patterns, or * alone; "
            f"got {', '.join(choice.unknown[:_NAMED_MOST])}"
        )
