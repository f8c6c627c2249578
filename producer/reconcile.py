"""Compares what the feed publishes with what the exchange says of the same seconds, symbol after symbol, as long as it runs.

    sample 20 s ─► settle 5 s ─► REST's klines and trades ─► equal: counted
                                        └─► differs ─► asked again 5 s later ─► the same: counted, logged, and
                                                                                  REST's kline goes to the repairs

Several threads share the symbols, since one would mostly wait for answers: a full market takes two comparisons a second and more, two
requests each. Nothing waits for them. They ask with what others leave of the exchange's weight, and if the exchange is away, or says
that too much is asked, a comparison is put off: the symbol stays the next one to be compared.
"""

import random
import sched
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Protocol
from zlib import crc32

import structlog

from klinestream.market.codec import decode_kline
from klinestream.market.errors import ExchangeError
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.reconcile import Against, Mismatch, differences, mismatches, references
from klinestream.runtime.config import Config
from klinestream.runtime.rest import NotYetError, PassingError, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from producer.backoff import pauses
from producer.metrics import Metrics
from producer.outlet import Outlet

log = structlog.get_logger()

_SAMPLE_S = 20.0
_SETTLE_S = 5.0  # a second's klines and trades are in REST soon after it; the exchange doesn't say how soon
_SPAN_MOST_MS = 60_000  # a refill can publish a thousand seconds within one sample: the newest are enough
_UNDER_WAY_MOST = 50  # samples of a thread at once, were all of them put off: a full market at the default pace has 17
_THREADS = 4  # a full market at the default pace then bears round trips of half a second
_PACE = 0.9  # a little faster than asked for, so that a late answer doesn't make a symbol wait longer than that
_SHARE_LEAST_S = 0.05  # from sample to sample: more than the exchange's limits allow
_LATE_MOST_S = 10.0  # so much is made up for by shorter distances
_LOOK_S = 0.5  # how often the thread sees that it is to stop
_QUIET_MOST_S = 60.0


class Sampled(Protocol):
    """What is reconciled: the fleet."""

    def followed(self) -> Iterable[str]:
        """All symbols that are followed."""

    def sample(self, symbol: str) -> None:
        """Keep what is published of a symbol from now on."""

    def sampled(self, symbol: str) -> Sequence[bytes]:
        """The values published since then; nothing is kept any more."""


@dataclass(slots=True)
class _Turn:
    """Whose turn it is: who has waited longest, of those that are not under way."""

    since_s: float
    """When it was compared, or joined."""
    asked_s: float = float("-inf")
    """When it was its turn."""
    under_way: bool = False


@dataclass(slots=True)
class _Sample:
    """Some seconds of a symbol as they were published, and what was found of them at the first look."""

    symbol: str
    klines: list[Kline]
    found: frozenset[Mismatch] = frozenset()
    said: Mapping[int, Kline] = field(default_factory=dict)
    """REST's klines at that look."""

    @property
    def span(self) -> tuple[int, int]:
        """Open times, the last one exclusive."""
        return self.klines[0].open_time_ms, self.klines[-1].open_time_ms + SECOND_MS


