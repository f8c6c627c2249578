"""The symbols of one partition of a feed: every frame and every answer of REST passes through here, and leaves as records in order.

connection ──┐ frames              ┌─► the feed's topic     in the order that each symbol's series gives
connection ──┤ (hand-over: two)    │
REST ────────┼─► series, publish ──┼─► crypto_id_gaps       what was missing, and what became of it
clock ───────┘ (holds end)         └─► crypto_dead_letters
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from klinestream.market.errors import RecordError
from klinestream.market.events import IdGap, IdGapState
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.interface import Entry, Feed, Interruptible, Out, Series, Settled, Step, Unusable, Verdict, Want
from producer.frames import Passed, Reply, Shutdown
from producer.wants import WantRequest

log = structlog.get_logger()

# What REST lacked, or told otherwise than ids do, it may have a moment later.
_ASK_AGAIN_S = 0.3
# What REST won't give, such as single trades where the address has none, costs weight each time.
_REFUSED_AGAIN_S = 10.0
SAMPLED_MOST = 50_000
"""How many records of a symbol a sample holds at most: the first ones."""
_GONE_MOST = 10_000  # symbols that were followed: their last frames are no fault

_THERE = frozenset({IdGapState.REFILLED, IdGapState.RESYNCHRONISED})
_UNKNOWN = "the topic goes on beyond its beginning: whether it was filled is not known"

Span = tuple[int, int]


@dataclass(slots=True)
class _Symbol:
    """One symbol."""

    machine: Series
    key: bytes
    began_ms: int
    waits_s: float = 0.0
    """Since when nothing came of what it waits for."""
    asked: dict[Want, float] = field(default_factory=dict)
    """Want, as `_same` gives it → when REST was asked for it the last time."""
    former: dict[Span, Settled] = field(default_factory=dict)
    """Gaps that an earlier life detected, and that the ledger holds open."""
    since_id: int = 0
    """From which id on this life has published all."""


class Lane:
    """Thread-safe: connections, the threads of REST and the clock all call it; each call publishes all that it leads to."""

    def __init__(
        self,
        feed: Feed,
        partition: int,
        outlet: FeedOutlet,
        metrics: FeedMetrics,
        *,
        ask: Callable[[WantRequest], bool],
        withdraw: Callable[[WantRequest], None],
        deferred: Callable[[str, Settled], None],
        now_ms: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        """`ask` asks REST, `withdraw` takes that back; `deferred` is told what the feed goes on without; `now_s` is monotonic."""
        self._feed = feed
        self._outlet = outlet
        self._metrics = metrics
        self._tally = metrics.tally(partition)
        self._ask = ask
        self._withdraw = withdraw
        self._deferred = deferred
        self._now_ms = now_ms
        self._now_s = now_s
        self._hold_s = feed.settings.hold_s
        self._one_connection = feed.settings.one_connection
        self._speaking: set[str] | None = None
        self._lock = threading.Lock()
        self._symbols: dict[str, _Symbol] = {}
        self._gone: dict[str, None] = {}
        self._waiting: set[str] = set()
        self._samples: dict[str, list[bytes]] = {}

    def follow(self, symbols: Iterable[str], tails: Mapping[str, bytes], detected: Mapping[str, Iterable[IdGap]]) -> None:
        """Take symbols in, with the topic's newest record of each, and the gaps that the ledger calls detected."""
        with self._lock:
            for symbol in symbols:
                if symbol in self._symbols:
                    continue
                self._gone.pop(symbol, None)
                one = _Symbol(self._feed.series(symbol, tails.get(symbol)), symbol.encode(), self._now_ms())
                self._symbols[symbol] = one
                for gap in detected.get(symbol, ()):
                    told = Settled(gap.from_id, gap.to_id, IdGapState.DETECTED, gap.after_ms, gap.before_ms)
                    one.former[told.from_id, told.to_id] = told
                newest = one.machine.newest_id
                if newest is not None:
                    one.since_id = newest + 1
                    self._reached(symbol, one, newest + 1)
                self._want(symbol, one)

    def forget(self, symbols: Iterable[str]) -> None:
        """Follow these symbols no longer."""
        with self._lock:
            for symbol in symbols:
                if self._symbols.pop(symbol, None) is not None:
                    self._gone[symbol] = None
                self._waiting.discard(symbol)
                self._samples.pop(symbol, None)
            while len(self._gone) > _GONE_MOST:
                del self._gone[next(iter(self._gone))]

    def sample(self, symbol: str) -> None:
        """Keep what is published of a symbol from now on, until `sampled`."""
        with self._lock:
            if symbol in self._symbols:
                self._samples[symbol] = []

    def sampled(self, symbol: str) -> list[bytes]:
        """The values published since `sample`; none if something was given up meanwhile. Nothing is kept any more."""
        with self._lock:
            return self._samples.pop(symbol, [])

    def followed(self) -> list[str]:
        """All symbols that are followed."""
        return list(self._symbols)

    def waiting(self) -> int:
        """How many symbols' entries are held."""
        return len(self._waiting)

    def ages_s(self) -> dict[str, float]:
        """Symbol → age of its newest published record, in seconds; where there is none, since it is followed."""
        now_ms = self._now_ms()
        return {symbol: (now_ms - (one.machine.newest_ms or one.began_ms)) / 1000 for symbol, one in list(self._symbols.items())}

    def take(self, raw: bytes, proved: set[str]) -> Reply | Shutdown | None:
        """Take a frame; see `dialect.Taker`."""
        self._tally.frames += 1  # of two sessions that overlap one may be lost: it costs a lock to be exact
        try:
            said = self._feed.read(raw, self._now_ms())
            if type(said) is list:
                with self._lock:
                    if self._one_connection and proved is not self._speaking:
                        self._speaking = proved  # another session's: the one before it has ended
                        self._interrupt()
                    for entry in said:
                        self._entry(entry, raw, proved)
                return None
        except RecordError as error:
            self._outlet.dead_letter(raw, str(error))
            return None
        if isinstance(said, Passed):
            self._metrics.passed.labels(said.value).inc()
            return None
        return said  # type: ignore[return-value]  # a list, too, is dealt with above

    def interrupted(self) -> None:
        """A connection was lost: for series that nothing else tells so."""
        with self._lock:
            self._interrupt()

    def answered(self, request: WantRequest, answer: object) -> None:
        """Take what REST gave for a request."""
        with self._lock:
            one = self._symbols.get(request.symbol)
            if one is not None:
                self._after(request.symbol, one, one.machine.answered(request.want, answer))
                self._want(request.symbol, one)

    def failed(self, request: WantRequest) -> None:
        """REST will not give what a request asks for: the same is asked for again, but not soon."""
        with self._lock:
            one, asked = self._symbols.get(request.symbol), _same(request.want)
            if one is not None and asked in one.asked:
                one.asked[asked] = self._now_s() + _REFUSED_AGAIN_S - _ASK_AGAIN_S

    def look(self) -> None:
        """Let each series hear the clock, ask again where REST gave too little, and end holds that have lasted too long."""
        now_ms, now_s = self._now_ms(), self._now_s()
        with self._lock:
            for symbol, one in self._symbols.items():
                step = one.machine.tick(now_ms)
                if step.out or step.gaps or step.withheld:
                    self._after(symbol, one, step)
                if symbol in self._waiting or one.asked or one.machine.wants():
                    self._want(symbol, one)
            for symbol in list(self._waiting):
                one = self._symbols[symbol]
                if now_s - one.waits_s > self._hold_s:
                    self._end_hold(symbol, one, now_s)

    def _interrupt(self) -> None:
        for one in self._symbols.values():
            if isinstance(one.machine, Interruptible):
                one.machine.interrupted()

    def _entry(self, entry: Entry | Unusable, raw: bytes, proved: set[str]) -> None:
        """Each entry of a frame by itself: what is wrong with one is nothing to the others."""
        if isinstance(entry, Unusable):
            self._outlet.dead_letter(entry.raw, entry.reason)
            return
        try:
            self._live(entry, proved)
        except RecordError as error:
            self._outlet.dead_letter(raw, str(error))

    def _live(self, entry: Entry, proved: set[str]) -> None:
        symbol = entry.symbol
        one = self._symbols.get(symbol)
        if one is None:
            if symbol in self._gone:
                return
            raise RecordError("s: expected a symbol that was asked for")
        step = one.machine.live(entry)
        if step.verdict is Verdict.PUBLISH:
            proved.add(symbol)
        elif step.verdict is not Verdict.HOLD:
            proved.add(symbol)
            self._metrics.repeats.labels(step.verdict.value).inc()
        for letter in step.letters:
            self._outlet.dead_letter(letter.raw, letter.reason)
        if step.gaps or step.verdict is Verdict.HOLD or symbol in self._waiting or one.former:
            self._after(symbol, one, step)
            self._want(symbol, one)
            return
        if step.withheld:
            self._count(step.withheld)
        if step.out:
            self._publish(symbol, one, step.out)

    def _after(self, symbol: str, one: _Symbol, step: Step) -> None:
        """Publish what a step led to, and enter into the ledger what it settled.

        What is missing is told before what lies behind it goes out, what is there only after it: so a kill in between leaves an entry
        too many, and no trade that nobody looks for.
        """
        self._count(step.withheld)
        self._tell(symbol, one, [gap for gap in step.gaps if gap.state not in _THERE])
        if step.out:
            self._publish(symbol, one, step.out)
            one.waits_s = self._now_s()  # something came: hope goes on
        self._tell(symbol, one, [gap for gap in step.gaps if gap.state in _THERE])
        if one.former and one.machine.newest_id is not None:
            self._reached(symbol, one, one.machine.newest_id + 1)

    def _count(self, withheld: Iterable[str]) -> None:
        for reason in withheld:
            self._metrics.withheld.labels(reason).inc()

    def _publish(self, symbol: str, one: _Symbol, out: list[Out]) -> None:
        self._outlet.records(one.key, out)
        self._tally.published += len(out)
        if self._samples and (sample := self._samples.get(symbol)) is not None:
            sample += [record.value for record in out[: SAMPLED_MOST - len(sample)]]

    def _tell(self, symbol: str, one: _Symbol, gaps: Iterable[Settled]) -> None:
        """Enter gaps into the ledger."""
        for settled in gaps:
            self._outlet.gap(symbol, settled)
            if settled.state is IdGapState.DETECTED:
                continue
            one.former.pop((settled.from_id, settled.to_id), None)
            self._samples.pop(symbol, None)  # it would have a hole
            if settled.state is IdGapState.RESYNCHRONISED:  # in the place of all that were found before
                for span in [span for span in one.former if span[1] <= settled.to_id]:
                    self._end(symbol, one, span, settled.state, settled.reason)
            if settled.state is IdGapState.DEFERRED:
                one.since_id = settled.to_id
                log.warning("ids deferred", feed=self._feed.name, symbol=symbol, from_id=settled.from_id, to_id=settled.to_id)
                self._deferred(symbol, settled)

    def _reached(self, symbol: str, one: _Symbol, end_id: int) -> None:
        """Gaps that an earlier life detected, and that lie before this id: filled, if this life published all their ids.

        Of one that the topic reached into before nobody can tell whether it was filled first, or given up without word of it: the ledger
        is another partition. What is fetched once more in vain costs little, and a proof that is none costs trades.
        """
        for span in [span for span in one.former if span[1] <= end_id]:
            if span[0] >= one.since_id:
                self._end(symbol, one, span, IdGapState.REFILLED, "")
            else:
                self._end(symbol, one, span, IdGapState.DEFERRED, _UNKNOWN)

    def _end(self, symbol: str, one: _Symbol, span: Span, state: IdGapState, reason: str) -> None:
        known = one.former.pop(span)
        obtained = span[1] - span[0] if state is IdGapState.REFILLED else 0
        told = Settled(*span, state, known.after_ms, known.before_ms, obtained, reason)
        self._outlet.gap(symbol, told)
        if state is IdGapState.DEFERRED:
            self._deferred(symbol, told)

    def _want(self, symbol: str, one: _Symbol) -> None:
        """Ask REST for all that a series lacks and that it wasn't just asked for."""
        wants = one.machine.wants()
        if any(want.urgent for want in wants):
            if symbol not in self._waiting:
                self._waiting.add(symbol)
                one.waits_s = self._now_s()
        else:
            self._waiting.discard(symbol)
        if not wants:
            one.asked.clear()
            return
        now_s = self._now_s()
        asking = {_same(want): want for want in wants}
        for old in [old for old in one.asked if old not in asking]:
            del one.asked[old]
        for same, want in asking.items():
            if now_s - one.asked.get(same, -_ASK_AGAIN_S) >= _ASK_AGAIN_S:
                one.asked[same] = now_s
                self._ask(WantRequest(want))

    def _end_hold(self, symbol: str, one: _Symbol, now_s: float) -> None:
        for want in one.asked:
            self._withdraw(WantRequest(want))
        one.asked.clear()
        one.waits_s = now_s
        self._after(symbol, one, one.machine.give_up())
        self._want(symbol, one)


def _same(want: Want) -> Want:
    """What stays of a want while its entries are asked for: books go out meanwhile, so the newest record's time moves."""
    return replace(want, after_ms=None)
