"""The proof that what was published is what a replay gives, to the last bit: stretch by stretch, some symbols at a time.

    archive ─┬─ klines, repairs ─► engine ─► windows, candles ┐
             ├─ candles ─► study ─► indicators                ├─► equal, different (which field, which values), or not to be compared: why
             └─ windows, candles, indicators as published ────┘
                                         state at the stretch's end ─► the next stretch, or a snapshot

What is held in memory is one stretch of some symbols, and the state of all.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from klinestream.archive.files import Files, current
from klinestream.market.batch import KlineBatch, from_klines
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.decimals import Ints
from klinestream.market.errors import ArchiveError
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLES, INDICATORS, KLINE_REPAIRS, KLINES, WINDOWS
from klinestream.market.windows import WindowSettings
from klinestream.replay.kline_columns import ArchivedKlines, counting, joined
from klinestream.replay.klines import KlineArchive
from klinestream.replay.proof import candles as candle_proof
from klinestream.replay.proof import windows as window_proof
from klinestream.replay.proof.candles import CandleReplay, Chosen, IndicatorReplay
from klinestream.replay.proof.columns import LATE_MS, built, candle_table, indicators, names, windows
from klinestream.replay.proof.results import INTERVAL, REVISION, SINCE, SYMBOL, TIME, Bools, Compared, Results, Symbols, compare, expected
from klinestream.replay.proof.windows import Repairs, WindowReplay

TOPICS = (WINDOWS.name, CANDLES.name, INDICATORS.name)
BEFORE = "since before the archive's beginning"
NO_INPUT = "before the archive's first kline"
BEGUN = "candle opened before the replay began"
UNFINISHED = "incomplete candle, not closed in its stretch or of a job without its state"
OTHER_NAMES = "other indicators than the settings say"
_AT_ONCE = 64
"""Symbols that are held at once: of an hour some 300 MB."""
_MARGIN_MS = 2 * MINUTE_MS
"""So far past a stretch the feed is read: what comes out of order is known by what came before it."""
_LENGTHS = tuple(INTERVALS.values())

Span = tuple[int, int]


@dataclass(slots=True)
class State:
    """All that a stretch goes on from."""

    windows: WindowReplay
    candles: CandleReplay
    indicators: IndicatorReplay

    @classmethod
    def none(cls, windows: WindowSettings, candles: CandleSettings, symbols: Symbols) -> "State":
        """Before the first kline."""
        return cls(WindowReplay(windows, symbols), CandleReplay(candles, symbols), IndicatorReplay(candles, symbols))


@dataclass(frozen=True, slots=True)
class Stretch:
    """What came of a stretch of time, by topic."""

    from_ms: int
    to_ms: int
    topics: Mapping[str, Compared]

    @property
    def equal(self) -> int:
        """Records."""
        return sum(each.equal for each in self.topics.values())

    @property
    def different(self) -> int:
        """Records that differ, or are on one side only."""
        return sum(each.different for each in self.topics.values())

    @property
    def uncompared(self) -> int:
        """Records."""
        return sum(sum(each.uncompared.values()) for each in self.topics.values())


@dataclass(slots=True)
class Prover:
    """Proves stretches one after the other; each goes on from the state at the end of the one before."""

    files: Files
    windows: WindowSettings
    candles: CandleSettings
    chosen: frozenset[str] = frozenset()
    """Symbols; none means all."""
    symbols: Symbols = field(default_factory=Symbols)
    state: State | None = None
    reached_ms: int = -1
    """Where the state stands; -1: nowhere that one could go on from."""
    beginnings: dict[str, int] = field(default_factory=dict)
    """Symbol → where the archive's klines of its partition begin."""

    def prove(self, span: Span) -> Stretch:
        """Compare all that was published of a stretch. Raises ArchiveError."""
        wanted = self._wanted(span)
        self.beginnings = self._find_beginnings(wanted)
        goes_on = self.state is not None and self.reached_ms == span[0]
        # Until it is through, the state stands somewhere within: after an error it is no place to go on from.
        self.reached_ms = -1
        if not goes_on:
            self._begin(span, wanted)
        found = {topic: Compared() for topic in TOPICS}
        for group in _groups(wanted):
            for topic, compared in _Group(self, frozenset(group), span).compared().items():
                found[topic].add(compared)
        self.held.indicators.prune(span[1])
        self.reached_ms = span[1]
        return Stretch(*span, found)

    @property
    def held(self) -> State:
        """The state, which is there once a stretch has begun."""
        if self.state is None:
            self.state = State.none(self.windows, self.candles, self.symbols)
        return self.state

    def _find_beginnings(self, wanted: Iterable[str]) -> dict[str, int]:
        spans = current(self.files.spans(KLINES.name))
        count = max([KLINES.partitions, *(span.partition + 1 for span in spans)])
        first: dict[int, int] = {}
        for span in spans:
            if span.partition not in first:
                first[span.partition] = _least_time(self.files, span.path)
        return {symbol: first.get(partition_of(symbol, count), 2**62) for symbol in wanted}

    def feed(self, symbols: Iterable[str], span: Span) -> tuple[KlineBatch, dict[str, int]]:
        """The klines of a stretch that count; and of each symbol the first one after it, if it comes soon."""
        parts = list(KlineArchive(self.files, late_ms=LATE_MS).read(frozenset(symbols), span[0], span[1] + _MARGIN_MS))
        klines = joined(parts)
        klines = klines.take(counting(klines))
        after = klines.take(klines.open_times >= span[1])
        following: dict[str, int] = {}
        for code, opened in zip(after.codes.tolist(), after.open_times.tolist(), strict=True):
            following.setdefault(after.names[code], opened)
        return klines.take(klines.open_times < span[1]).batch, following

    def _wanted(self, span: Span) -> list[str]:
        found = names(self.files, KLINES, span, "open_time_ms") | names(self.files, WINDOWS, span, "end_ms")
        return sorted(found & self.chosen if self.chosen else found, key=lambda name: (partition_of(name, KLINES.partitions), name))

    def _begin(self, span: Span, wanted: list[str]) -> None:
        """Without a state: replay from each symbol's earliest `since` of what was published, as far as the archive goes back."""
        self.state, self.symbols = None, Symbols()
        begins: dict[str, int] = {}
        for group in _groups(wanted):
            live = windows(self.files, self.symbols, group, span)
            for symbol, since, revision in live.keys[[SYMBOL, SINCE, REVISION]].T.tolist():
                name = self.symbols.names[symbol]
                if not revision and since < begins.get(name, span[0]):
                    begins[name] = max(since, self.beginnings[name])
        length = span[1] - span[0]
        first = min(begins.values(), default=span[0])
        for opened in range(first - first % length, span[0], length):
            for group in _groups(sorted(begins)):
                stretch = (opened, min(opened + length, span[0]))
                klines, following = self.feed(group, stretch)
                least = np.array([begins[name] for name in klines.symbols], np.int64)
                klines = klines.take(np.flatnonzero(klines.open_times >= least))
                self.held.windows.step(klines, set(), self.earlier, stretch[1], {})
                self.held.candles.step(klines, following)

    def earlier(self, symbol: str, from_ms: int, to_ms: int) -> KlineBatch:
        """The klines of a symbol that count."""
        return self.feed((symbol,), (from_ms, to_ms))[0]


