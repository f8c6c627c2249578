"""Candles again from archived klines, and indicators again from candles.

    klines ─► CandleBuilder ─► candles ─── compared with what was published, field by field
                                 ▼
              published candles, proved so, and the exchange's own ─► Study, from each `since` that was published ─► indicators

An indicator depends on the whole candles from its `since` on, and on nothing else; of each candle on the one that was built, or, where
its klines weren't all there, on the exchange's own. What a repair published is made again by what the repair itself calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa

from klinestream.market import candles
from klinestream.market.batch import KlineBatch
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.candles import CandleBuilder, CandleRows, Minutes, volume
from klinestream.market.decimals import Floats, Ints
from klinestream.market.events import Candle, CandleOrigin
from klinestream.market.intervals import INTERVALS
from klinestream.market.study import Study
from klinestream.replay.kline_columns import numbers, units
from klinestream.replay.proof.columns import CANDLE_FIELDS, as_columns, by_name, indicator_fields
from klinestream.replay.proof.results import INTERVAL, REVISION, SINCE, SYMBOL, TIME, Results, Symbols, floats, whole
from klinestream.replay.repairs.candles import Reach, Versions, reaches, recomputations, republished

NAMES = tuple(INTERVALS)
LENGTHS = np.array(list(INTERVALS.values()), np.int64)
_FIRST_MS, _LAST_MS = 0, 2**62

Series = tuple[str, int]
"""Symbol and number of an interval."""


@dataclass(slots=True)
class CandleReplay:
    """Candles in progress of any number of symbols."""

    settings: CandleSettings
    symbols: Symbols
    columns: dict[str, int] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    """Symbol → open time of the first kline that was taken: of candles that opened before, not all is known."""
    minutes: Minutes | None = None
    longer: Ints | None = None
    builder: CandleBuilder = field(init=False)

    def __post_init__(self) -> None:
        """Goes on from a state."""
        self.builder = CandleBuilder(self.settings.ascending, self.minutes, self.longer, provisional=False)

    def step(self, feed: KlineBatch, following: dict[str, int]) -> Results:
        """Take the klines of a stretch; `following`: symbol → open time of its first kline after it. What closed, as candles."""
        for symbol, opened in zip(feed.symbols, feed.open_times.tolist(), strict=True):
            if symbol not in self.columns:
                self.columns[symbol] = len(self.columns)
                self.began[symbol] = opened
        self.builder.grow(len(self.columns))
        closed = self.builder.step(feed, np.array([self.columns[symbol] for symbol in feed.symbols], np.int64)).closed
        after = {self.columns[symbol]: opened for symbol, opened in following.items() if symbol in self.columns}
        if after:
            closed += self.builder.passed(np.array(list(after), np.int64), np.array(list(after.values()), np.int64)).closed
        return Results.joined([self._results(rows) for rows in closed], CANDLE_FIELDS)

    def _results(self, rows: CandleRows) -> Results:
        names = list(self.columns)
        held = self.symbols.numbers(names[column] for column in rows.columns.tolist())
        zeros = np.zeros(len(held), np.int64)
        table = rows.table
        prices = [table[row] for row in (candles.OPEN, candles.HIGH, candles.LOW, candles.CLOSE)]
        volumes = [part for unit, _ in candles.VOLUMES for part in volume(table, unit)]
        ids = [table[candles.FIRST_ID], table[candles.LAST_ID]]
        values = np.stack([whole(column) for column in (*prices, *volumes, table[candles.TRADES], *ids, table[candles.COUNT])])
        keys = np.stack([held, zeros + NAMES.index(rows.interval), rows.open_times, zeros, zeros])
        return Results(CANDLE_FIELDS, keys, values)


@dataclass(slots=True)
class Run:
    """Indicators along the whole candles from `since` on."""

    last: int
    """Open time of the newest candle that was taken; `since` less one interval before the first."""
    values: Floats
    told: int
    """Open time of the newest candle of which it was published: a job that starts without its state ends its runs."""

    @classmethod
    def begun(cls, since: int, interval: int, study: Study) -> "Run":
        """Before its first candle."""
        before = since - int(LENGTHS[interval])
        return cls(before, study.init(1)[:, 0], before)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whole candles, one each that is there, in order of series and time: what runs go along."""

    series: Ints  # symbol's number * 8 + interval's
    table: Ints

    @classmethod
    def of(cls, table: pa.Table, symbols: Symbols) -> "Chosen":
        """The built one where it is whole, else the exchange's first word."""
        if not len(table):
            return cls(np.zeros(0, np.int64), np.zeros((candles.HEIGHT, 0), np.int64))
        built = by_name(table.column("origin"), lambda name: int(name == CandleOrigin.BUILT)) == 1
        table = table.filter(pa.array(~built | table.column("complete").to_numpy()))
        series = by_name(table.column("symbol"), symbols.number) * 8 + by_name(table.column("interval"), NAMES.index)
        times = numbers(table.column("open_time_ms"))
        order = np.lexsort((numbers(table.column("revision")), times, series))
        first = order[np.append(True, (np.diff(series[order]) != 0) | (np.diff(times[order]) != 0))[: len(order)]]
        return cls(series[first], as_columns(table.take(pa.array(first))))

    def after(self, series: int, first: int, length: int, until_ms: int) -> Ints:
        """The candles in a row from the one that opens at `first`, those that close up to `until_ms`."""
        begin, end = np.searchsorted(self.series, [series, series + 1])
        times = self.table[candles.BEGAN, begin:end]
        at = int(np.searchsorted(times, first))
        there = times[at:] == first + np.arange(len(times) - at) * length
        count = int(np.argmin(there)) if not there.all() else len(there)
        count = min(count, max(0, (until_ms - first) // length))
        return self.table[:, begin + at : begin + at + count]


@dataclass(slots=True)
class IndicatorReplay:
    """The runs of any number of symbols and intervals."""

    settings: CandleSettings
    symbols: Symbols
    runs: dict[tuple[str, int, int], Run] = field(default_factory=dict)
    """Symbol, number of the interval, since."""
    study: Study = field(init=False)
    fields: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Indicators and rules as the settings have them."""
        self.study = Study(self.settings.indicators, self.settings.signals)
        self.fields = indicator_fields(self.study.names)

    def begin(self, published: Results) -> None:
        """Begin the runs that were published and aren't known, and note of all how far they were."""
        for symbol, interval, time, since, revision in np.unique(
            published.keys[[SYMBOL, INTERVAL, TIME, SINCE, REVISION]], axis=1
        ).T.tolist():
            if not revision:
                key = self.symbols.names[symbol], interval, since
                run = self.runs.setdefault(key, Run.begun(since, interval, self.study))
                run.told = max(run.told, time)

    def lacking(self, symbol: str, interval: int, opened: int) -> None:
        """A whole candle of which nothing was published: it would have had indicators, if only of a run of its own."""
        self.runs.setdefault((symbol, interval, opened), Run.begun(opened, interval, self.study))

    def needed_from_ms(self, symbols: Iterable[str]) -> int:
        """Open time of the first candle that a run of theirs needs."""
        mine = set(symbols)
        firsts = (run.last + int(LENGTHS[interval]) for (symbol, interval, _), run in self.runs.items() if symbol in mine)
        return min(firsts, default=_LAST_MS)

    def step(self, symbols: Iterable[str], chosen: Chosen, span: tuple[int, int]) -> Results:
        """Carry the runs of some symbols on to the end of a stretch; the indicators of candles that close within it."""
        mine = set(symbols)
        work = []
        for (symbol, interval, since), run in self.runs.items():
            if symbol in mine:
                length = int(LENGTHS[interval])
                table = chosen.after(self.symbols.number(symbol) * 8 + interval, run.last + length, length, span[1])
                if table.shape[1]:
                    work.append(((self.symbols.number(symbol), interval, since), run, table))
        return self._carried(sorted(work, key=lambda one: -one[2].shape[1]), span)

    def _carried(self, work: list[tuple[tuple[int, int, int], Run, Ints]], span: tuple[int, int]) -> Results:
        """All side by side: the first candle of each, then the second, …"""
        if not work:
            return Results.none(self.fields)
        lengths = np.array([table.shape[1] for _, _, table in work])
        tables = np.zeros((candles.HEIGHT, lengths[0], len(work)), np.int64)
        for place, (_, _, table) in enumerate(work):
            tables[:, : lengths[place], place] = table
        state = np.stack([run.values for _, run, _ in work], axis=1)
        identity = np.array([key for key, _, _ in work], np.int64).T
        parts = []
        for moment in range(lengths[0]):
            there = np.arange(np.count_nonzero(lengths > moment))
            table = tables[:, moment, : len(there)]
            values, ready, _, _ = self.study.update(state, there, table)
            keys = np.stack([*identity[:2, there], table[candles.BEGAN], identity[2, there], np.zeros(len(there), np.int64)])
            rows = np.concatenate([floats(candles.price(table, candles.CLOSE))[None], floats(values), whole(ready)])
            closes = table[candles.BEGAN] + LENGTHS[identity[1, there]]
            parts.append(Results(self.fields, keys, rows).take((closes > span[0]) & (closes <= span[1])))
        for place, (_, run, table) in enumerate(work):
            run.last, run.values = int(table[candles.BEGAN, -1]), state[:, place].copy()
        return Results.joined(parts, self.fields)

    def prune(self, before_ms: int) -> None:
        """Forget runs of which nothing was published for long. One that goes on after all begins anew, at its `since`."""
        for key in [key for key, run in self.runs.items() if run.told + 3 * int(LENGTHS[key[1]]) + 86_400_000 < before_ms]:
            del self.runs[key]


def repaired(replay: IndicatorReplay, table: pa.Table, published: Results) -> Results:
    """Indicators with a revision, of what was corrected by then: those that were published."""
    found = []
    reach = reaches(replay.settings)
    series = {(symbol, interval) for symbol, interval in published.keys[[SYMBOL, INTERVAL]].T.tolist()}
    for symbol, interval in sorted(series):
        rows = published.keys[:, (published.keys[SYMBOL] == symbol) & (published.keys[INTERVAL] == interval)]
        wanted = {tuple(column) for column in rows.T.tolist()}
        versions = versions_of(table, replay.symbols.names[symbol], reach[NAMES[interval]])
        for revision in sorted({column[REVISION] for column in wanted}, reverse=True):
            if not any(column[REVISION] == revision for column in wanted):
                continue
            state = _recomputed(replay, until(versions, revision), interval)
            keep = np.array([tuple(column) in wanted for column in state.keys.T.tolist()], np.bool_)
            found.append(state.take(keep))
            wanted -= {tuple(column) for column in state.keys[:, keep].T.tolist()}
    return Results.joined(found, replay.fields)


def until(versions: Versions, revision: int) -> Versions:
    """What was known up to a revision."""
    own = {opened: {at: one for at, one in words.items() if at < revision} for opened, words in versions.own.items()}
    kept = Versions(versions.symbol, versions.reach, versions.built)
    kept.own.update({opened: words for opened, words in own.items() if words})
    return kept


def versions_of(table: pa.Table, symbol: str, reach: Reach) -> Versions:
    """All that was published of the candles of a symbol and interval."""
    found = Versions(symbol, reach)
    names = table.column("symbol").to_pylist(), table.column("interval").to_pylist()
    mine = np.array([each == (symbol, reach.interval) for each in zip(*names, strict=True)], np.bool_)
    rows = table.filter(pa.array(mine)) if len(table) else table
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    for name in ("open", "high", "low", "close"):
        columns[name] = units(rows.column(name)).tolist() if len(rows) else []
    for name in ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume"):
        columns[name] = [int(value.scaleb(8)) for value in columns[name]]
    for values in zip(*columns.values(), strict=True):
        found.add(Candle(**dict(zip(columns, values, strict=True))))
    return found


def _recomputed(replay: IndicatorReplay, versions: Versions, interval: int) -> Results:
    parts = recomputations(versions, _FIRST_MS, _LAST_MS).parts
    keys, values = [], []
    for one in republished(parts, replay.settings):
        record = orjson.loads(one.indicators.split("\t")[2])
        told = [np.nan if value is None else value for value in record["values"].values()]
        ready = [name not in record["unready"] for name in record["values"]]
        keys.append((replay.symbols.number(one.symbol), interval, one.open_time_ms, one.since_ms, one.revision))
        values.append((*floats(np.array([record["c"], *told], np.float64)), *whole(np.array(ready))))
    if not keys:
        return Results.none(replay.fields)
    return Results(replay.fields, np.array(keys, np.int64).T.copy(), np.array(values, np.uint64).T.copy())
