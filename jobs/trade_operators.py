"""The trade windows job's Python operators: thin shells that carry batches to the engine and its results back."""

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyflink.common import Row, Types
from pyflink.datastream.functions import KeyedCoProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.operators import OBJECT, EventTimes, OffsetsCheck, Parsed, Rejected, dead_letter_lines, sorted_by_offset
from klinestream.market import trade_batch
from klinestream.market.batch import KlineBatch
from klinestream.market.codec import encode_event
from klinestream.market.decimals import Ints
from klinestream.market.events import PipelineEvent
from klinestream.market.lines import record_line
from klinestream.market.partitions import partition_of
from klinestream.market.topics import DEAD_LETTERS, KLINES, PIPELINE_EVENTS, TRADE_WINDOWS, TRADES, Topic
from klinestream.market.trade_batch import TradeBatch
from klinestream.market.trade_windows import TradeStep, TradeWindowEngine, TradeWindowSettings

COMPONENT = "jobs/trade_windows"
# The state has some kilobytes a symbol, most of which each batch touches. So it is saved whole now and then, and in between what came:
# after a start the engine takes that again, and is where it was.
_JOURNAL_ENTRIES_MOST = 200
_JOURNAL_ROWS_MOST = 20_000
LINES_MOST = 2000  # of a block
_DIFFERENCES_TOLD = 20  # of a batch; all are counted


@dataclass(frozen=True, slots=True)
class ParsedTrades:
    """A batch of one partition: its trades with their offsets, what was rejected, and the offsets it spans."""

    batch: TradeBatch
    offsets: Ints
    rejected: list[Rejected]
    first: int
    last: int


Entry = tuple[TradeBatch | KlineBatch, str, int]
"""What came: a batch, its topic, and the offset after it."""


def parse_trades(shard: int, partitions: int, lines: Sequence[bytes | None], offsets: Sequence[int], times: Sequence[int]) -> ParsedTrades:
    """The lines of one partition as columns. Raises OffsetsError if a line is missing or there twice."""
    numbers, order = sorted_by_offset(shard, np.asarray(offsets, np.int64))
    stamps, texts = np.asarray(times, np.int64)[order], [lines[i] or b"" for i in order.tolist()]
    batch, places, bad = trade_batch.decode(texts, stamps)
    rejected = [Rejected(int(numbers[line.row]), line.reason, texts[line.row]) for line in bad]
    astray = {s: p for s in set(batch.symbols) if (p := partition_of(s, partitions)) != shard}
    if astray:
        # A symbol on two partitions would have two series.
        keep = np.array([symbol not in astray for symbol in batch.symbols])
        for row in np.flatnonzero(~keep).tolist():
            symbol, place = batch.symbols[row], int(places[row])
            reason = f"s: {symbol} belongs to partition {astray[symbol]} (murmur2)"
            rejected.append(Rejected(int(numbers[place]), reason, texts[place]))
        batch, places = batch.take(np.flatnonzero(keep)), places[keep]
    return ParsedTrades(batch, numbers[places], rejected, int(numbers[0]), int(numbers[-1]))


class ParseTrades(MapFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, lines, offsets, times) → (shard, ParsedTrades)."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def map(self, value: Row) -> tuple[int, ParsedTrades]:
        """Parse one batch."""
        shard, lines, offsets, times = value
        return shard, parse_trades(shard, self.partitions, lines, offsets, times)


class Shard:
    """The engine of a partition, how far its topics have been taken, and how much has come since it was saved."""

    def __init__(self, engine: TradeWindowEngine, offsets: dict[str, int]) -> None:
        self.engine = engine
        self.offsets = offsets
        self.entries = 0
        self.rows = 0

    def take(self, entry: Entry) -> TradeStep:
        """Step the engine over what came."""
        batch, topic, following = entry
        self.offsets[topic] = following
        self.entries += 1
        self.rows += len(batch)
        return self.engine.take_trades(batch) if isinstance(batch, TradeBatch) else self.engine.take_klines(batch)

    @property
    def is_due(self) -> bool:
        """So much has come that it is to be saved whole."""
        return self.entries >= _JOURNAL_ENTRIES_MOST or self.rows >= _JOURNAL_ROWS_MOST


