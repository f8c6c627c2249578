"""What the producer is to follow, as it changes: what people say, and what the exchange lists."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from queue import SimpleQueue

import structlog

from klinestream.market.errors import BrokerError, ExchangeError, KlinestreamError
from klinestream.market.events import BINANCE, SymbolChoice
from klinestream.market.selection import TRADING, Choice, Rules, Selection, is_pattern
from klinestream.market.venues import venue_of
from klinestream.runtime.config import Config
from klinestream.runtime.control import ControlLog
from klinestream.runtime.rest import Rest
from klinestream.runtime.sections import ExchangeConfig
from klinestream.runtime.symbol_lists import configured
from klinestream.runtime.weights import Weights
from producer.backoff import pauses

log = structlog.get_logger()

Changed = Callable[[list[str], list[str], dict[str, str]], object]
"""Called with the symbols that came, those that left, both sorted, and for each of them the reason."""

Said = Mapping[str, SymbolChoice]
Listed = Callable[[Rest, Said], Mapping[str, str]]
"""Symbol → status of all that may be followed, given what was said of names. Raises ExchangeError."""

_LOOK_S = 0.5  # how often the thread sees that it is to stop
_ASK_APART_S = 1.0  # many words on the topic in a row are one question to the exchange: it costs 20 of the 6,000 a minute
_CONNECT_S = 2.0  # one attempt; the thread itself goes on trying
_TOLD_MOST = 20


class Wanted(threading.Thread):
    """Keeps the set of symbols to follow until `stop`, and calls `changed` when it differs.

    The control topic is read from its beginning and followed; the exchange's list is asked for every
    `exchange.refresh_s`, and at once when the topic says something. An exchange or a broker that is away, or a list
    that can't be read, leaves the set as it is and is tried again with back-off. `changed` is called in this thread; if
    it raises a KlinestreamError it is called again later. An error that can't be mended goes to `failures` and ends it.
    """

    def __init__(
        self,
        config: Config,
        changed: Changed,
        failures: "SimpleQueue[Exception]",
        following: Iterable[str] = (),
        *,
        weights: Weights | None = None,
        control: ControlLog | None = None,
        venue: str = BINANCE,
        selection: Callable[[ExchangeConfig], Selection] = configured,
        listed: "Listed | None" = None,
    ) -> None:
        """`following` is what is followed already: the first call tells what differs from it. `weights` may be shared.

        What is said of other venues' symbols than `venue`'s is passed over; `listed` is the exchange's list unless it is given.
        """
        super().__init__(name="wanted", daemon=True)
        self._config = config
        self._changed = changed
        self._failures = failures
        self._weights = weights
        self._control = control or ControlLog(config.kafka.model_copy(update={"connect_timeout_s": _CONNECT_S}))
        self._venue, self._selection, self._listed = venue, selection, listed or exchange_list
        self._stopped = threading.Event()
        self._following = frozenset(following)
        self._statuses: Mapping[str, str] = {}
        self._told: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self._caught_up = False
        self._asked_s = float("-inf")
        self._ask_s = float("-inf")
        self._fault = ""

    @property
    def following(self) -> frozenset[str]:
        """The set that `changed` was last told of."""
        return self._following

    @property
    def fault(self) -> str:
        """Why the set can't be kept up right now; empty if it can."""
        return self._fault

    @property
    def statuses(self) -> Mapping[str, str]:
        """Symbol → status as the exchange listed it the last time; empty before that."""
        return self._statuses

    def reconfigure(self, config: Config) -> None:
        """Follow what another configuration wants, from within half a second on; the control topic stays where it is."""
        self._config = config

    def stop(self) -> None:
        """Ask it to end: within half a second, unless a request to the exchange or to Kafka is under way."""
        self._stopped.set()

    def run(self) -> None:
        """The thread's work."""
        try:
            with self._control:
                while not self._stopped.is_set():
                    exchange = self._config.exchange
                    with Rest(exchange, self._weights) as rest:
                        self._keep_up(rest, exchange)
        except Exception as error:
            self._failures.put(error)

    def _keep_up(self, rest: Rest, exchange: ExchangeConfig) -> None:
        """Until the end, or until another configuration counts."""
        waits = self._pauses()
        self._ask_s = float("-inf")
        while not self._stopped.is_set() and self._config.exchange is exchange:
            try:
                self._listen()
                if time.monotonic() >= self._ask_s:
                    self._ask(rest, exchange)
            except KlinestreamError as error:
                wait_s = next(waits)
                self._trouble(error, wait_s)
                self._stopped.wait(wait_s)
                continue
            if self._fault:
                log.info("symbols are kept up again", symbols=len(self._following))
                self._fault = ""
                waits = self._pauses()

    def _pauses(self) -> Iterator[float]:
        config = self._config.producer
        return pauses(config.backoff_first_s, config.backoff_most_s, random.uniform)

    def _trouble(self, error: KlinestreamError, wait_s: float) -> None:
        self._fault = str(error)
        log.warning("symbols not kept up, those followed stay", reason=str(error), wait_s=round(wait_s, 3))
        if isinstance(error, BrokerError):
            self._caught_up = False
            self._control.close()

    def _listen(self) -> None:
        """Take in what the topic says, waiting for it until it is time to ask the exchange, or to look whether to stop."""
        if not self._caught_up:
            # Half of the topic must not be acted upon: what it takes back may stand in the other half.
            self._control.read()
            self._caught_up = True
            self._ask_s = time.monotonic()
            return
        wait_s = min(_LOOK_S, max(0.0, self._ask_s - time.monotonic()))
        if self._control.follow(wait_s):
            self._ask_s = max(time.monotonic(), self._asked_s + _ASK_APART_S)

    def _ask(self, rest: Rest, exchange: ExchangeConfig) -> None:
        """Ask the exchange what it lists, and tell what that changes."""
        selection = self._selection(exchange)
        said = {name: choice for name, choice in self._control.names().items() if venue_of(name) == self._venue}
        statuses = self._listed(rest, said)
        choice, rules = selection.chosen(statuses, said), selection.rules(said)
        self._tell_waiting(choice)
        chosen = frozenset(choice.symbols)
        added, removed = sorted(chosen - self._following), sorted(self._following - chosen)
        if added or removed:
            reasons = {symbol: why_added(symbol, self._statuses, rules) for symbol in added}
            reasons |= {symbol: why_removed(symbol, statuses, rules) for symbol in removed}
            _tell("symbols added", added, reasons)
            _tell("symbols removed", removed, reasons)
            self._changed(added, removed, reasons)
        self._following, self._statuses = chosen, statuses
        self._asked_s = time.monotonic()
        self._ask_s = self._asked_s + exchange.refresh_s

    def _tell_waiting(self, choice: Choice) -> None:
        """Log, whenever they change, the names that are wanted and can't be followed."""
        waiting = (choice.unknown, choice.not_trading)
        if waiting != self._told and any(waiting):
            log.warning("wanted symbols that can't be followed now", unknown=_some(waiting[0]), not_trading=_some(waiting[1]))
        self._told = waiting


