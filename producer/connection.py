"""One connection to the exchange, kept up: sessions follow each other, where the end is known beforehand without a break.

old session  ──────────────────────────────┤ stopped
new session              ├─ opened ── proved ──────────────   each symbol's series goes on with what it delivers
"""

import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog

from klinestream.runtime.sections import ExchangeConfig, ProducerConfig
from producer.backoff import pauses
from producer.dialect import ConnectionMetrics, Dialect, shown
from producer.session import End, Session

log = structlog.get_logger()

# A connection that lived this long was no part of a failing series: the next one comes at once. Eight connections that all break so
# often stay below the exchange's 300 attempts in five minutes.
_HEALTHY_S = 10.0
_TICK_S = 0.25
_PROOF_TICK_S = 0.02
_REPLACED_EVERY_S = 60.0  # a symbol that stays silent on a new session too is not the connection's fault
_END_S = 5.0  # a session that Kafka blocks ends later
_JITTER = 0.05  # of a session's length: connections opened together must not end together


@dataclass(frozen=True, slots=True)
class _Ended:
    session: Session
    how: End | Exception


@dataclass(frozen=True, slots=True)
class _Retiring:
    session: Session


@dataclass(frozen=True, slots=True)
class _Changed:
    added: tuple[str, ...]
    removed: tuple[str, ...]


class _Stop:
    """The connection is no longer wanted."""


_Event = _Ended | _Retiring | _Changed | _Stop