class TradeWindows(KeyedCoProcessFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, ParsedTrades) and (shard, Parsed) → blocks of text for the sink.

    State of a shard: `saved`, the engine's whole state and the offsets, now and then; `journal`, each batch that came since. The engine
    stays in memory, and is made anew from both after a start: it is where it was, since it depends on nothing else.
    """

    def __init__(self, settings: TradeWindowSettings) -> None:
        self.settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Reach for the state; count from zero."""
        self.saved = runtime_context.get_state(ValueStateDescriptor("saved", OBJECT))
        self.journal = runtime_context.get_map_state(MapStateDescriptor("journal", Types.INT(), OBJECT))
        self.shards: dict[int, Shard] = {}
        self.check, self.times = OffsetsCheck(COMPONENT), EventTimes()
        group = runtime_context.get_metrics_group().add_group("klinestream")
        counted = (
            *("trades", "windows", "repeats", "back_in_time", "contradictions", "holes", "dead_letters"),
            *("klines_equal", "klines_different", "klines_unchecked"),
        )
        self.counters = {name: group.counter(name) for name in counted}

    def process_element1(self, value: tuple[int, ParsedTrades], _context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Step the engine over one batch of trades of one shard."""
        shard, parsed = value
        yield from self._take(shard, TRADES, parsed)

    def process_element2(self, value: tuple[int, Parsed], _context: KeyedCoProcessFunction.Context) -> Iterator[Row]:
        """Step the engine over one batch of klines of one shard."""
        shard, parsed = value
        yield from self._take(shard, KLINES, parsed)

    def _take(self, number: int, topic: Topic, parsed: ParsedTrades | Parsed) -> Iterator[Row]:
        now_ms = time.time_ns() // 1_000_000
        shard = self.shards.get(number) or self._restored(number)
        skipped = self.check.skipped(topic.name, number, shard.offsets.get(topic.name), parsed.first, now_ms)
        entry = (parsed.batch, topic.name, parsed.last + 1)
        step = shard.take(entry)
        self._save(shard, entry)
        lines = outputs(number, parsed, step, now_ms, self.times)
        self._count(step, len(lines[DEAD_LETTERS.name]))
        for name, block in lines.items():
            for begin in range(0, len(block), LINES_MOST):
                yield Row(name, str(now_ms), "\n".join(block[begin : begin + LINES_MOST]))
        if skipped:
            yield Row(PIPELINE_EVENTS.name, str(now_ms), skipped)

    def _restored(self, number: int) -> Shard:
        saved = self.saved.value()
        state, offsets = pickle.loads(saved) if saved else (None, {})  # noqa: S301  # our own bytes
        shard = self.shards[number] = Shard(TradeWindowEngine(self.settings, state), offsets)
        for _, entry in sorted(self.journal.items()):
            shard.take(entry)
        return shard

    def _save(self, shard: Shard, entry: Entry) -> None:
        if not shard.is_due:
            self.journal.put(shard.entries, entry)
            return
        # As bytes: PyFlink writes a value at the end of a bundle only, and by then the engine may have gone on.
        self.saved.update(pickle.dumps((shard.engine.state, shard.offsets), pickle.HIGHEST_PROTOCOL))
        self.journal.clear()
        shard.entries = shard.rows = 0

    def _count(self, step: TradeStep, dead_letters: int) -> None:
        counts = {name: getattr(step, name) for name in ("trades", "repeats", "back_in_time", "contradictions", "holes")}
        counts |= {"windows": sum(map(len, step.windows)), "dead_letters": dead_letters, "klines_equal": step.klines_equal}
        counts |= {"klines_different": len(step.differences), "klines_unchecked": step.klines_unchecked}
        for name, count in counts.items():
            self.counters[name].inc(count)


def outputs(shard: int, parsed: ParsedTrades | Parsed, step: TradeStep, now_ms: int, times: EventTimes) -> dict[str, list[str]]:
    """Topic → lines of all that one batch led to."""
    rejected: list[Rejected] = []
    if isinstance(parsed, ParsedTrades):
        # The windows job tells of klines that can't be used.
        rejected = parsed.rejected + [
            Rejected(int(parsed.offsets[row]), reason, encode_event(parsed.batch.trade(row))) for row, reason in step.unusable
        ]
    details = [str(each) for each in step.differences[:_DIFFERENCES_TOLD]]
    if len(step.differences) > _DIFFERENCES_TOLD:
        details.append(f"{len(step.differences) - _DIFFERENCES_TOLD} more of partition {shard} in the same batch")
    events = [PipelineEvent(COMPONENT, "kline_differs", times.next_ms(shard, now_ms), detail) for detail in details]
    return {
        TRADE_WINDOWS.name: [line for rows in step.windows for line in rows.lines()],
        DEAD_LETTERS.name: dead_letter_lines(TRADES, shard, rejected, now_ms),
        PIPELINE_EVENTS.name: [record_line(COMPONENT, now_ms, encode_event(event)) for event in events],
    }
