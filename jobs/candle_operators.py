"""The candles job's Python operators: thin shells that carry batches to the engine and its results back."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
from klinestream.market.errors import RecordError
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
)


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

    State of a shard, by how often it changes: `offsets` and `minutes` with each batch of klines; `longer`, one entry of `chains`
    an interval, and one slot of `day` with each closed candle; `names` with a new symbol. The engine of a shard stays in memory
    and writes through: state is read once, after a start.
    """

    def __init__(self, settings: CandleSettings) -> None:
        self.settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Reach for the state; count from zero."""
        values = {name: runtime_context.get_state(ValueStateDescriptor(name, OBJECT)) for name in ("offsets", "minutes", "longer", "names")}
        self.offsets, self.minutes, self.longer, self.names = values.values()
        self.chains = runtime_context.get_map_state(MapStateDescriptor("chains", Types.STRING(), OBJECT))
        self.day = runtime_context.get_map_state(MapStateDescriptor("day", Types.INT(), OBJECT))
        self.engines: dict[int, CandleEngine] = {}
        self.check = OffsetsCheck("jobs/candles")
        group = runtime_context.get_metrics_group().add_group("klinestream")
        counted = ("klines", "repeats", "candles", "history", "studied", "joined", "signals", "dead_letters")
        self.counters = {name: group.counter(name) for name in counted}

    def process_element1(self, value: tuple[int, Parsed], _context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Step the engine over one batch of klines of one shard."""
        return self._process(*value)

    def process_element2(self, value: tuple[int, ParsedHistory], _context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Let the engine take one batch of history of one shard."""
        return self._process(*value)

    def _process(self, shard: int, parsed: Parsed | ParsedHistory) -> Iterator[Row]:
        now_ms = time.time_ns() // 1_000_000
        engine = self.engines.get(shard) or self._restored(shard)
        topic = KLINES.name if isinstance(parsed, Parsed) else CANDLE_HISTORY.name
        offsets: dict[str, int] = self.offsets.value() or {}
        skipped = self.check.skipped(topic, shard, offsets.get(topic), parsed.first, now_ms)
        step = engine.step(parsed.batch) if isinstance(parsed, Parsed) else engine.take(parsed.tables)
        self.offsets.update(offsets | {topic: parsed.last + 1})
        self._save(engine, step, isinstance(parsed, Parsed))
        lines = outputs(engine, step)
        if isinstance(parsed, ParsedHistory):
            # The windows job tells of klines that can't be used; nobody else reads history.
            lines[DEAD_LETTERS.name] = dead_letter_lines(CANDLE_HISTORY, shard, parsed.rejected, now_ms)
            self.counters["dead_letters"].inc(len(parsed.rejected))
        self._count(step, len(lines[SIGNALS.name]))
        for name, block in lines.items():
            if block:
                yield Row(name, str(now_ms), "\n".join(block))
        if skipped:
            yield Row(PIPELINE_EVENTS.name, str(now_ms), skipped)

    def _restored(self, shard: int) -> CandleEngine:
        chains = dict(self.chains.items())
        state = CandleState(self.names.value(), self.minutes.value(), self.longer.value(), chains, self.day)
        self.engines[shard] = CandleEngine(self.settings, state)
        return self.engines[shard]

    def _save(self, engine: CandleEngine, step: CandleStep, minutes_changed: bool) -> None:
        if step.names_changed:
            self.names.update(engine.names)
        if minutes_changed:
            self.minutes.update(engine.builder.minutes)
        if step.closed:
            self.longer.update(engine.builder.longer)
        for interval in step.chains_changed:
            self.chains.put(interval, engine.chains[interval].state)

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
