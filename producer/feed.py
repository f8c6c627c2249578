"""The symbols of one partition: every frame and every answer of REST passes through here, and leaves as records in order.

connection ──┐ frames              ┌─► crypto_kline_data    in order, without holes
connection ──┤ (hand-over: two)    │
REST ────────┼─► decide, publish ──┼─► crypto_feed_gaps     what was missing, and what became of it
clock ───────┘ (holds end)         └─► crypto_dead_letters
"""

import threading
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from klinestream.market.codec import decode_kline
from klinestream.market.continuity import Continuity, GivenUp, Publish, Span, Tail, Verdict
from klinestream.market.errors import RecordError
from klinestream.market.events import NO_SOURCE, SECOND_MS, GapState, Kline, Origin
from producer.frames import ClosedKline, Passed, Reply, Shutdown, closed, decode
from producer.metrics import Metrics
from producer.outlet import Outlet, kline_value
from producer.refill import SPAN_MOST_MS, Request
from producer.streams import stream_name

log = structlog.get_logger()

SAMPLED_MOST = 1000
"""How many records of a symbol a sample holds at most: the first ones."""
GONE_MOST = 1000
"""How many symbols that left are remembered, the newest ones: more than one change of a partition removes."""
CLAIMS_MOST = 1000
"""How many klines of REST are remembered of a symbol while no trade has proved their number: the newest ones."""
# A kline that has just closed may not be in REST yet; an answer that lacks it, or contradicts the trade ids, is asked for again.
_ASK_AGAIN_S = 0.3
_NOTHING_THERE: Mapping[str, Container[int]] = {}


@dataclass(slots=True)
class _Series:
    """One symbol."""

    machine: Continuity[ClosedKline]
    key: bytes
    newest_close_ms: int
    held_since_s: float = 0.0
    asked: dict[Span, float] = field(default_factory=dict)
    """Gap → when REST was asked for it the last time."""
    filled: dict[Span, Counter[str]] = field(default_factory=dict)
    """Gap that is in the ledger and not settled → where what was published of it came from."""
    uncounted: set[Span] = field(default_factory=set)
    """Those of them for which REST gave klines whose number of trades no id told."""
    claims: list[Publish[ClosedKline]] = field(default_factory=list)
    """Klines of REST that are published, and whose number of trades no trade has proved yet."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A span that the feed went on without, to be fetched for the repairs."""

    symbol: str
    span: GivenUp


@dataclass(frozen=True, slots=True)
class Doubt:
    """Klines of REST that are published, and that trade ids contradict, or can't prove any more."""

    symbol: str
    published: tuple[Kline, ...]
    """In order; between them there are at most quiet seconds that came live."""
    trades: int | None
    """How many they should have together, as trade ids tell; None if they don't."""


def _nothing(_: Doubt) -> None:
    pass


