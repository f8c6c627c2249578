"""The candles job's Python operators: thin shells that carry batches to the engine and its results back."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from pyflink.common import Row, Types
from pyflink.datastream.functions import KeyedCoProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.operators import OBJECT, OffsetsCheck, Parsed, Rejected, dead_letter_lines, sorted_by_offset
from klinestream.market.candle_engine import CandleEngine, CandleSettings, CandleState, CandleStep
from klinestream.market.candle_history import HistoryTable, decode_history
from klinestream.market.candle_lines import (
    aggregate_lines,
    built_lines,
    history_lines,
    indicator_lines,
    provisional_lines,
    signal_lines,
    signals_of,
)
from klinestream.market.chains import Saved
from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import (
    AGGREGATES,
    CANDLE_HISTORY,
    CANDLES,
    DEAD_LETTERS,
    INDICATORS,
    KLINES,
    PIPELINE_EVENTS,
    PROVISIONAL_CANDLES,
    SIGNALS,
    Topic,
)

# History is taken in turns, a slice of each of many series side by side: the more series, the less each costs, so turns are a
# second apart. A turn takes some tens of milliseconds and gives some megabytes of text; then live klines have at least twice as
# long for themselves, and while they lag behind a turn is passed over, but not for ever. Klines older than that are replayed.
SLICE = 50
SERIES_AT_ONCE = 64
TURNS_APART_MS = 1000
LAGGING_MS = range(2000, 300_000)
PASSED_OVER_MOST = 5
# Flink may restore a job without a timer that was set when its checkpoint was taken: then klines wake what waits.
TURN_LATE_MS = 10_000
_LIVE_SHARE = 2
LINES_MOST = 2000  # of a block


@dataclass(frozen=True, slots=True)
class ParsedHistory:
    """A batch of one partition of `crypto_candle_history`: its candles, what was rejected, and the offsets it spans."""

    tables: list[HistoryTable]
    rejected: list[Rejected]
    first: int
    last: int


def parse_history(shard: int, partitions: int, lines: Sequence[bytes | None], offsets: Sequence[int]) -> ParsedHistory:
    """The records of one partition as tables. Raises OffsetsError if one is missing or there twice."""
    numbers, order = sorted_by_offset(shard, np.asarray(offsets, np.int64))
    tables: list[HistoryTable] = []
    rejected: list[Rejected] = []
    for offset, place in zip(numbers.tolist(), order.tolist(), strict=True):
        line = lines[place] or b""
        try:
            table = decode_history(line, offset)
            if (home := partition_of(table.symbol, partitions)) != shard:
                raise RecordError(f"s: {table.symbol} belongs to partition {home} (murmur2)")
        except RecordError as error:
            rejected.append(Rejected(offset, str(error), line))
        else:
            tables.append(table)
    return ParsedHistory(tables, rejected, int(numbers[0]), int(numbers[-1]))


def slices(table: HistoryTable) -> Iterator[HistoryTable]:
    """A record in parts of so many candles that a turn takes of it."""
    for begin in range(0, table.table.shape[1], SLICE):
        yield replace(table, table=table.table[:, begin : begin + SLICE])


def slice_key(table: HistoryTable, number: int) -> str:
    """Of a record's slice in the state: the keys of a series ascend as its slices came, and end with its name."""
    return f"{table.revision:020d}:{number:04d}:{table.interval}:{table.symbol}"