class Reconciler(threading.Thread):
    """Compares each followed symbol at least every `producer.reconcile_s`, if REST answers fast enough, until `stop`.

    The first one after its share of that time. An error that nothing mends goes to `failures` and ends it.
    """

    def __init__(
        self,
        config: Config,
        fleet: Sampled,
        outlet: Outlet,
        metrics: Metrics,
        *,
        weights: Weights,
        failures: "SimpleQueue[Exception]",
        sample_s: float = _SAMPLE_S,
        settle_s: float = _SETTLE_S,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """`weights` is shared with whoever else asks the same exchange; the two spans are shorter in tests.

        `share`: number of this one, and how many share the symbols.
        """
        super().__init__(name=f"reconcile-{share[0]}", daemon=True)
        self._share = share
        self._config = config
        self._fleet = fleet
        self._outlet = outlet
        self._metrics = metrics
        self._weights = weights
        self._rest: Rest
        self._failures = failures
        self._sample_s = sample_s
        self._settle_s = settle_s
        self._stopped = threading.Event()
        self._turns: dict[str, _Turn] = {}
        self._begun_s = 0.0
        self._quiet_until_s = 0.0
        self._pauses = self._new_pauses()
        self._schedule = sched.scheduler(time.monotonic, self._stopped.wait)

    def reconfigure(self, config: Config) -> None:
        """Ask where another configuration says, from the next comparison on."""
        self._config = config

    def stop(self) -> None:
        """Ask it to end: within half a second, unless a request to the exchange is under way."""
        self._stopped.set()

    def run(self) -> None:
        """The thread's work."""
        try:
            self._begun_s = time.monotonic()
            while not self._stopped.is_set():
                exchange = self._config.exchange
                with Rest(exchange, self._weights) as self._rest:
                    self._compare_with(exchange)
        except Exception as error:
            self._failures.put(error)

    def _compare_with(self, exchange: ExchangeConfig) -> None:
        """Until the end, or until another address is to be asked."""
        while not self._stopped.is_set() and self._config.exchange is exchange:
            self._begin_if_due()
            wait_s = self._schedule.run(blocking=False)
            self._stopped.wait(min(_LOOK_S, self._share_s(), _LOOK_S if wait_s is None else wait_s))

    def _after(self, wait_s: float, act: Callable[[], None]) -> None:
        def unless_stopped() -> None:
            if not self._stopped.is_set():
                act()

        self._schedule.enter(wait_s, 0, unless_stopped)

    def _share_s(self) -> float:
        """From the begin of one sample to that of the next."""
        return max(_SHARE_LEAST_S, self._config.producer.reconcile_s * _PACE / max(1, len(self._turns)))

    def _begin_if_due(self) -> None:
        """Sample the symbol that has waited longest."""
        self._join_and_leave()
        now_s, due_s = time.monotonic(), self._begun_s + self._share_s()
        if now_s < max(due_s, self._quiet_until_s):
            return
        self._begun_s = due_s if now_s - due_s < _LATE_MOST_S else now_s
        under_way = sum(turn.under_way for turn in self._turns.values())
        waiting = [(turn.asked_s, symbol) for symbol, turn in self._turns.items() if not turn.under_way]
        if waiting and under_way < _UNDER_WAY_MOST:
            _, symbol = min(waiting)
            self._turns[symbol].under_way = True
            self._fleet.sample(symbol)
            self._after(self._sample_s, partial(self._take, symbol))

    def _take(self, symbol: str) -> None:
        """The end of a sample."""
        klines = sorted((decode_kline(value) for value in self._fleet.sampled(symbol)), key=lambda kline: kline.open_time_ms)
        newest = [kline for kline in klines if kline.open_time_ms > klines[-1].open_time_ms - _SPAN_MOST_MS]
        if newest:
            self._after(self._settle_s, partial(self._compare, _Sample(symbol, newest)))
        else:
            self._done(symbol, compared=False)  # nothing was published: the ledger and the data's age tell of that

    def _compare(self, sample: _Sample) -> None:
        """The first look."""
        others = self._asked(sample)
        if others is None:
            return
        sample.found, sample.said = frozenset(_found(sample, others)), others[Against.KLINES]
        if sample.found:
            self._after(self._settle_s, partial(self._confirm, sample))
        else:
            self._settled(sample, others)

    def _confirm(self, sample: _Sample) -> None:
        """The second look: what the exchange says again counts."""
        others = self._asked(sample)
        if others is None:
            return
        wrong = set()
        for mismatch in _found(sample, others):
            if mismatch not in sample.found:
                continue
            self._tell(mismatch)
            if mismatch.against is Against.KLINES:
                wrong.add(mismatch.open_time_ms)
        for opened in sorted(wrong):
            kline = others[Against.KLINES][opened]
            if not differences(sample.said[opened], kline):
                self._outlet.repair(kline)
                self._metrics.reconcile_repairs.inc()
        self._settled(sample, others)

    def _tell(self, mismatch: Mismatch) -> None:
        self._metrics.reconcile_mismatches.labels(mismatch.field, mismatch.against.value).inc()
        log.error(
            "published kline is not the exchange's",
            symbol=mismatch.symbol,
            open_time_ms=mismatch.open_time_ms,
            field=mismatch.field,
            published=mismatch.published,
            exchange=mismatch.other,
            against=mismatch.against.value,
        )

    def _asked(self, sample: _Sample) -> dict[Against, dict[int, Kline]] | None:
        """What the exchange says of a sample's seconds; None if it has to be put off."""
        symbol, (from_ms, to_ms) = sample.symbol, sample.span
        if time.monotonic() < self._quiet_until_s:
            self._put_off(symbol, "quiet")
            return None
        try:
            klines = self._rest.klines(symbol, from_ms - SECOND_MS, to_ms)
            others = references(symbol, klines, self._rest.agg_trades(symbol, from_ms, to_ms), from_ms, to_ms)
        except NotYetError as error:
            self._be_quiet(error.wait_s)
            self._put_off(symbol, "limits")
        except PassingError as error:
            log.info("klines not reconciled now", symbol=symbol, reason=str(error))
            self._be_quiet(next(self._pauses))
            self._put_off(symbol, "away")
        except ExchangeError as error:
            log.warning("klines not reconciled", symbol=symbol, reason=str(error))
            self._put_off(symbol, "answer")
            self._done(symbol, compared=False)  # it won't be another in a moment: others first
        else:
            self._pauses = self._new_pauses()
            return others
        return None

    def _put_off(self, symbol: str, reason: str) -> None:
        """Leave it for later: the symbol keeps its place."""
        self._metrics.reconcile_put_off.labels(reason).inc()
        if symbol in self._turns:
            self._turns[symbol].under_way = False

    def _be_quiet(self, wait_s: float) -> None:
        self._quiet_until_s = time.monotonic() + min(wait_s, _QUIET_MOST_S)

    def _new_pauses(self) -> Iterator[float]:
        return pauses(self._config.producer.backoff_first_s, self._config.producer.backoff_most_s, random.uniform)

    def _settled(self, sample: _Sample, others: Mapping[Against, Mapping[int, Kline]]) -> None:
        for against, said in others.items():
            self._metrics.reconciled.labels(against.value).inc(sum(kline.open_time_ms in said for kline in sample.klines))
        self._done(sample.symbol, compared=True)

    def _done(self, symbol: str, *, compared: bool) -> None:
        turn = self._turns.get(symbol)
        if turn is not None:  # it may be followed no longer
            turn.asked_s, turn.under_way = time.monotonic(), False
            turn.since_s = turn.asked_s if compared else turn.since_s

    def _join_and_leave(self) -> None:
        number, of = self._share
        followed, now_s = {symbol for symbol in self._fleet.followed() if crc32(symbol.encode()) % of == number}, time.monotonic()
        self._turns = {symbol: self._turns.get(symbol) or _Turn(now_s) for symbol in followed}

    def oldest_s(self) -> float:
        """How long ago the symbol that waits longest was compared, or joined."""
        turns = list(self._turns.values())
        return time.monotonic() - min(turn.since_s for turn in turns) if turns else 0.0


class Reconcilers:
    """All that share the symbols, as one."""

    def __init__(
        self,
        config: Config,
        fleet: Sampled,
        outlet: Outlet,
        metrics: Metrics,
        *,
        weights: Weights,
        failures: "SimpleQueue[Exception]",
        threads: int = _THREADS,
        **spans_s: float,
    ) -> None:
        """None of them is started yet. `spans_s`: the two of a `Reconciler`."""
        self._threads = tuple(
            Reconciler(config, fleet, outlet, metrics, weights=weights, failures=failures, share=(number, threads), **spans_s)
            for number in range(threads)
        )
        metrics.reconcile_age.set_function(lambda: max(each.oldest_s() for each in self._threads))

    def start(self) -> None:
        """Begin to compare."""
        for each in self._threads:
            each.start()

    def reconfigure(self, config: Config) -> None:
        """Ask where another configuration says, from the next comparison on."""
        for each in self._threads:
            each.reconfigure(config)

    def stop(self) -> None:
        """Ask all to end: within half a second, unless a request to the exchange is under way."""
        for each in self._threads:
            each.stop()

    def ended(self, within_s: float) -> bool:
        """Whether all have, by then."""
        until_s = time.monotonic() + within_s
        for each in self._threads:
            each.join(max(0.0, until_s - time.monotonic()))
        return not any(each.is_alive() for each in self._threads)


def _found(sample: _Sample, others: Mapping[Against, Mapping[int, Kline]]) -> Iterator[Mismatch]:
    for against, said in others.items():
        yield from mismatches(sample.klines, said, against)