class Feed:
    """Thread-safe: connections, the threads of REST and the clock all call it; each call publishes all that it leads to."""

    def __init__(
        self,
        partition: int,
        outlet: Outlet,
        metrics: Metrics,
        *,
        hold_s: float,
        ask: Callable[[Request], bool],
        withdraw: Callable[[Request], None],
        doubt: Callable[[Doubt], object] = _nothing,
        now_ms: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        """`ask` asks REST, `withdraw` takes that back; `doubt` is told of what has to be asked for again; `now_s` is monotonic."""
        self._outlet = outlet
        self._metrics = metrics
        self._tally = metrics.tally(partition)
        self.hold_s = hold_s
        """How long klines are held at most; may be changed."""
        self._ask = ask
        self._withdraw = withdraw
        self._doubt = doubt
        self._now_ms = now_ms
        self._now_s = now_s
        self._lock = threading.Lock()
        self._series: dict[str, _Series] = {}
        self._streams: dict[str, str] = {}
        self._gone: dict[str, str] = {}
        self._holding: set[str] = set()
        self._samples: dict[str, list[Publish[ClosedKline]]] = {}

    def follow(
        self,
        symbols: Iterable[str],
        tails: Mapping[str, Tail],
        detected: Mapping[str, Iterable[Span]],
        there: Mapping[str, Container[int]] = _NOTHING_THERE,
    ) -> list[Deferred]:
        """Take symbols in, with the topic's newest record of each, and the gaps that the ledger left open.

        `there`: open times that the topic was seen to have. What its end has passed without that is deferred: nobody says that it
        was published, since whoever detected it may have gone on without it.
        """
        deferred = []
        with self._lock:
            for symbol in symbols:
                if symbol in self._series:
                    continue
                tail = tails.get(symbol)
                newest_close_ms = tail.open_time_ms + SECOND_MS - 1 if tail else self._now_ms()
                series = _Series(Continuity(tail), symbol.encode(), newest_close_ms)
                series.filled = {span: Counter() for span in detected.get(symbol, ())}
                self._series[symbol] = series
                self._gone.pop(stream_name(symbol), None)
                deferred += self._passed(symbol, series, (0, newest_close_ms + 1), there.get(symbol, ()))
                self._settle(symbol, series)
            self._name_streams()
        return deferred

    def forget(self, symbols: Iterable[str]) -> None:
        """Follow these symbols no longer."""
        with self._lock:
            for symbol in symbols:
                if self._series.pop(symbol, None) is not None:
                    self._gone[stream_name(symbol)] = symbol
                self._holding.discard(symbol)
                self._samples.pop(symbol, None)
            for stream in list(self._gone)[:-GONE_MOST]:
                del self._gone[stream]
            self._name_streams()

    def _name_streams(self) -> None:
        """Whose frames are sound: those that were on their way when a symbol left are no dead letters."""
        self._streams = self._gone | {stream_name(symbol): symbol for symbol in self._series}

    def sample(self, symbol: str) -> None:
        """Keep what is published of a symbol from now on, until `sampled`."""
        with self._lock:
            if symbol in self._series:
                self._samples[symbol] = []

    def sampled(self, symbol: str) -> list[bytes]:
        """The values of the records that were published since `sample`; nothing is kept any more."""
        with self._lock:
            records = self._samples.pop(symbol, [])
        return [kline_value(symbol, record) for record in records]

    @property
    def followed(self) -> list[str]:
        """All symbols that are followed; from any thread."""
        return list(self._series)

    def ages_s(self) -> dict[str, float]:
        """Symbol → seconds since the close of its newest published kline."""
        now_ms = self._now_ms()
        return {symbol: (now_ms - series.newest_close_ms) / 1000 for symbol, series in list(self._series.items())}

    def take(self, raw: bytes, proved: set[str]) -> Reply | Shutdown | None:
        """Take a frame; what it says to the connection itself is returned.

        `proved` is the connection's own: symbols whose series goes on with what it delivers. Raises DeliveryError.
        """
        self._tally.frames += 1  # of two sessions that overlap one may be lost: it costs a lock to be exact
        try:
            frame = decode(raw, self._streams, self._now_ms())
        except RecordError as error:
            self._outlet.dead_letter(raw, str(error))
            return None
        if isinstance(frame, ClosedKline):
            self._live(frame, proved)
            return None
        if isinstance(frame, Passed):
            self._metrics.passed.labels(frame.value).inc()
            return None
        return frame

    def answered(self, request: Request, klines: Iterable[Kline]) -> None:
        """Take what REST gave for a request."""
        with self._lock:
            series = self._series.get(request.symbol)
            if series is None:
                return
            refuted = series.machine.refuted
            published = series.machine.refill(closed(kline) for kline in klines)
            self._metrics.refuted.inc(series.machine.refuted - refuted)
            self._publish(request.symbol, series, published)
            self._settle(request.symbol, series)

    def look(self) -> dict[str, int]:
        """Ask REST again where it gave too little; returns the symbols whose hold has lasted too long, with their first missing second."""
        now_s = self._now_s()
        expired = {}
        with self._lock:
            for symbol in list(self._holding):
                series = self._series[symbol]
                gaps = series.machine.gaps
                hopeless = any(end - start > SPAN_MOST_MS for start, end in gaps)
                if now_s - series.held_since_s > self.hold_s or series.machine.full or hopeless:
                    expired[symbol] = gaps[0][0]
                else:
                    self._fetch(symbol, series, now_s)
        return expired

    def expire(
        self, symbols: Iterable[str], tails: Mapping[str, Tail], there: Mapping[str, Container[int]] = _NOTHING_THERE
    ) -> list[Deferred]:
        """End holds: with what another producer has written meanwhile, and if that isn't enough, without what is missing.

        `there`: open times that the topic was seen to have. A newer record alone doesn't say that what lies before it is there.
        """
        deferred = []
        with self._lock:
            for symbol in symbols:
                series = self._series.get(symbol)
                if series is None or not series.machine.holding:
                    continue
                if symbol in tails:
                    deferred += self._seen(symbol, series, tails[symbol], there.get(symbol, ()))
                spans, published = series.machine.give_up()
                self._publish(symbol, series, published, after_hole=bool(spans))
                for asked in series.asked:
                    self._withdraw(Request(symbol, *asked, urgent=True))
                for span in spans:
                    deferred += self._defer(symbol, series, span, f"not obtained within {self.hold_s:g} s")
                self._settle(symbol, series)
        return deferred

    def _live(self, kline: ClosedKline, proved: set[str]) -> None:
        with self._lock:
            series = self._series.get(kline.symbol)
            if series is None:
                return  # removed a moment ago
            verdict, published = series.machine.live(kline)
            if verdict is Verdict.HOLD:
                if kline.symbol not in self._holding:
                    self._holding.add(kline.symbol)
                    series.held_since_s = self._now_s()
                self._fetch(kline.symbol, series, self._now_s())
            else:
                proved.add(kline.symbol)
                if verdict is not Verdict.PUBLISH:
                    self._metrics.repeats.labels(verdict.value).inc()
            if published:
                self._publish(kline.symbol, series, published)
            if series.filled or kline.symbol in self._holding:
                self._settle(kline.symbol, series)

    def _fetch(self, symbol: str, series: _Series, now_s: float) -> None:
        """Enter new gaps into the ledger, and ask REST for all that it wasn't just asked for."""
        for span in series.machine.gaps:
            if _within(span, series.filled) is None:
                series.filled[span] = Counter()
                self._outlet.gap(symbol, span, GapState.DETECTED)
                self._metrics.gaps.inc()
                self._metrics.missing.inc((span[1] - span[0]) // SECOND_MS)
            due = now_s - series.asked.get(span, -_ASK_AGAIN_S) >= _ASK_AGAIN_S
            if due and span[1] - span[0] <= SPAN_MOST_MS:  # a longer one won't come within a hold
                series.asked[span] = now_s
                self._ask(Request(symbol, *span, urgent=True))

    def _seen(self, symbol: str, series: _Series, tail: Tail, there: Container[int]) -> list[Deferred]:
        """Go on after a newer record of another producer's; what it went on without is deferred."""
        before = series.machine.newest_ms
        if before is None or tail.open_time_ms <= before:
            return []
        published = series.machine.seen(tail)
        deferred = self._passed(symbol, series, (before + SECOND_MS, tail.open_time_ms + SECOND_MS), there)
        series.newest_close_ms = tail.open_time_ms + SECOND_MS - 1
        self._publish(symbol, series, published, after_hole=True)
        return deferred

    def _passed(self, symbol: str, series: _Series, passed: Span, there: Container[int]) -> list[Deferred]:
        """The topic's end has passed these seconds: gaps of which all that it passed is there are filled so far, others are deferred."""
        deferred = []
        for known in list(series.filled):
            seconds = range(max(known[0], passed[0]), min(known[1], passed[1]), SECOND_MS)
            if all(opened in there for opened in seconds):
                series.filled[known].update({"topic": len(seconds)} if seconds else {})
            else:
                deferred += self._defer(symbol, series, GivenUp(*known, None), "the topic goes on without it")
        return deferred

    def _defer(self, symbol: str, series: _Series, span: GivenUp, reason: str) -> list[Deferred]:
        """Enter what is given up into the ledger as deferred, under the spans that it was detected with."""
        log.warning("klines deferred", symbol=symbol, from_ms=span.from_ms, to_ms=span.to_ms, reason=reason)
        deferred = []
        for known in [known for known in series.filled if known[0] < span.to_ms and span.from_ms < known[1]]:
            sources = series.filled.pop(known)
            series.uncounted.discard(known)
            trades = span.trades if known == (span.from_ms, span.to_ms) else None
            self._metrics.deferred.inc((known[1] - known[0]) // SECOND_MS)
            self._outlet.gap(
                symbol,
                known,
                GapState.DEFERRED,
                klines=sources.total(),
                source="+".join(sorted(sources)) or NO_SOURCE,
                trades=trades,
                reason=reason,
            )
            deferred.append(Deferred(symbol, GivenUp(*known, trades)))
        return deferred

    def _publish(self, symbol: str, series: _Series, published: list[Publish[ClosedKline]], *, after_hole: bool = False) -> None:
        """Publish records; `after_hole` says that they don't go on where the series was."""
        quiet: Span | None = None
        for record in published:
            opened = record.open_time_ms
            self._outlet.kline(symbol, series.key, record)
            known = _within((opened, opened + SECOND_MS), series.filled) if series.filled else None
            if known is not None:
                series.filled[known][record.origin.value] += 1
                if record.origin is Origin.REST and not record.counted:
                    series.uncounted.add(known)
            elif record.origin is Origin.DERIVED:
                quiet = (quiet[0] if quiet else opened, opened + SECOND_MS)
                continue
            if quiet is not None:
                self._derived(symbol, quiet)
                quiet = None
        if series.claims or len(published) > 1:  # a kline of REST never comes alone: one was held behind it
            self._claim(symbol, series, published, after_hole)
        if self._samples and (sample := self._samples.get(symbol)) is not None:
            sample += published[: SAMPLED_MOST - len(sample)]
        if published:
            series.newest_close_ms = published[-1].open_time_ms + SECOND_MS - 1
            self._tally.published += len(published)

    def _claim(self, symbol: str, series: _Series, published: list[Publish[ClosedKline]], after_hole: bool) -> None:
        """Remember klines of REST until the next trade proves their number, contradicts it, or none can prove it any more."""
        if after_hole:
            self._cast_doubt(symbol, series, None)
        for record in published:
            if record.origin is Origin.REST:
                series.claims.append(record)
            elif series.claims and record.first_trade_id is not None and record.first_trade_id >= 0:
                newest_id = series.claims[-1].last_trade_id
                if newest_id is not None and newest_id != record.first_trade_id - 1:
                    self._cast_doubt(symbol, series, record.first_trade_id)
                series.claims.clear()
        del series.claims[:-CLAIMS_MOST]
        series.machine.doubtful.clear()  # it tells of those with trades alone

    def _cast_doubt(self, symbol: str, series: _Series, next_id: int | None) -> None:
        """What was published from REST is to be asked for again: the first trade after it has this id, if that is known."""
        claims = series.claims
        if not claims:
            return
        trades = _expected(claims, next_id) if len(claims) < CLAIMS_MOST else None
        log.warning(
            "trade ids don't prove klines of REST", symbol=symbol, from_ms=claims[0].open_time_ms, klines=len(claims), trades=trades
        )
        self._metrics.doubtful.inc()
        self._doubt(Doubt(symbol, tuple(decode_kline(kline_value(symbol, claim)) for claim in claims), trades))
        claims.clear()

    def _derived(self, symbol: str, span: Span) -> None:
        """Seconds that were proved quiet as soon as they were missed."""
        klines = (span[1] - span[0]) // SECOND_MS
        self._metrics.gaps.inc()
        self._metrics.missing.inc(klines)
        self._metrics.refilled.labels(Origin.DERIVED.value).inc(klines)
        self._outlet.gap(symbol, span, GapState.REFILLED, klines=klines, source=Origin.DERIVED.value, proved=True)

    def _settle(self, symbol: str, series: _Series) -> None:
        """Enter into the ledger what is no longer missing."""
        newest = series.machine.newest_ms
        for span in [span for span in series.filled if newest is not None and newest >= span[1] - SECOND_MS]:
            sources = series.filled.pop(span)
            for source, klines in sources.items():
                self._metrics.refilled.labels(source).inc(klines)
            proved = "topic" not in sources and span not in series.uncounted
            series.uncounted.discard(span)
            self._outlet.gap(
                symbol, span, GapState.REFILLED, klines=sources.total(), source="+".join(sorted(sources)) or NO_SOURCE, proved=proved
            )
        if not series.machine.holding:
            self._holding.discard(symbol)
            series.asked.clear()


def _within(span: Span, known: Iterable[Span]) -> Span | None:
    """The known span that holds this one, if any."""
    return next((one for one in known if one[0] <= span[0] and span[1] <= one[1]), None)


def _expected(claims: list[Publish[ClosedKline]], next_id: int | None) -> int | None:
    """How many trades fell into seconds that were published from REST, by the id of the first trade after them."""
    newest_id = claims[-1].last_trade_id
    if next_id is None or newest_id is None:
        return None
    trades = sum(claim.kline.trades for claim in claims if claim.kline is not None) + next_id - 1 - newest_id
    return trades if trades >= 0 else None