class HistoryLine:
    """Keys of slices of history in line: those of a series in their order, series in the order in which they came.

    What they hold stands in the state until its turn: after a start without one, that is the whole topic.
    """

    def __init__(self) -> None:
        self._series: dict[str, dict[str, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._series)

    def add(self, key: str) -> None:
        """Put one in line; keys ascend."""
        _, _, series = key.split(":", 2)
        self._series.setdefault(series, {})[key] = None

    def turn(self) -> list[str]:
        """The next one of each of the first series; they are in line no longer."""
        found: list[str] = []
        for series in list(islice(self._series, SERIES_AT_ONCE)):
            keys = self._series[series]
            found.append(key := next(iter(keys)))
            del keys[key]
            if not keys:
                del self._series[series]
        return found


class ParseHistory(MapFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, lines, offsets, times) → (shard, ParsedHistory)."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def map(self, value: Row) -> tuple[int, ParsedHistory]:
        """Parse one batch."""
        shard, lines, offsets, _ = value
        return shard, parse_history(shard, self.partitions, lines, offsets)


class Candles(KeyedCoProcessFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, Parsed) and (shard, ParsedHistory) → blocks of text for the sink.

    State of a shard, by how often it changes: `offsets` and `minutes` with each batch of klines; `longer`, the live runs of an
    interval in `chains`, and a slot of `day` with each closed candle; with history a column's own entries in `chains` and `day`;
    `names` with a new symbol; `backlog` holds history by offset until its turn has come. The engine of a shard stays in memory
    and writes through: state is read once, after a start; but of `backlog` a turn reads what it takes, and only keys are in memory.
    """

    def __init__(self, settings: CandleSettings) -> None:
        self.settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Reach for the state; count from zero."""
        values = {name: runtime_context.get_state(ValueStateDescriptor(name, OBJECT)) for name in ("offsets", "minutes", "longer", "names")}
        self.offsets, self.minutes, self.longer, self.names = values.values()
        self.chains = runtime_context.get_map_state(MapStateDescriptor("chains", Types.STRING(), OBJECT))
        self.day = runtime_context.get_map_state(MapStateDescriptor("day", Types.INT(), OBJECT))
        self.backlog = runtime_context.get_map_state(MapStateDescriptor("backlog", Types.STRING(), OBJECT))
        self.engines: dict[int, CandleEngine] = {}
        self.lines: dict[int, HistoryLine] = {}
        self.newest_ms: dict[int, int] = {}
        self.due_ms: dict[int, int] = {}  # of the timer that counts; none after a start
        self.passed_over: Counter[int] = Counter()
        self.check = OffsetsCheck("jobs/candles")
        group = runtime_context.get_metrics_group().add_group("klinestream")
        counted = ("klines", "repeats", "candles", "history", "studied", "joined", "signals", "dead_letters")
        self.counters = {name: group.counter(name) for name in counted}

    def process_element1(self, value: tuple[int, Parsed], context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Step the engine over one batch of klines of one shard."""
        shard, parsed = value
        now_ms = time.time_ns() // 1_000_000
        yield from self._checked(KLINES, shard, parsed.first, parsed.last, now_ms)
        engine = self._engine(shard)
        step = engine.step(parsed.batch)
        if len(parsed.batch):
            self.newest_ms[shard] = int(parsed.batch.open_times[-1]) + SECOND_MS
        self.minutes.update(engine.builder.minutes)
        yield from self._results(engine, step, now_ms)
        if self.lines[shard] and context.timer_service().current_processing_time() > self.due_ms.get(shard, 0) + TURN_LATE_MS:
            self._wake(shard, context, TURNS_APART_MS)

    def process_element2(self, value: tuple[int, ParsedHistory], context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Put one batch of history of one shard in line."""
        shard, parsed = value
        now_ms = time.time_ns() // 1_000_000
        yield from self._checked(CANDLE_HISTORY, shard, parsed.first, parsed.last, now_ms)
        if parsed.rejected:
            # The windows job tells of klines that can't be used; nobody else reads history.
            self.counters["dead_letters"].inc(len(parsed.rejected))
            yield Row(DEAD_LETTERS.name, str(now_ms), "\n".join(dead_letter_lines(CANDLE_HISTORY, shard, parsed.rejected, now_ms)))
        self._engine(shard)
        if parsed.tables and not self.lines[shard]:  # else a timer is set
            self._wake(shard, context, TURNS_APART_MS)
        for table in parsed.tables:
            for number, part in enumerate(slices(table)):
                key = slice_key(table, number)
                self.backlog.put(key, part)
                self.lines[shard].add(key)

    def on_timer(self, timestamp: int, context: KeyedCoProcessFunction.OnTimerContext) -> Iterator[Row]:
        """Take a turn of the history that is in line, and set a timer for the next one."""
        shard, now_ms, began_s = context.get_current_key(), time.time_ns() // 1_000_000, time.monotonic()
        engine, line = self._engine(shard), self.lines[shard]
        if self.due_ms.get(shard, timestamp) != timestamp:
            return
        if now_ms - self.newest_ms.get(shard, now_ms) in LAGGING_MS and self.passed_over[shard] < PASSED_OVER_MOST:
            self.passed_over[shard] += 1
            self._wake(shard, context, TURNS_APART_MS)
            return
        self.passed_over[shard] = 0
        keys = line.turn()
        parts = [self.backlog.get(key) for key in keys]
        for key in keys:
            self.backlog.remove(key)
        yield from self._results(engine, engine.take(parts), now_ms)
        if line:
            self._wake(shard, context, max(TURNS_APART_MS, int(_LIVE_SHARE * 1000 * (time.monotonic() - began_s))))

    def _checked(self, topic: Topic, shard: int, first: int, last: int, now_ms: int) -> Iterator[Row]:
        """Check that a batch continues its partition, and remember where it ends."""
        offsets: dict[str, int] = self.offsets.value() or {}
        skipped = self.check.skipped(topic.name, shard, offsets.get(topic.name), first, now_ms)
        self.offsets.update(offsets | {topic.name: last + 1})
        if skipped:
            yield Row(PIPELINE_EVENTS.name, str(now_ms), skipped)

    def _results(self, engine: CandleEngine, step: CandleStep, now_ms: int) -> Iterator[Row]:
        """Save what a step changed, count it, and give out what it led to."""
        self._save(engine, step)
        lines = outputs(engine, step)
        self._count(step, len(lines[SIGNALS.name]))
        for name, block in lines.items():
            for begin in range(0, len(block), LINES_MOST):
                yield Row(name, str(now_ms), "\n".join(block[begin : begin + LINES_MOST]))

    def _wake(self, shard: int, context: KeyedCoProcessFunction.Context, after_ms: int) -> None:
        """Set the timer for the next turn; one that was set before counts no more."""
        timers = context.timer_service()
        self.due_ms[shard] = timers.current_processing_time() + after_ms
        timers.register_processing_time_timer(self.due_ms[shard])

    def _engine(self, shard: int) -> CandleEngine:
        return self.engines.get(shard) or self._restored(shard)

    def _restored(self, shard: int) -> CandleEngine:
        chains: dict[str, Saved] = defaultdict(dict)
        for key, part in self.chains.items():
            interval, column = key.split(":")
            chains[interval][int(column)] = part
        state = CandleState(self.names.value(), self.minutes.value(), self.longer.value(), chains, self.day)
        self.engines[shard] = CandleEngine(self.settings, state)
        self.lines[shard] = HistoryLine()
        for key in sorted(self.backlog.keys()):
            self.lines[shard].add(key)
        return self.engines[shard]

    def _save(self, engine: CandleEngine, step: CandleStep) -> None:
        if step.names_changed:
            self.names.update(engine.names)
        if step.closed:
            self.longer.update(engine.builder.longer)
        for interval, chain in engine.chains.items():
            for column, part in chain.changes().items():
                if part is None:
                    self.chains.remove(f"{interval}:{column}")
                else:
                    self.chains.put(f"{interval}:{column}", part)

    def _count(self, step: CandleStep, signals: int) -> None:
        counts = Counter(klines=step.klines, repeats=step.repeats, joined=step.joined, signals=signals)
        counts["candles"] = sum(len(rows.columns) for rows in step.closed)
        counts["history"] = sum(entry.table.shape[1] for entry in step.history)
        counts["studied"] = sum(len(rows) for rows in step.studies)
        for name, count in counts.items():
            self.counters[name].inc(count)


def outputs(engine: CandleEngine, step: CandleStep) -> dict[str, list[str]]:
    """Topic → lines of all that one batch led to."""
    intervals = engine.builder.intervals
    return {
        CANDLES.name: [*built_lines(step, engine.symbols), *history_lines(step)],
        PROVISIONAL_CANDLES.name: [
            line for rows in step.provisional for line in provisional_lines(engine.symbols(rows.columns), intervals, rows)
        ],
        INDICATORS.name: [line for rows in step.studies for line in indicator_lines(rows)],
        SIGNALS.name: signal_lines(signal for rows in step.studies for signal in signals_of(rows)),
        AGGREGATES.name: [line for rows in step.aggregates for line in aggregate_lines(rows)],
    }
