"""Fetches the exchange's own closed candles into crypto_candle_history, so that a job that starts is warm at once.

    crypto_candle_history ─┐ what is stored
    crypto_feed_gaps ──────┤ what was lost      ┌─► a worker ─► REST ─┬─► crypto_candle_history
    crypto_kline_repairs ──┤ what was corrected │                     └─► crypto_dead_letters
    crypto_kline_data ─────┼─ since when ─► the plan ◄── again, later
    the outlet ────────────┘ lost, corrected now

Nothing waits for it. It asks with what others leave of the exchange's weight; what is needed is worked out anew whenever that may
have changed, so nothing is forgotten, whatever failed.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from queue import SimpleQueue
from typing import Any, TypeVar

import orjson
import structlog

from klinestream.market.errors import BrokerError, ExchangeError, RecordError
from klinestream.market.events import SECOND_MS, GapState, Kline
from klinestream.market.history import Row, Span, checked_row
from klinestream.market.intervals import INTERVALS
from klinestream.market.ledger import Ledger
from klinestream.runtime.config import Config
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.history_index import HistoryIndex, read_history
from klinestream.runtime.rest import KLINES_WEIGHT, NotYetError, PassingError, Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.weights import Weights
from producer.backoff import pauses
from producer.history_plan import Ask, Plan, bounded
from producer.history_repairs import repaired
from producer.history_since import first_klines
from producer.metrics import Metrics
from producer.outlet import Outlet

log = structlog.get_logger()

CLIENT_ID = "klinestream-producer-history"
_LOOK_S = 0.5
_SEARCH_FIRST_S, _SEARCH_MOST_S = 1.0, 120.0
_LOST = frozenset({GapState.DEFERRED, GapState.UNFILLABLE, GapState.REPAIRED})

T = TypeVar("T")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class History:
    """Fetches what is needed of the followed symbols, from `start` to `stop`. An error that nothing mends goes to `failures`."""

    def __init__(
        self,
        config: Config,
        followed: Callable[[], Iterable[str]],
        outlet: Outlet,
        metrics: Metrics,
        *,
        weights: Weights,
        watched: Callable[[], frozenset[str]],
        failures: "SimpleQueue[Exception]",
        now_ms: Callable[[], int] = _wall_ms,
    ) -> None:
        """`weights` is shared with whoever else asks the same exchange; candles of `watched` symbols come first."""
        self._config = config
        self._followed = followed
        self._outlet = outlet
        self._metrics = metrics
        self._weights = weights
        self._watched = watched
        self._failures = failures
        self._now_ms = now_ms
        self._stopped = threading.Event()
        self._noted = _Noted()
        outlet.on_loss, outlet.on_repair = self._noted.lose, self._noted.correct
        self._changed = threading.Condition()
        patience_ms = round(1000 * config.producer.repair_patience_s)
        candles = config.candles
        self._plan = Plan(candles.intervals, candles.history, round(1000 * candles.refresh_s), patience_ms)
        # One for the answers that go wrong, whoever gets them; one for the searches of the topic of klines.
        self._outage = self._pauses()
        self._quiet_until_s = 0.0
        self._search_s, self._search_pause_s = 0.0, _SEARCH_FIRST_S
        self._threads = [threading.Thread(target=self._guarded, args=(self._run_plan,), name="history", daemon=True)]
        self._threads += [
            threading.Thread(target=self._guarded, args=(self._run_worker,), name=f"history-{number}", daemon=True)
            for number in range(candles.history_workers)
        ]
        metrics.history.needs.set_function(self._plan.waiting)
        metrics.history.oldest_need.set_function(lambda: self._plan.oldest_ms(self._now_ms()) / 1000)

    def start(self) -> None:
        """Begin to read what is there, then to ask."""
        for thread in self._threads:
            thread.start()

    def reconfigure(self, config: Config) -> None:
        """Ask where another configuration says, from the next requests on."""
        with self._changed:
            self._config = config
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """End at once, but for requests that are under way: those are given `timeout_s`."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline_s - time.monotonic()))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._failures.put(error)

    def _run_plan(self) -> None:
        """The planning thread's work."""
        stored = self._from_broker(lambda: read_history(self._config.kafka))
        ledger = self._from_broker(lambda: read_ledger(self._config.kafka))
        # Candles in progress, and those that closed while the former producer hadn't asked for them yet.
        since_ms = self._now_ms() - 2 * max(INTERVALS[interval] for interval in self._config.candles.intervals)
        corrected = self._from_broker(lambda: repaired(self._config.kafka, CLIENT_ID, since_ms))
        if stored is None or ledger is None or corrected is None:
            return
        self._load(stored, ledger, corrected)
        while not self._stopped.wait(_LOOK_S):
            self._look()

    def _from_broker(self, read: Callable[[], T]) -> T | None:
        """What a topic says, however long the broker is away; None at the end."""
        waits = self._pauses()
        while not self._stopped.is_set():
            try:
                return read()
            except BrokerError as error:
                log.warning("candles not fetched yet", reason=str(error))
                self._stopped.wait(next(waits))
        return None

    def _load(self, stored: HistoryIndex, ledger: Ledger, corrected: Mapping[str, Iterable[Span]]) -> None:
        lost: dict[str, list[Span]] = defaultdict(list)
        for symbol, spans in corrected.items():
            lost[symbol] += spans  # not `correct`: what is stored was mostly fetched after the correction
        for gap in ledger.gaps():
            if gap.record.state in _LOST:
                lost[gap.record.symbol].append((gap.record.from_ms, gap.record.to_ms))
        with self._changed:
            self._plan.load(stored.spans)
            for symbol, spans in lost.items():
                self._plan.lose(symbol, spans)
        log.info("candles stored", series=len(stored.spans), unusable=stored.unusable)

    def _look(self) -> None:
        """Find out what is needed now."""
        followed, watched, now_ms = frozenset(self._followed()), self._watched(), self._now_ms()
        lost, corrected = self._noted.drain()
        with self._changed:
            joined = self._plan.follow(followed)
            for symbol, spans in lost.items():
                self._plan.lose(symbol, spans)
            for symbol, spans in corrected.items():
                self._plan.correct(symbol, spans, now_ms)
        self._search(len(followed), joined=joined)
        with self._changed:
            self._plan.look(watched, now_ms)
            self._changed.notify_all()

    def _search(self, followed: int, *, joined: bool) -> None:
        """Look since when klines of symbols are in the topic; again later for those whose first one is still on its way."""
        now_s = time.monotonic()
        if joined:
            self._search_s, self._search_pause_s = now_s, _SEARCH_FIRST_S
        with self._changed:
            beginless = self._plan.beginless()
        if not beginless or now_s < self._search_s:
            return
        try:
            found = first_klines(self._config.kafka, CLIENT_ID, beginless, followed)
        except BrokerError as error:
            log.warning("klines not searched", reason=str(error))
        else:
            with self._changed:
                self._plan.begin(beginless, found)
        self._search_s = now_s + self._search_pause_s
        self._search_pause_s = min(2 * self._search_pause_s, _SEARCH_MOST_S)

    def _run_worker(self) -> None:
        """A worker's work."""
        while not self._stopped.is_set():
            exchange = self._config.exchange
            with Rest(exchange, self._weights) as rest:
                while (ask := self._next(exchange)) is not None:
                    self._ask_rest(rest, ask)

    def _next(self, exchange: ExchangeConfig) -> Ask | None:
        """What to ask for now, waiting for it; None at the end, or once another exchange is to be asked."""
        with self._changed:
            while not self._stopped.is_set() and self._config.exchange == exchange:
                wait_s = max(self._weights.wait_s(KLINES_WEIGHT, False), self._quiet_until_s - time.monotonic())
                if wait_s <= 0:
                    ask = self._plan.next(self._now_ms())
                    if ask is not None:
                        return ask
                    wait_s = _LOOK_S
                self._changed.wait(min(wait_s, _LOOK_S))
        return None

    def _ask_rest(self, rest: Rest, ask: Ask) -> None:
        try:
            rows = rest.candles(ask.symbol, ask.interval, *ask.span)
        except NotYetError:
            with self._changed:
                self._plan.put_back(ask, self._now_ms())
        except PassingError as error:
            self._metrics.history.retries.inc()
            self._pass_over(ask, error)
        except ExchangeError as error:
            self._metrics.history.retries.inc()
            log.warning("candles not usable", symbol=ask.symbol, interval=ask.interval, reason=str(error))
            with self._changed:
                self._plan.retry(ask, self._now_ms())
        else:
            self._take(ask, rows)

    def _pass_over(self, ask: Ask, error: PassingError) -> None:
        """The exchange is away, or says that we ask too much: all workers pause, once for all requests that went wrong together."""
        with self._changed:
            self._plan.put_back(ask, self._now_ms())
            now_s = time.monotonic()
            if now_s >= self._quiet_until_s:
                wait_s = next(self._outage)
                self._quiet_until_s = now_s + wait_s
                log.warning("candles not fetched, trying again", reason=str(error), wait_s=round(wait_s, 3))

    def _take(self, ask: Ask, rows: list[Any]) -> None:
        """Publish what an answer gave, and remember it."""
        usable = self._usable(ask, rows)
        with self._changed:
            self._outage, self._quiet_until_s = self._pauses(), 0.0
            taken = self._plan.take(ask, usable, self._now_ms(), all_usable=len(usable) == len(rows))
        for record in taken.records:
            self._outlet.history(record)
            self._metrics.history.candles.labels(ask.interval, record.reason.value).inc(len(record.rows))

    def _usable(self, ask: Ask, rows: list[Any]) -> dict[int, Row]:
        """The rows of an answer by open time; what can't be used is a dead letter."""
        from_ms, to_ms = ask.span
        found: dict[int, Row] = {}
        for row in rows:
            try:
                cells = checked_row(row, INTERVALS[ask.interval])
                if not from_ms <= cells[0] < to_ms or cells[0] in found:
                    raise RecordError("t: not asked for, or twice")
            except RecordError as error:
                self._outlet.dead_letter(orjson.dumps([ask.symbol, ask.interval, row]), f"candle of REST: {error}")
            else:
                found[cells[0]] = cells
        return found

    def _pauses(self) -> Iterator[float]:
        return pauses(self._config.producer.backoff_first_s, self._config.producer.backoff_most_s, random.uniform)


class _Noted:
    """What the feed's threads say, until the plan takes it: so that they never wait while the plan is worked out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lost: dict[str, list[Span]] = {}
        self._corrected: dict[str, list[Span]] = {}

    def lose(self, symbol: str, span: Span, state: GapState) -> None:
        """A gap has reached a state."""
        if state in _LOST:
            with self._lock:
                self._lost[symbol] = bounded([*self._lost.get(symbol, ()), span])

    def correct(self, kline: Kline) -> None:
        """A kline was published again, or late."""
        span = kline.open_time_ms, kline.open_time_ms + SECOND_MS
        with self._lock:
            spans = self._corrected.setdefault(kline.symbol, [])
            if spans and spans[-1][1] == span[0]:
                spans[-1] = spans[-1][0], span[1]  # most come in order
            else:
                self._corrected[kline.symbol] = bounded([*spans, span])

    def drain(self) -> tuple[dict[str, list[Span]], dict[str, list[Span]]]:
        """All since the last time: lost spans and corrected ones, by symbol."""
        with self._lock:
            drained = self._lost, self._corrected
            self._lost, self._corrected = {}, {}
        return drained
