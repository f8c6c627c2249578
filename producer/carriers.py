"""The connections that carry a feed's symbols, those of one partition apart from others', so that a broken one holds back its own."""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

import structlog

from klinestream.runtime.config import Config
from klinestream.runtime.sections import ProducerConfig
from producer.connection import Connection, settings_of
from producer.dialect import ConnectionMetrics, Dialect

log = structlog.get_logger()

_PROOF_TICK_S = 0.02


class Carriers:
    """Not for several threads at once, but `connections` is for any."""

    def __init__(
        self,
        config: Config,
        dialect: Callable[[int, Config], Dialect],
        metrics: ConnectionMetrics,
        failures: "SimpleQueue[Exception]",
        stopped: threading.Event,
    ) -> None:
        """Nothing is carried yet. `dialect` makes that of a partition's connections; what follows the symbols does so already."""
        self.config = config
        """What further connections are made with."""
        self._dialect = dialect
        self._metrics = metrics
        self._failures = failures
        self._stopped = stopped
        self._connections: dict[int, list[Connection]] = defaultdict(list)
        self._numbers: dict[int, Iterator[int]] = defaultdict(itertools.count)

    @property
    def connections(self) -> list[Connection]:
        """All that are kept up."""
        return [connection for mine in list(self._connections.values()) for connection in list(mine)]

    def carry(self, partition: int, symbols: list[str]) -> None:
        """Put symbols on the connections of their partition as far as there is room, and open further ones."""
        left = list(symbols)
        for connection in self._connections[partition]:
            taken, left = left[: connection.room], left[connection.room :]
            if taken:
                connection.change(taken, ())
        most = self.config.producer.streams_per_connection
        while left:
            taken, left = left[:most], left[most:]
            self._open(partition, taken, self.config)

    def drop(self, symbols: Iterable[str]) -> None:
        """Carry symbols no longer."""
        gone = set(symbols)
        for partition, connections in list(self._connections.items()):
            for connection in list(connections):
                self._take_from(partition, connection, connection.symbols & gone)

    def renew(self, config: Config) -> bool | None:
        """Move symbols of one partition to a connection with these settings; None if all have them, False if they had to stay."""
        former = self._made_otherwise(config)
        return None if former is None else self._renew(*former, config)

    def stop(self) -> None:
        """Ask all to end."""
        for connection in self.connections:
            connection.stop()

    def _take_from(self, partition: int, connection: Connection, symbols: set[str]) -> None:
        """Let a connection carry some symbols no longer; one that has none left ends."""
        if symbols:
            connection.change((), symbols)
        if not connection.symbols:
            connection.stop()
            self._connections[partition].remove(connection)
            self._metrics.data_age.remove(connection.label)

    def _made_otherwise(self, config: Config) -> tuple[int, list[Connection]] | None:
        """Connections of a partition that have other settings than these; None if there are none anywhere."""
        settings = settings_of(config.exchange, config.producer)
        for partition, connections in self._connections.items():
            former = [connection for connection in connections if connection.made_with != settings]
            if former:
                return partition, former
        return None

    def _renew(self, partition: int, former: list[Connection], config: Config) -> bool:
        """Move as many symbols as one connection may carry from former ones to a new one; False if they had to stay."""
        symbols = [symbol for connection in former for symbol in sorted(connection.symbols)][: config.producer.streams_per_connection]
        new = self._open(partition, symbols, config)
        proved = self._proves_itself(new, config.producer)
        for connection in former if proved else (new,):
            self._take_from(partition, connection, connection.symbols & set(symbols))
        self._metrics.hand_overs.labels("proved" if proved else "kept").inc()
        log.info("connection renewed" if proved else "connection kept", connection=new.label, symbols=len(symbols))
        return proved

    def _proves_itself(self, new: Connection, config: ProducerConfig) -> bool:
        """Wait until every symbol that is fresh now has gone on, without a gap, with a record that the new connection delivered."""
        ages, until_s = new.ages_s(), time.monotonic() + config.hand_over_s
        fresh = {symbol for symbol in new.symbols if ages.get(symbol, config.stall_s) < config.stall_s}
        while not fresh <= new.proved:
            if time.monotonic() >= until_s or self._stopped.wait(_PROOF_TICK_S):
                return False
        return True

    def _open(self, partition: int, symbols: list[str], config: Config) -> Connection:
        connection = Connection(
            f"{partition}.{next(self._numbers[partition])}",
            symbols,
            dialect=self._dialect(partition, config),
            config=config.producer,
            made_with=settings_of(config.exchange, config.producer),
            metrics=self._metrics,
            failures=self._failures,
        )
        self._connections[partition].append(connection)
        self._metrics.data_age.labels(connection.label).set_function(connection.age_s)
        connection.start()
        return connection