def exchange_list(rest: Rest, _said: Said) -> Mapping[str, str]:
    """What the exchange lists. Raises ExchangeError."""
    statuses = rest.statuses(patient=False)
    if not statuses:
        raise ExchangeError("expected symbols in the exchange's list, got none: check exchange.rest_url")
    return statuses


def names_of(configured_names: Iterable[str], _rest: Rest, said: Said) -> Mapping[str, str]:
    """Of a venue without a list: whatever has a name, as if it traded."""
    return {name: TRADING for name in (*configured_names, *said) if not is_pattern(name)}


def why_added(symbol: str, before: Mapping[str, str], rules: Rules) -> str:
    """Why a symbol joins, given the exchange's list before, empty if there was none.

    >>> from klinestream.market.selection import Selection
    >>> rules = Selection(("*USDT",)).rules()
    >>> why_added("BTCUSDT", {"ETHUSDT": "TRADING"}, rules), why_added("BTCUSDT", {"BTCUSDT": "HALT"}, rules)
    ('newly listed (config: *USDT)', 'trades again, was HALT (config: *USDT)')
    """
    said = _said(symbol, rules)
    if before and symbol not in before:
        return f"newly listed ({said})"
    if before.get(symbol, TRADING) != TRADING:
        return f"trades again, was {before[symbol]} ({said})"
    return said


def why_removed(symbol: str, now: Mapping[str, str], rules: Rules) -> str:
    """Why a symbol leaves, given the exchange's list now.

    >>> from klinestream.market.selection import Selection
    >>> rules = Selection(("*USDT",)).rules()
    >>> why_removed("BTCUSDT", {}, rules), why_removed("BTCUSDT", {"BTCUSDT": "HALT"}, rules)
    ('delisted', 'halted: HALT')
    """
    if symbol not in now:
        return "delisted"
    if now[symbol] != TRADING:
        return f"halted: {now[symbol]}"
    return _said(symbol, rules)


def _said(symbol: str, rules: Rules) -> str:
    verdict = rules.verdict(symbol)
    return verdict.why if verdict is not None else "no longer wanted"


def _tell(what: str, symbols: list[str], reasons: Mapping[str, str]) -> None:
    if symbols:
        log.info(what, count=len(symbols), symbols=_some(f"{symbol}: {reasons[symbol]}" for symbol in symbols))


def _some(symbols: Iterable[str]) -> str:
    names = list(islice(symbols, _TOLD_MOST + 1))
    return ", ".join(names[:_TOLD_MOST]) + (", …" if len(names) > _TOLD_MOST else "")
