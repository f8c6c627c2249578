"""What a corrected candle changes: indicators, signals and aggregates, computed again by the same engine. Pure.

    job's run   ··|c7|c8|c9|c10|c11| …                 c9 was built from a wrong kline
    correction          |c9|                           the exchange's own, in crypto_candle_history
    corrected   ··|c7|c8|c9|c10|c11| … |c211|c212|
    values       rev 0  |···· republished ···|rev 0    until c9 no longer matters: the reach
    since  ◄─ warm-up ─|

The corrected series has the exchange's own newest word on each candle, and the built one where it said nothing. A candle
is corrected where its word differs from what was known before: from the whole candle that was built, or from an earlier
word. Candles that merely fill a hole correct nothing: the job takes them in by itself.

Corrected candles in a row make a block, which is computed from a warm-up before its first one, or from where the run
begins; a replay from there (`since`) gives the same bits. A value belongs to the newest block up to it.

No identity gets two values, whenever this is done and how often. A value depends on the corrected series from its `since`
to its candle, and `revision` is the greatest offset of the corrections in there, plus one. What is known only grows, a
further correction has a higher offset, and one that makes another block of candles lies among them: so the same `since`
and revision mean the same candles.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from klinestream.market.aggregates import DAY_MINUTES
from klinestream.market.candle_engine import AggregateRows, CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of_candles
from klinestream.market.candle_lines import aggregate_lines, indicator_lines, signals_of
from klinestream.market.decimals import Ints
from klinestream.market.events import Candle, CandleOrigin, HistoryReason, Signal, SignalState
from klinestream.market.indicators.catalogue import IndicatorSet
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.signals import looked_at
from klinestream.market.study import StudyRows

Bools = npt.NDArray[np.bool_]

REMEMBERED = 50
"""Ready candles before a block that rules look at: a rule only remembers the last value that was beyond its limits or back."""
_BLOCK = 256  # corrected candles in a row that are computed together at most: bounds a recomputation
CANDLES_AT_ONCE = 50_000
"""Candles that are held and computed at once: some 60 MB."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a corrected candle of an interval reaches."""

    interval: str
    candles: int
    """So many, itself included, are published again."""

    @property
    def length_ms(self) -> int:
        """Length of the interval."""
        return INTERVALS[self.interval]

    @property
    def after_ms(self) -> int:
        """How long after its open time candles are published again."""
        return self.candles * self.length_ms

    @property
    def before_ms(self) -> int:
        """The warm-up: so long before it a recomputation begins."""
        return (self.candles + REMEMBERED) * self.length_ms


def reaches(settings: CandleSettings) -> dict[str, Reach]:
    """Interval → its reach: until every indicator has converged again, and of minutes until the day has passed."""
    indicators = IndicatorSet(settings.indicators)
    found = {}
    for interval in settings.ascending:
        candles = max(1, indicators.ready_after_of(INTERVALS[interval]))
        found[interval] = Reach(interval, max(candles, DAY_MINUTES) if INTERVALS[interval] == MINUTE_MS else candles)
    return found


def market_fields(candle: Candle) -> tuple[int, ...]:
    """What a correction may change."""
    prices = candle.open, candle.high, candle.low, candle.close
    return *prices, candle.base_volume, candle.quote_volume, candle.taker_base_volume, candle.taker_quote_volume, candle.trades


@dataclass(slots=True)
class Versions:
    """All that `crypto_candles` says of candles of one symbol and interval, in any order and however often."""

    symbol: str
    reach: Reach
    built: dict[int, Candle] = field(default_factory=dict)
    """Open time → the whole candle that was built."""
    own: dict[int, dict[int, Candle]] = field(default_factory=lambda: defaultdict(dict))
    """Open time → offset in `crypto_candle_history` → the exchange's own."""

    def add(self, candle: Candle) -> None:
        """Take a record."""
        if candle.origin == CandleOrigin.HISTORY:
            self.own[candle.open_time_ms].setdefault(candle.revision - 1, candle)
        elif candle.complete:
            self.built.setdefault(candle.open_time_ms, candle)

    def newest_offset(self, first_ms: int, last_ms: int) -> int:
        """The greatest offset of the exchange's own candles of a span, -1 for none."""
        return max((max(words) for opened, words in self.own.items() if first_ms <= opened <= last_ms), default=-1)

    def corrected(self, first_ms: int, last_ms: int) -> list[int]:
        """Open times of the corrected candles of a span."""
        series = self.series()
        return [t for t, used in zip(series.times.tolist(), series.used.tolist(), strict=True) if used >= 0 and first_ms <= t <= last_ms]

    def series(self) -> "CorrectedSeries":
        """The corrected series."""
        times = sorted(self.built.keys() | self.own.keys())
        said = [self._said(opened) for opened in times]
        used = np.array([offset for _, offset in said], np.int64)
        return CorrectedSeries(self.reach, np.array(times, np.int64), [candle for candle, _ in said], used)

    def _said(self, opened: int) -> tuple[Candle, int]:
        """The newest word on a candle, and the offset of the newest correction, or -1."""
        words = [(-1, self.built[opened])] if opened in self.built else []
        words += sorted(self.own.get(opened, {}).items())
        used = -1
        for (_, known), (offset, candle) in pairwise(words):
            if market_fields(known) != market_fields(candle):
                used = offset
        return words[-1][1], used