def _groups(names: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(names), _AT_ONCE):
        yield names[begin : begin + _AT_ONCE]


def _least_time(files: Files, place: str) -> int:
    try:
        with files.open(place) as file:
            times = pq.ParquetFile(file).read(columns=["open_time_ms"]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise ArchiveError(f"{place} can't be read ({error}): `klinestream archive verify` tells what is wrong") from None
    return int(pc.min(times).as_py() or 0)


@dataclass(slots=True)
class _Group:
    """Some symbols of a stretch."""

    prover: Prover
    names: frozenset[str]
    span: Span

    def compared(self) -> dict[str, Compared]:
        """By topic."""
        feed, following = self.prover.feed(self.names, self.span)
        return self._windows(feed) | self._candles(feed, following)

    def _windows(self, feed: KlineBatch) -> dict[str, Compared]:
        prover, compared = self.prover, Compared()
        symbols = prover.symbols
        live = windows(prover.files, symbols, self.names, self.span)
        beginnings = prover.beginnings
        least = _by_symbol(live, symbols, beginnings)
        without = (live.keys[TIME] // SECOND_MS - 1) * SECOND_MS < least
        before = (live.keys[SINCE] < least) & ~without
        original = live.keys[REVISION] == 0
        begun = np.unique(live.keys[[SYMBOL, SINCE]][:, original & ~before], axis=1)
        runs = {(symbols.names[symbol], since) for symbol, since in begun.T.tolist()}
        replayed = prover.held.windows.step(feed, runs, prover.earlier, self.span[1], beginnings)
        compared.leave(NO_INPUT, int(np.count_nonzero(without)))
        compared.leave(BEFORE, int(np.count_nonzero(before)))
        left = before | without
        if left.any():
            replayed = replayed.take(expected(replayed, live.take(original)) & ~_of_ends(replayed, live.take(left)))
        compared.add(_expected_compared(WINDOWS.name, live.take(original & ~left), replayed, symbols))
        self._repaired_windows(live.take(~original & ~left), compared)
        return {WINDOWS.name: compared}

    def _repaired_windows(self, live: Results, compared: Compared) -> None:
        prover, symbols = self.prover, self.prover.symbols
        reach = window_proof.reach_ms(prover.windows)
        touched = {symbols.names[number] for number in live.keys[SYMBOL].tolist()}
        first = min([self.span[0], *live.keys[SINCE].tolist()]) - reach
        late = joined(list(KlineArchive(prover.files, KLINE_REPAIRS, late_ms=LATE_MS).read(self.names, first, self.span[1])))
        recent = late.take(late.open_times >= self.span[0] - reach)
        touched |= {recent.names[code] for code in np.unique(recent.codes).tolist()}
        if not touched:
            return
        feed, _ = prover.feed(touched, (first, self.span[1] + _MARGIN_MS))
        by_symbol = window_proof.batches([feed])
        given = {name: _repairs(by_symbol.get(name, from_klines([])), late.of(name)) for name in sorted(touched)}
        found, needed = window_proof.repaired(prover.windows, given, live, symbols, self.span)
        held = {(symbol, time) for symbol, time in live.keys[[SYMBOL, TIME]].T.tolist()}
        lacking = needed.take(np.array([(s, time) not in held for s, time in needed.keys[[SYMBOL, TIME]].T.tolist()], np.bool_))
        compared.add(compare(WINDOWS.name, live, Results.joined([found, lacking], live.fields), symbols))

    def _candles(self, feed: KlineBatch, following: dict[str, int]) -> dict[str, Compared]:
        prover = self.prover
        symbols, state = prover.symbols, prover.held
        told, unlike = indicators(prover.files, symbols, self.names, self.span, state.indicators.study.names)
        state.indicators.begin(told)
        # Runs carry their values on; what a repair published is made again from its since.
        revised = told.keys[SINCE, told.keys[REVISION] > 0].tolist()
        first = min(self.span[0] - max(_LENGTHS), state.indicators.needed_from_ms(self.names), *revised)
        table = candle_table(prover.files, self.names, (first, self.span[1]))
        live = built(table, symbols)
        live = live.take(_closing(live, self.span))
        replayed = state.candles.step(feed, following)
        found = {CANDLES.name: self._built(live, replayed.take(_closing(replayed, self.span)))}
        found[INDICATORS.name] = self._indicators(table, live, told)
        found[INDICATORS.name].leave(OTHER_NAMES, unlike)
        return found

    def _built(self, live: Results, replayed: Results) -> Compared:
        symbols, began = self.prover.symbols, self.prover.held.candles.began
        compared = Compared()
        right = {tuple(key): place for place, key in enumerate(replayed.keys.T.tolist())}
        keep, drop = np.ones(len(live), np.bool_), np.zeros(len(replayed), np.bool_)
        places = [right.get(tuple(key), -1) for key in live.keys.T.tolist()]
        alike = [place >= 0 and bool((live.values[:, row] == replayed.values[:, place]).all()) for row, place in enumerate(places)]
        # A job that started without its state may have told one of them twice, once of fewer klines: the other one is proved.
        proved = {place for place, equal in zip(places, alike, strict=True) if equal}
        for row in np.flatnonzero(~np.array(alike, np.bool_)).tolist():
            place, key = places[row], live.keys[:, row].tolist()
            incomplete = int(live.values[-1, row]) * SECOND_MS < _LENGTHS[key[INTERVAL]]
            begun = key[TIME] < began.get(symbols.names[key[SYMBOL]], 2**62)
            fewer = incomplete and (place < 0 or live.values[-1, row] < replayed.values[-1, place])
            if begun or fewer:
                compared.leave(BEGUN if begun else UNFINISHED, 1)
                keep[row] = False
                if place >= 0 and place not in proved:
                    drop[place] = True
        compared.add(compare(CANDLES.name, live.take(keep), replayed.take(~drop), symbols, candle_proof.NAMES))
        return compared

    def _indicators(self, table: pa.Table, live: Results, told: Results) -> Compared:
        """`live`: the candles that were built."""
        prover, replay = self.prover, self.prover.held.indicators
        symbols, compared = prover.symbols, Compared()
        original = told.keys[REVISION] == 0
        have = {tuple(key) for key in told.keys[[SYMBOL, INTERVAL, TIME]].T.tolist()}
        whole = live.values[-1].astype(np.int64) * SECOND_MS == np.array(_LENGTHS, np.int64)[live.keys[INTERVAL]]
        needed = {tuple(key) for key in live.keys[[SYMBOL, INTERVAL, TIME]][:, whole].T.tolist()}
        for symbol, interval, time in needed - have:
            replay.lacking(symbols.names[symbol], interval, time)
        replayed = replay.step(self.names, Chosen.of(table, symbols), self.span)
        compared.add(_expected_compared(INDICATORS.name, told.take(original), replayed, symbols, needed))
        anew = told.take(~original)
        if len(anew):
            compared.add(compare(INDICATORS.name, anew, candle_proof.repaired(replay, table, anew), symbols, candle_proof.NAMES))
        return compared


def _expected_compared(
    topic: str, live: Results, replayed: Results, symbols: Symbols, needed: Set[tuple[int, ...]] | None = None
) -> Compared:
    """First all at once; where that is not alike, only what has to be there."""
    whole = compare(topic, live, replayed, symbols, candle_proof.NAMES)
    if not whole.different:
        return whole
    return compare(topic, live, replayed.take(expected(replayed, live, needed)), symbols, candle_proof.NAMES)


def _by_symbol(live: Results, symbols: Symbols, values: Mapping[str, int]) -> Ints:
    each = np.array([values.get(name, 2**62) for name in symbols.names] or [0], np.int64)
    return np.asarray(each[live.keys[SYMBOL]])


def _of_ends(replayed: Results, live: Results) -> Bools:
    """Which replayed windows have ends that are among the published ones."""
    held = set(map(tuple, live.keys[[SYMBOL, TIME]].T.tolist()))
    return np.array([tuple(key) in held for key in replayed.keys[[SYMBOL, TIME]].T.tolist()], np.bool_)


def _closing(found: Results, span: Span) -> Bools:
    closes = found.keys[TIME] + np.array(_LENGTHS, np.int64)[found.keys[INTERVAL]]
    return np.asarray((closes > span[0]) & (closes <= span[1]))


def _repairs(feed: KlineBatch, late: ArchivedKlines) -> Repairs:
    return Repairs(feed, late.batch, late.offsets)


def stretches(first_ms: int, last_ms: int, length_ms: int) -> Iterator[Span]:
    """Whole stretches of a time, aligned to their length, the first one as far as there is anything of it."""
    for opened in range(first_ms - first_ms % length_ms, last_ms - length_ms + 1, length_ms):
        yield opened, opened + length_ms
