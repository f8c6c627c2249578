"""The candles' engine: klines and the exchange's own candles in; candles, indicators, signals and aggregates out.

    klines ─► CandleBuilder ─► closed candles ─► Chain of their interval ─► Study: indicators, signals, totals
    history ───────────────────────────────────────────▲                      └► Day: the last 1,440 minutes

Live, replay and tests call this code. How klines and history are split into batches, which of the two comes first, and
what other symbols do changes no value: a record's value depends on the candles from its `since` on, and on nothing else.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from klinestream.market.aggregates import DAY_MINUTES, Day, KeptMinutes, MinuteStore
from klinestream.market.batch import KlineBatch
from klinestream.market.candle_history import HistoryTable
from klinestream.market.candles import BEGAN, HEIGHT, Built, CandleBuilder, CandleRows, Minutes, ProvisionalRows, price
from klinestream.market.candles import CLOSE as CLOSE_ROW
from klinestream.market.chains import Chain, Saved, Stretch
from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import EngineError
from klinestream.market.events import HistoryReason
from klinestream.market.indicators.catalogue import IndicatorSettings
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.signals import SignalSettings
from klinestream.market.study import Study, StudyRows


@dataclass(frozen=True, slots=True)
class CandleSettings:
    """What is computed."""

    intervals: tuple[str, ...] = tuple(INTERVALS)
    provisional: bool = True
    history: int = 250
    indicators: IndicatorSettings = field(default_factory=IndicatorSettings)
    signals: SignalSettings = field(default_factory=SignalSettings)

    @property
    def ascending(self) -> tuple[str, ...]:
        """The intervals from short to long."""
        return tuple(interval for interval in INTERVALS if interval in self.intervals)


Correct = Callable[[CandleRows], CandleRows]
"""For a replay: whole candles that were built, as the exchange says they were."""


@dataclass(slots=True)
class CandleNames:
    """What seldom changes: the symbols' columns, and what the state was computed with."""

    made_by: tuple[object, ...]
    columns: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class CandleState:
    """All that goes on from batch to batch, in parts that are saved apart."""

    names: CandleNames | None = None
    minutes: Minutes | None = None
    longer: Ints | None = None
    chains: dict[str, Saved] = field(default_factory=dict)
    day: MinuteStore = field(default_factory=KeptMinutes)


@dataclass(frozen=True, slots=True)
class _Moment:
    """One whole candle each of some columns of some intervals, and where their runs began."""

    intervals: Sequence[str]
    columns: Ints
    table: Ints
    since: Ints


@dataclass(frozen=True, slots=True)
class AggregateRows:
    """Aggregates of some symbols: rows as `Day.over` gives them, for the day and since the run began."""

    symbols: Sequence[str]
    open_times: Ints
    since: Ints
    day: Floats
    totals: Floats

    def take(self, rows: Ints) -> "AggregateRows":
        """Some of the rows, in the order of `rows`."""
        symbols = [self.symbols[row] for row in rows.tolist()]
        return AggregateRows(symbols, self.open_times[rows], self.since[rows], self.day[:, rows], self.totals[:, rows])


@dataclass(slots=True)
class CandleStep:
    """What a batch led to, in the order in which it did, and which parts of the state it changed."""

    closed: list[CandleRows] = field(default_factory=list)
    provisional: list[ProvisionalRows] = field(default_factory=list)
    history: list[HistoryTable] = field(default_factory=list)
    studies: list[StudyRows] = field(default_factory=list)
    aggregates: list[AggregateRows] = field(default_factory=list)
    klines: int = 0
    repeats: int = 0
    joined: int = 0
    names_changed: bool = False