@dataclass(frozen=True, slots=True)
class CorrectedSeries:
    """The corrected series, one row a candle that is there."""

    reach: Reach
    times: Ints
    candles: list[Candle]
    used: Ints
    """Offset of the correction that counts, or -1."""

    @property
    def runs(self) -> Ints:
        """The row with which each row's contiguous run begins."""
        return newest_row(np.append(True, np.diff(self.times) != self.reach.length_ms))

    def blocks(self) -> Ints:
        """The row with which the newest block of corrected candles up to each row begins, or -1."""
        used = self.used >= 0
        goes_on = np.append(False, used[:-1]) & (self.runs < np.arange(len(used)))
        return newest_row(used & (~goes_on | (self.times % (_BLOCK * self.reach.length_ms) == 0)))


def newest_row(marked: Bools) -> Ints:
    """Of each row the newest marked one up to it, or -1."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked)), -1))


@dataclass(frozen=True, slots=True)
class CandleRecomputation:
    """A stretch of a corrected series without a hole, one row a candle."""

    symbol: str
    reach: Reach
    candles: Sequence[Candle]
    republish: Bools
    """Of which candles the values are published again."""
    revisions: Ints

    @property
    def since_ms(self) -> int:
        """Where it begins: a replay from there gives the same bits."""
        return self.candles[0].open_time_ms

    @property
    def warm_up(self) -> int:
        """Candles before the first one that is published again."""
        return int(np.flatnonzero(self.republish)[0])

    @property
    def settled(self) -> bool:
        """Whether that is all it may ever be."""
        return self.warm_up * self.reach.length_ms >= self.reach.before_ms


@dataclass(frozen=True, slots=True)
class Reached:
    """What corrected candles of a span lead to."""

    parts: tuple[CandleRecomputation, ...]
    corrected: int
    """How many candles were."""
    newest_ms: int
    """Open time of the newest candle of the series, -1 for none."""
    complete: bool
    """False while the series has not come to the end of the reach."""

    @property
    def warm(self) -> bool:
        """All that is published again is as ready as it can be, wherever the runs began."""
        return all(part.warm_up >= part.reach.candles for part in self.parts)


def recomputations(versions: Versions, first_ms: int, last_ms: int) -> Reached:
    """What the corrected candles that open from `first_ms` to `last_ms` change.

    `versions` hold the candles from a warm-up before the first one to the reach of the last one, as far as the topic does.
    """
    series, reach = versions.series(), versions.reach
    times = series.times
    mine = (series.used >= 0) & (times >= first_ms) & (times <= last_ms)
    newest_ms = int(times[-1]) if len(times) else -1
    if not mine.any():
        return Reached((), 0, newest_ms, complete=True)
    runs, blocks, touched = series.runs, series.blocks(), newest_row(mine)
    republish = (touched >= runs) & (touched >= 0) & (times - times[touched] < reach.after_ms)
    parts = tuple(
        _part(versions.symbol, series, runs, block, np.flatnonzero(republish & (blocks == block)))
        for block in np.unique(blocks[republish]).tolist()
    )
    last_reached_ms = int(times[np.flatnonzero(republish)[-1]])
    return Reached(parts, int(np.count_nonzero(mine)), newest_ms, newest_ms > last_reached_ms)


def _part(symbol: str, series: CorrectedSeries, runs: Ints, block: int, wanted: Ints) -> CandleRecomputation:
    # Without holes in between a row is a candle.
    begin = max(int(runs[block]), block - series.reach.before_ms // series.reach.length_ms)
    rows = np.arange(begin, int(wanted[-1]) + 1)
    revisions = np.maximum.accumulate(series.used[rows]) + 1
    return CandleRecomputation(symbol, series.reach, series.candles[begin : int(wanted[-1]) + 1], np.isin(rows, wanted), revisions)


@dataclass(frozen=True, slots=True)
class RepublishedCandle:
    """All that is said anew of one candle: records as lines of text."""

    symbol: str
    interval: str
    open_time_ms: int
    since_ms: int
    revision: int
    close: float
    indicators: str
    fired: tuple[Signal, ...]
    """What the rules say."""
    looked_at: Mapping[str, float]
    """Rule → the value that it looks at, of those that are ready."""
    aggregate: str | None = None
    """Of a minute."""
    settled: bool = True
    """It has a whole warm-up; otherwise it will begin earlier, with other values, if candles before it come to be known."""


def republished(parts: Iterable[CandleRecomputation], settings: CandleSettings) -> Iterator[RepublishedCandle]:
    """What has to be published again, each part's in order of time."""
    chosen: list[CandleRecomputation] = []
    for part in parts:
        if chosen and sum(len(one.candles) for one in (*chosen, part)) > CANDLES_AT_ONCE:
            yield from _computed(chosen, settings)
            chosen = []
        chosen.append(part)
    if chosen:
        yield from _computed(chosen, settings)