class Connection(threading.Thread):
    """Carries some symbols of one partition until `stop`; an error that it can't mend goes to `failures` and ends it."""

    def __init__(
        self,
        name: str,
        symbols: Iterable[str],
        *,
        dialect: Dialect,
        config: ProducerConfig,
        made_with: tuple[object, ...] = (),
        metrics: ConnectionMetrics,
        failures: "SimpleQueue[Exception]",
    ) -> None:
        """Who takes what the dialect hears follows the symbols already; `made_with`: see `settings_of`."""
        super().__init__(name=f"connection-{name}", daemon=True)
        self.label = name
        self.symbols = set(symbols)
        """What it carries, or is about to; only `change` alters it."""
        self.made_with = made_with
        self._dialect = dialect
        self._url, self._fallback_url = dialect.manners.url, dialect.manners.fallback_url
        self._config = config
        self._metrics = metrics
        self._failures = failures
        self._events: SimpleQueue[_Event] = SimpleQueue()
        self._stopped = threading.Event()
        self._sessions: set[Session] = set()
        self._replaced_s = 0.0
        self._heard_s = time.monotonic()
        self._log = log.bind(connection=name)

    def change(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """Carry other symbols too, or some no longer; the rest isn't disturbed. For one thread."""
        plus, minus = tuple(sorted(added)), tuple(sorted(removed))
        self.symbols |= set(plus)
        self.symbols -= set(minus)
        self._events.put(_Changed(plus, minus))

    @property
    def room(self) -> int:
        """How many more symbols it may carry."""
        return max(0, self._config.streams_per_connection - len(self.symbols))

    @property
    def silence_s(self) -> float:
        """After how long without a frame it is replaced."""
        return self._config.silence_s

    @property
    def quiet_s(self) -> float:
        """For how long nothing at all came, answers to pings included; since the start if it is not connected."""
        return time.monotonic() - max([self._heard_s, *(session.heard_s for session in list(self._sessions))])

    @property
    def proved(self) -> set[str]:
        """Symbols whose series goes on with what it delivers."""
        return set[str]().union(*(session.proved for session in list(self._sessions)))

    def stop(self) -> None:
        """Ask it to end; it does so at once, unless Kafka blocks it."""
        self._stopped.set()
        self._events.put(_Stop())
        for session in list(self._sessions):
            session.stop()

    def ages_s(self) -> Mapping[str, float]:
        """Symbol → how old its newest published record is, in seconds, of all symbols of the partition."""
        return self._dialect.ages_s()

    def age_s(self) -> float:
        """How old the newest record of any of its symbols is, in seconds; 0 without symbols."""
        ages = self.ages_s()
        return min((ages[symbol] for symbol in list(self.symbols) if symbol in ages), default=0.0)

    def run(self) -> None:
        """The thread's work."""
        try:
            self._keep()
        except Exception as error:
            self._failures.put(error)
        finally:
            for session in list(self._sessions):
                session.stop()

    def _keep(self) -> None:
        """The whole policy of reconnecting."""
        waits = self._pauses()
        while not self._stopped.is_set():
            began_s = time.monotonic()
            end = self._live_through(self._open())
            self._dialect.interrupted()
            if end is None:
                return
            # Never from a stand-in to the real exchange, or back.
            same_kind = self._url.partition(":")[0] == self._fallback_url.partition(":")[0]
            if end is End.BLOCKED and same_kind and self._url != self._fallback_url:
                self._log.warning("blocked in this region (HTTP 451), going on with market data only", url=shown(self._fallback_url))
                self._url = self._fallback_url
            if time.monotonic() - began_s >= _HEALTHY_S:
                waits = self._pauses()
            wait_s = next(waits)
            self._metrics.reconnects.labels(end.value).inc()
            self._log.warning("connection ended, reconnecting", reason=end.value, wait_s=round(wait_s, 3))
            self._stopped.wait(wait_s)

    def _pauses(self) -> Iterator[float]:
        return pauses(self._config.backoff_first_s, self._config.backoff_most_s, random.uniform)

    def _open(self) -> Session:
        session = Session(
            self.label,
            self._url,
            self._config,
            dialect=self._dialect,
            symbols=sorted(self.symbols),
            metrics=self._metrics,
            ended=lambda session, how: self._events.put(_Ended(session, how)),
            retiring=lambda session: self._events.put(_Retiring(session)),
        )
        self._sessions.add(session)
        session.start()
        return session

    def _live_through(self, session: Session) -> End | None:
        """From a session to the end of the last one that followed it without a break; None if the connection is to stop."""
        planned_s = self._planned_s()
        self._replaced_s = time.monotonic()  # after a break some symbols are refilled before others: that is no stall
        while True:
            event = self._event(_TICK_S)
            if isinstance(event, _Stop):
                return None
            if isinstance(event, _Ended):
                how = self._ended(event)
                if event.session is session:
                    return how
            elif isinstance(event, _Changed):
                self._apply(event, session)
            retiring = isinstance(event, _Retiring) and event.session is session
            if retiring or time.monotonic() >= planned_s or self._stalled():
                found = self._hand_over(session)
                if found is None:
                    return End.CLOSED if not self._stopped.is_set() else None
                # An old session that had to stay is as near its end as before.
                planned_s = self._planned_s() if found is not session else time.monotonic() + _REPLACED_EVERY_S
                session = found

    def _ended(self, event: _Ended) -> End:
        """Forget a session that has ended. Raises the error that it ended with."""
        self._sessions.discard(event.session)
        self._heard_s = max(self._heard_s, event.session.heard_s)
        if isinstance(event.how, Exception):
            raise event.how
        return event.how

    def _planned_s(self) -> float:
        return time.monotonic() + self._config.session_s * random.uniform(1 - _JITTER, 1)  # noqa: S311  # no secret

    def _event(self, timeout_s: float) -> _Event | None:
        try:
            return self._events.get(timeout=timeout_s)
        except Empty:
            return None

    def _apply(self, change: _Changed, *sessions: Session) -> None:
        for session in sessions:
            session.change(change.added, change.removed)

    def _stalled(self) -> bool:
        """Some symbols are silent while others of the same session speak, and no new session was tried for that lately."""
        if self._dialect.manners.sparse or time.monotonic() - self._replaced_s < _REPLACED_EVERY_S:
            return False
        ages = self._dialect.ages_s()
        mine = {symbol: ages[symbol] for symbol in list(self.symbols) if symbol in ages}
        silent = sorted(symbol for symbol, age_s in mine.items() if age_s > self._config.stall_s)
        if not silent or len(silent) == len(mine):
            return False
        self._log.warning("symbols are silent, trying a new session", symbols=silent[:10], count=len(silent))
        self._metrics.stalls.inc(len(silent))
        return True

    def _hand_over(self, old: Session) -> Session | None:
        """Open the next session, and end the old one when the new one is proved; the one that lives on, None if none does.

        Proved: every symbol that is fresh now has gone on, without a gap, with a kline that the new session delivered.
        """
        self._replaced_s = time.monotonic()
        until_s = self._replaced_s + self._config.hand_over_s
        if not self._dialect.manners.overlap:
            old.stop()
            old.join(_END_S)
            self._dialect.interrupted()  # nobody listens until the next one has subscribed
            self._metrics.hand_overs.labels("replaced").inc()
            return self._open()
        ages = self._dialect.ages_s()
        new = self._open()
        wanted = {symbol for symbol in list(self.symbols) if ages.get(symbol, self._config.stall_s) < self._config.stall_s}
        while not wanted <= new.proved and time.monotonic() < until_s:
            event = self._event(_PROOF_TICK_S)
            if isinstance(event, _Stop):
                return None
            if isinstance(event, _Changed):
                self._apply(event, old, new)
                wanted -= set(event.removed)
            elif isinstance(event, _Ended):
                how = self._ended(event)
                if event.session is new:
                    self._log.warning("hand-over failed, going on with the old session", reason=how.value)
                    return old if old in self._sessions else None
        old.stop()
        outcome = "proved" if wanted <= new.proved else "unproved"
        self._metrics.hand_overs.labels(outcome).inc()
        self._log.info("handed over", outcome=outcome, symbols=len(wanted), missing=sorted(wanted - new.proved)[:10])
        return new


def settings_of(exchange: ExchangeConfig, config: ProducerConfig) -> tuple[object, ...]:
    """What a connection is made with: one with other settings is another connection."""
    return (
        exchange.websocket_url,
        exchange.fallback_websocket_url,
        config.streams_per_connection,
        config.session_s,
        config.silence_s,
        config.stall_s,
        config.hand_over_s,
    )
