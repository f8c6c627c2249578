"""The configuration, read again while the producer runs: what can change at once, what needs a restart, and what is refused.

SIGHUP ─► read again ─┬─► faulty: logged, the former one goes on
                      ├─► keys of a restart: logged, the former values go on
                      └─► the others: applied; where connections could not be renewed their keys stay as they were, to be tried again
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import structlog

from klinestream.market.errors import ConfigError, KlinestreamError
from klinestream.runtime.config import Config
from klinestream.runtime.sections import Section
from producer.metrics import Metrics

log = structlog.get_logger()

_OURS = ("kafka", "exchange", "producer", "candles", "log")
_OF_CONNECTIONS = {
    "exchange": frozenset({"websocket_url", "fallback_websocket_url"}),
    "producer": frozenset({"streams_per_connection", "session_s", "silence_s", "stall_s", "hand_over_s"}),
}
_APPLIED = {
    "exchange": _OF_CONNECTIONS["exchange"]
    | {"rest_url", "fallback_rest_url", "symbols", "symbols_file", "unwanted", "unwanted_file", "refresh_s"},
    "producer": _OF_CONNECTIONS["producer"] | {"hold_s", "priority_symbols"},
}
_URLS = ("websocket_url", "rest_url")


@dataclass(frozen=True, slots=True)
class Change:
    """What another configuration changes of the one in force."""

    config: Config
    """To be in force from now on."""
    applied: tuple[str, ...]
    """Keys that change now, as `section.key`."""
    restart: tuple[str, ...]
    """Keys whose former values stay until a restart."""


def change(former: Config, read: Config) -> Change:
    """What of `read` can be applied over `former`. Raises ConfigError if it must not be."""
    for key in _URLS:
        _check_kind(key, getattr(former.exchange, key), getattr(read.exchange, key))
    differing = {(section, key) for section in _OURS for key in _differing(getattr(former, section), getattr(read, section))}
    applied = {(section, key) for section, key in differing if key in _APPLIED.get(section, ())}
    # Its files may say something else though no key has changed: a new object makes everybody read them again.
    exchange = former.exchange.model_copy(update=_values(read.exchange, _APPLIED["exchange"]))
    producer = former.producer.model_copy(update=_values(read.producer, _APPLIED["producer"]))
    config = former.model_copy(update={"exchange": exchange, "producer": producer})
    return Change(config, _named(applied), _named(differing - applied))


def with_former_connections(config: Config, former: Config) -> Config:
    """A configuration with the former one's keys for what connections are made with."""
    sections: dict[str, Section] = {"exchange": former.exchange, "producer": former.producer}
    return config.model_copy(
        update={
            name: getattr(config, name).model_copy(update=_values(section, _OF_CONNECTIONS[name])) for name, section in sections.items()
        }
    )


class Reloader(threading.Thread):
    """Waits for `asked` to say True, and then reads and applies the configuration, until `stop`.

    An error that nothing mends goes to `failures` and ends it.
    """

    def __init__(
        self,
        config: Config,
        asked: "SimpleQueue[bool]",
        read: Callable[[], Config],
        check: Callable[[Config], None],
        apply: Callable[[Config], bool],
        *,
        metrics: Metrics,
        failures: "SimpleQueue[Exception]",
    ) -> None:
        """`read` and `check` raise ConfigError for what can't be used; `apply` returns False if connections stay as they are."""
        super().__init__(name="reload", daemon=True)
        self._config = config
        self._asked = asked
        self._read = read
        self._check = check
        self._apply = apply
        self._metrics = metrics
        self._failures = failures
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask it to end; what it applies just now ends with those whom it is applied to."""
        self._stopped.set()
        self._asked.put(False)

    def run(self) -> None:
        """The thread's work."""
        try:
            while self._asked.get() and not self._stopped.is_set():
                self._metrics.reloads.labels(self._reload()).inc()
        except Exception as error:
            self._failures.put(error)

    def _reload(self) -> str:
        try:
            found = change(self._config, self._read())
            self._check(found.config)
        except KlinestreamError as error:
            log.error("configuration not reloaded, the former one goes on", reason=str(error))
            return "refused"
        if found.restart:
            log.warning("changed keys need a restart, their former values go on", keys=", ".join(found.restart))
        applied = self._apply(found.config)
        self._config = found.config if applied else with_former_connections(found.config, self._config)
        if applied:
            log.info("configuration reloaded", keys=", ".join(found.applied) or "none")
        elif not self._stopped.is_set():
            log.error(
                "configuration reloaded but for the connections: a new one was not proved, the former ones go on; "
                "check exchange.websocket_url, and send SIGHUP again",
                keys=", ".join(found.applied),
            )
        return "applied" if applied else "without_connections"


def _check_kind(key: str, former: str, read: str) -> None:
    """The exchange speaks wss and https alone, a stand-in ws and http: klines of both must never mix in one topic."""
    before, now = former.partition(":")[0], read.partition(":")[0]
    if before != now:
        raise ConfigError(
            f"exchange.{key}: expected {before}:// as before, got {read!r}: a stand-in's klines and the exchange's must not mix, "
            "start a producer of the other on topics of its own"
        )


def _differing(former: Section, read: Section) -> list[str]:
    return [key for key in type(former).model_fields if getattr(former, key) != getattr(read, key)]


def _values(section: Section, keys: frozenset[str]) -> Mapping[str, Any]:
    return {key: getattr(section, key) for key in keys}


def _named(keys: set[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(sorted(f"{section}.{key}" for section, key in keys))