def _computed(parts: Sequence[CandleRecomputation], settings: CandleSettings) -> Iterator[RepublishedCandle]:
    engine = CandleEngine(replace(settings, provisional=False))
    tables = [table_of_candles(part.candles) for part in parts]
    rules = looked_at(settings.signals)
    # One moment after the other: the day of a minute has no room for later minutes.
    for moment in range(max(table.shape[1] for table in tables)):
        step = engine.take(_moment(parts, tables, moment))
        aggregates = _aggregates(parts, step.aggregates)
        for rows in step.studies:
            for place, part, revision in _wanted(parts, rows):
                row = replace(rows.take(np.array([place])), symbols=[part.symbol])
                minute = aggregates.get(rows.symbols[place]) if part.reach.length_ms == MINUTE_MS else None
                yield replace(_said_anew(row, revision, rules), aggregate=minute, settled=part.settled)


def _moment(parts: Sequence[CandleRecomputation], tables: Sequence[Ints], moment: int) -> Iterator[HistoryTable]:
    """The next candle of each. A number stands for the symbol: several parts of one symbol are no run together."""
    for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
        if moment < table.shape[1]:
            yield HistoryTable(str(number), part.reach.interval, HistoryReason.START, table[:, [moment]], 0)


def _aggregates(parts: Sequence[CandleRecomputation], found: Iterable[AggregateRows]) -> dict[str, str]:
    """Number of a part → line, of one moment."""
    lines = {}
    for rows in found:
        for place, part, revision in _wanted(parts, rows):
            row = replace(rows.take(np.array([place])), symbols=[part.symbol])
            lines[rows.symbols[place]] = aggregate_lines(row, [revision])[0]
    return lines


def _wanted(parts: Sequence[CandleRecomputation], rows: StudyRows | AggregateRows) -> Iterator[tuple[int, CandleRecomputation, int]]:
    """Of rows of one moment each those that are published again: place, part and revision."""
    for place, (number, opened) in enumerate(zip(rows.symbols, rows.open_times.tolist(), strict=True)):
        part = parts[int(number)]
        candle = (opened - part.since_ms) // part.reach.length_ms
        if part.republish[candle]:
            yield place, part, int(part.revisions[candle])


def _said_anew(row: StudyRows, revision: int, rules: Mapping[str, Sequence[str]]) -> RepublishedCandle:
    values = {name: float(value) for name, value, ready in zip(row.names, row.values[:, 0], row.ready[:, 0], strict=True) if ready}
    judged = {rule: [values[name] for name in names] for rule, names in rules.items() if values.keys() >= set(names)}
    return RepublishedCandle(
        symbol=row.symbols[0],
        interval=row.intervals[0],
        open_time_ms=int(row.open_times[0]),
        since_ms=int(row.since[0]),
        revision=revision,
        close=float(row.close[0]),
        indicators=indicator_lines(row, [revision])[0],
        fired=tuple(signals_of(row, [revision])),
        looked_at={rule: found[0] - sum(found[1:]) for rule, found in judged.items()},
    )


class Standing:
    """The signals of `crypto_signals` as readers hold them: of each id the highest revision, then the earliest `since`."""

    def __init__(self) -> None:
        """None yet."""
        self._held: dict[tuple[str, str, int], dict[str, Signal]] = defaultdict(dict)

    def take(self, signal: Signal) -> None:
        """Hold it, if it counts."""
        mine = self._held[signal.symbol, signal.interval, signal.open_time_ms]
        if signal.id not in mine or _rank(signal) > _rank(mine[signal.id]):
            mine[signal.id] = signal

    def changes(self, said: RepublishedCandle) -> list[Signal]:
        """What has to be published so that just the signals stand that fire on the corrected candles."""
        held = self._held.get((said.symbol, said.interval, said.open_time_ms), {})
        fired = {signal.id for signal in said.fired}
        anew = [one for one in said.fired if one.id not in held or held[one.id].state != SignalState.FIRED]
        # What a rule can't judge here, because it isn't ready or not among the settings, is left as it is.
        gone = [
            _withdrawn(one, said)
            for one in held.values()
            if one.state == SignalState.FIRED and one.id not in fired and one.rule in said.looked_at
        ]
        return [one for one in (*anew, *gone) if one.id not in held or _rank(one) > _rank(held[one.id])]


def _rank(signal: Signal) -> tuple[int, int]:
    return signal.revision, -signal.since_ms


def _withdrawn(signal: Signal, said: RepublishedCandle) -> Signal:
    """Its values are those of the corrected candles: a copy of what fired might come from one run or another."""
    value = said.looked_at[signal.rule]
    return replace(
        signal,
        state=SignalState.WITHDRAWN,
        price=said.close,
        value=value,
        reason=f"withdrawn: candles were corrected, and with a value of {value:.6g} the rule {signal.rule} doesn't fire",
        since_ms=said.since_ms,
        revision=said.revision,
    )