class CandleEngine:
    """The candles of any number of symbols.

    After a step the caller saves `builder.minutes`, `builder.longer` if candles were closed, `names` if the step says so, and each
    chain's `changes()`; the day is written through.
    """

    def __init__(self, settings: CandleSettings, state: CandleState | None = None, *, aggregates: bool = True) -> None:
        """Goes on from a state; raises EngineError if it was computed with other settings. `aggregates`: whether they are wanted."""
        self.corrected: Correct | None = None
        held = state or CandleState()
        self._study = Study(settings.indicators, settings.signals)
        intervals = settings.ascending
        made_by = (intervals, *self._study.fingerprint)
        self.names = held.names or CandleNames(made_by)
        if self.names.made_by != made_by:
            raise EngineError(
                f"the state was computed with {self.names.made_by}, the settings say {made_by}: "
                "go back to those settings, or start the job without its state"
            )
        self.builder = CandleBuilder(intervals, held.minutes, held.longer, settings.provisional)
        self.chains = {name: Chain(name, self._study, settings.history, held.chains.get(name)) for name in intervals}
        self._day = Day(held.day) if aggregates else None
        self._symbols = list(self.names.columns)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The indicators' values, in the order in which studies hold them."""
        return self._study.names

    def symbols(self, columns: Iterable[int]) -> list[str]:
        """The names of some columns."""
        return [self._symbols[column] for column in columns]

    def step(self, batch: KlineBatch) -> CandleStep:
        """Take klines in any number, each symbol's own in the order they came."""
        step = CandleStep()
        return self._built(self.builder.step(batch, self._columns(batch.symbols, step)), step)

    def follow(self, symbols: Sequence[str]) -> Ints:
        """The columns of some symbols, which get theirs where they have none."""
        return self._columns(tuple(symbols), CandleStep())

    def passed(self, columns: Ints, opened: Ints) -> CandleStep:
        """The next klines of these columns opened then: what ended before."""
        return self._built(self.builder.passed(columns, opened), CandleStep())

    def minute(self, columns: Ints, table: Ints, newest: Ints) -> CandleStep:
        """Take all klines of a minute of each of `columns` at once, after `passed`: see `CandleBuilder.minute`."""
        return self._built(self.builder.minute(columns, table, newest), CandleStep())

    def _built(self, built: Built, step: CandleStep) -> CandleStep:
        step.closed, step.provisional, step.klines, step.repeats = built.closed, built.provisional, built.klines, built.repeats
        if self.corrected is not None:
            step.closed = [self.corrected(rows) for rows in built.closed]
        for rows in step.closed:
            whole = rows.complete
            if whole.any():
                self._live(rows.interval, rows.columns[whole], rows.table[:, whole], step)
        return step

    def take(self, history: Iterable[HistoryTable]) -> CandleStep:
        """Take the exchange's own candles; intervals that aren't wanted are passed over.

        A correction is of a candle whose klines were all there: the run holds it as it was built. What it changes is for a
        repair to compute, whose values have revisions; it would depend on what came first here.
        """
        step = CandleStep()
        step.history = [entry for entry in history if entry.interval in self.chains]
        taken = [entry for entry in step.history if entry.reason is not HistoryReason.CORRECTION]
        columns = self._columns(tuple(entry.symbol for entry in taken), step).tolist()
        for wave in _waves(zip(taken, columns, strict=True)):
            for entry, column in wave:
                if self._day is not None and INTERVALS[entry.interval] == MINUTE_MS:
                    self._day.put_history(column, entry.table)
            touched = [(self.chains[entry.interval], column) for entry, column in wave]
            first = [chain.history(column, entry.table, entry.reason) for (chain, column), (entry, _) in zip(touched, wave, strict=True)]
            self._carry(first, step)
            self._advance(touched, step)
        return step

    def _columns(self, symbols: tuple[str, ...], step: CandleStep) -> Ints:
        known = self.names.columns
        for symbol in symbols:
            if symbol not in known:
                known[symbol] = len(known)
                self._symbols.append(symbol)
                step.names_changed = True
        self.builder.grow(len(known))
        if self._day is not None:
            self._day.grow(len(known))
        for chain in self.chains.values():
            chain.grow(len(known))
        return np.fromiter((known[symbol] for symbol in symbols), np.int64, len(symbols))

    def _live(self, interval: str, columns: Ints, table: Ints, step: CandleStep) -> None:
        """Whole candles that were built, one a symbol."""
        chain = self.chains[interval]
        rows = chain.live(columns, table)
        if not len(rows):
            return
        columns, table, runs = columns[rows], table[:, rows], chain.state.live
        if self._day is not None and chain.length_ms == MINUTE_MS:
            self._day.put(columns, table)
        runs.last[columns] = table[BEGAN]
        self._study_moment(_Moment([interval] * len(columns), columns, table, runs.since[columns]), runs.values, columns, step)
        if chain.state.waiting:
            self._advance([(chain, column) for column in columns.tolist() if column in chain.state.waiting], step)

    def _advance(self, touched: Sequence[tuple[Chain, int]], step: CandleStep) -> None:
        """Let what waits go on as far as it can."""
        alone = sum(column in chain.state.alone for chain, column in touched)
        left = list(touched)
        while left:
            stretches = [chain.advance(column) for chain, column in left]
            self._carry(stretches, step)
            left = [one for one, stretch in zip(left, stretches, strict=True) if stretch is not None]
        step.joined += alone - sum(column in chain.state.alone for chain, column in touched)

    def _carry(self, stretches: Iterable[Stretch | None], step: CandleStep) -> None:
        """Carry runs on, all side by side: the first candle of each stretch, then the second, …"""
        work = sorted((one for one in stretches if one is not None), key=lambda one: -one.table.shape[1])
        if not work:
            return
        lengths = np.array([one.table.shape[1] for one in work])
        tables = np.zeros((HEIGHT, lengths[0], len(work)), np.int64)
        for place, one in enumerate(work):
            tables[:, : lengths[place], place] = one.table
        state = np.stack([one.run.values for one in work], axis=1)
        columns, since = np.array([one.column for one in work]), np.array([one.run.since for one in work])
        for moment in range(lengths[0]):
            there = np.arange(np.count_nonzero(lengths > moment))
            intervals = [one.chain.interval for one in work[: len(there)]]
            self._study_moment(_Moment(intervals, columns[there], tables[:, moment, : len(there)], since[there]), state, there, step)
        for place, one in enumerate(work):
            one.carried(state[:, place].copy())

    def _study_moment(self, moment: _Moment, state: Floats, places: Ints, step: CandleStep) -> None:
        """`places` are where in `state` the runs' states stand."""
        table, symbols = moment.table, self.symbols(moment.columns)
        values, ready, fired, totals = self._study.update(state, places, table)
        close = price(table, CLOSE_ROW)
        step.studies.append(
            StudyRows(symbols, moment.intervals, table[BEGAN], close, moment.since, self._study.names, values, ready, fired, totals)
        )
        minutes = np.flatnonzero([INTERVALS[interval] == MINUTE_MS for interval in moment.intervals])
        if self._day is not None and len(minutes):
            opened, since = table[BEGAN, minutes], moment.since[minutes]
            day = self._day.over(moment.columns[minutes], opened, since)
            # Of a candle from long ago the day before it may be overwritten in part: then nothing is said of it.
            known = np.flatnonzero(day[0] == np.minimum((opened - since) // MINUTE_MS + 1, DAY_MINUTES))
            names = [symbols[place] for place in minutes[known].tolist()]
            step.aggregates.append(AggregateRows(names, opened[known], since[known], day[:, known], totals[:, minutes[known]]))


def _waves(entries: Iterable[tuple[HistoryTable, int]]) -> list[list[tuple[HistoryTable, int]]]:
    """Entries in waves that hold no symbol and interval twice, each one's own in their order."""
    waves: list[list[tuple[HistoryTable, int]]] = []
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for entry, column in entries:
        key = (entry.symbol, entry.interval)
        if seen[key] == len(waves):
            waves.append([])
        waves[seen[key]].append((entry, column))
        seen[key] += 1
    return waves
