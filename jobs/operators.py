"""The Python operators of the jobs: thin shells that carry batches to the engine and its results back."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pyflink.common import Row, Types
from pyflink.datastream.functions import KeyedProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from klinestream.market import batch as klines
from klinestream.market.batch import KlineBatch
from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.decimals import Ints
from klinestream.market.errors import OffsetsError
from klinestream.market.events import DeadLetter, LateKline, PipelineEvent
from klinestream.market.lines import record_line, window_lines
from klinestream.market.partitions import partition_of
from klinestream.market.topics import DEAD_LETTERS, KLINE_REPAIRS, KLINES, LATE_DATA, PIPELINE_EVENTS, SYMBOL_PARTITIONS, WINDOWS, Topic
from klinestream.market.windows import Step, WindowEngine, WindowSettings

# A type of its own for the engine's Python objects: pickled by PyFlink as they cross to the JVM and back.
OBJECT = Types.PICKLED_BYTE_ARRAY()
PARSED = Types.TUPLE([Types.INT(), OBJECT])
BLOCK = Types.ROW_NAMED(["topic", "published", "block"], [Types.STRING(), Types.STRING(), Types.STRING()])


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line of the feed that could not be used."""

    offset: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """A batch of one partition: its klines with their offsets, what was rejected, and the offsets it spans."""

    batch: KlineBatch
    offsets: Ints
    rejected: list[Rejected]
    first: int
    last: int


def in_order(offsets: Ints) -> bool:
    """Whether offsets follow each other without a break."""
    return bool(np.all(offsets[1:] == offsets[:-1] + 1))


def sorted_by_offset(shard: int, offsets: Ints) -> tuple[Ints, Ints]:
    """Offsets in order, and where each stood. Raises OffsetsError if one is missing or there twice."""
    if in_order(offsets):
        return offsets, np.arange(len(offsets))
    order = np.argsort(offsets, kind="stable")
    if not in_order(offsets[order]):
        first, last = offsets[order[0]], offsets[order[-1]]
        raise OffsetsError(f"expected consecutive offsets of partition {shard}, got a batch with a break between {first} and {last}")
    return offsets[order], order


class EventTimes:
    """When a job's events are told: no two of a kind at the same millisecond, since a component, an event and its time are one event.

    Shards run side by side and know nothing of each other, so they take turns at the milliseconds.
    """

    def __init__(self) -> None:
        """None told yet."""
        self._last: dict[int, int] = {}

    def next_ms(self, shard: int, now_ms: int) -> int:
        """The time of the next event.

        >>> times = EventTimes()
        >>> times.next_ms(0, 1001), times.next_ms(1, 1001), times.next_ms(0, 1001)
        (1000, 1001, 1004)
        """
        turn_ms = now_ms - now_ms % SYMBOL_PARTITIONS + shard
        self._last[shard] = max(turn_ms, self._last.get(shard, 0) + SYMBOL_PARTITIONS)
        return self._last[shard]


class OffsetsCheck:
    """Checks that batches continue their partitions. The first one after a restore may not: then an event says so."""

    def __init__(self, component: str) -> None:
        """`component`: which part the event is from."""
        self._component = component
        self._times = EventTimes()
        self._seen: set[tuple[str, int]] = set()

    def skipped(self, topic: str, shard: int, expected: int | None, first: int, now_ms: int) -> str | None:
        """The line of the event, or None where all is well. Raises OffsetsError on a break in the middle."""
        new = (topic, shard) not in self._seen
        self._seen.add((topic, shard))
        if expected in (None, first):
            return None
        said = f"partition {shard} of {topic}: expected offset {expected}, got {first}"
        if not new:
            raise OffsetsError(f"{said}: a batch was lost or came twice; the job resumes from its checkpoint")
        detail = f"{said}: the records between were deleted, or the topic was made anew"
        event = PipelineEvent(self._component, "offsets_skipped", self._times.next_ms(shard, now_ms), detail)
        return record_line(self._component, now_ms, encode_event(event))


def dead_letter_lines(topic: Topic, shard: int, rejected: Sequence[Rejected], now_ms: int) -> list[str]:
    """Lines of `crypto_dead_letters`."""
    letters = (DeadLetter.of(bad.reason, topic.name, bad.raw, now_ms, partition=shard, offset=bad.offset) for bad in rejected)
    return [record_line("", now_ms, encode_event(letter)) for letter in letters]


def parse(shard: int, partitions: int, lines: Sequence[bytes | None], offsets: Sequence[int], times: Sequence[int]) -> Parsed:
    """The lines of one partition as columns. Raises OffsetsError if a line is missing or there twice."""
    numbers, order = sorted_by_offset(shard, np.asarray(offsets, np.int64))
    stamps, texts = np.asarray(times, np.int64)[order], [lines[i] or b"" for i in order.tolist()]
    batch, places, bad = klines.decode(texts, stamps)
    rejected = [Rejected(int(numbers[line.row]), line.reason, texts[line.row]) for line in bad]
    astray = {s: p for s in set(batch.symbols) if (p := partition_of(s, partitions)) != shard}
    if astray:
        batch, places, more = _without(batch, places, astray, numbers, texts)
        rejected += more
    return Parsed(batch, numbers[places], rejected, int(numbers[0]), int(numbers[-1]))


def _without(
    batch: KlineBatch, places: Ints, astray: dict[str, int], offsets: Ints, texts: Sequence[bytes]
) -> tuple[KlineBatch, Ints, list[Rejected]]:
    """A symbol on two partitions would have two series: the lines on the wrong one are rejected."""
    keep = np.array([symbol not in astray for symbol in batch.symbols])
    rejected = [
        Rejected(int(offsets[place]), f"s: {symbol} belongs to partition {astray[symbol]} (murmur2)", texts[place])
        for symbol, place in zip(batch.symbols, places.tolist(), strict=True)
        if symbol in astray
    ]
    return batch.take(np.flatnonzero(keep)), places[keep], rejected


class Parse(MapFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, lines, offsets, times) → (shard, Parsed)."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def map(self, value: Row) -> tuple[int, Parsed]:
        """Parse one batch."""
        shard, lines, offsets, times = value
        return shard, parse(shard, self.partitions, lines, offsets, times)


class Windows(KeyedProcessFunction):  # type: ignore[misc]  # PyFlink ships no types
    """(shard, Parsed) → blocks of text for the sink.

    State of a shard, by how often it changes: `hot` with each batch, `seconds` one slot a second, `names` with a new symbol or hole.
    """

    def __init__(self, settings: WindowSettings) -> None:
        self.settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        """Reach for the state; count from zero."""
        self.hot = runtime_context.get_state(ValueStateDescriptor("hot", OBJECT))
        self.names = runtime_context.get_state(ValueStateDescriptor("names", OBJECT))
        self.seconds = runtime_context.get_map_state(MapStateDescriptor("seconds", Types.INT(), OBJECT))
        self.check = OffsetsCheck("jobs/windows")
        group = runtime_context.get_metrics_group().add_group("klinestream")
        counted = ("klines", "windows", "repeats", "late", "repairs", "holes", "dead_letters")
        self.counters = {name: group.counter(name) for name in counted}

    def process_element(self, value: tuple[int, Parsed], _context: KeyedProcessFunction.Context) -> Iterator[Row]:
        """Step the engine over one batch of one shard."""
        shard, parsed = value
        state, expected = self.hot.value() or (None, None)
        now_ms = time.time_ns() // 1_000_000
        skipped = self.check.skipped(KLINES.name, shard, expected, parsed.first, now_ms)
        engine = WindowEngine(self.settings, state, self.names.value(), self.seconds)
        step = engine.step(parsed.batch)
        self.hot.update((engine.state, parsed.last + 1))
        if step.names_changed:
            self.names.update(engine.names)
        self._count(step, parsed)
        for topic, lines in outputs(shard, parsed, step, now_ms).items():
            yield Row(topic, str(now_ms), "\n".join(lines))
        if skipped:
            yield Row(PIPELINE_EVENTS.name, str(now_ms), skipped)

    def _count(self, step: Step, parsed: Parsed) -> None:
        published = sum(len(rows.symbols) * len(rows.ends) for rows in step.windows)
        counts = (step.klines, published, step.repeats, len(step.late), len(step.repairs), step.holes, len(parsed.rejected))
        for counter, count in zip(self.counters.values(), counts, strict=True):
            counter.inc(count)


def outputs(shard: int, parsed: Parsed, step: Step, now_ms: int) -> dict[str, list[str]]:
    """Topic → lines of all that one batch led to."""
    windows = [line for rows in step.windows for line in window_lines(rows)]
    late = [LateKline(reason, shard, int(parsed.offsets[row]), parsed.batch.kline(row)) for row, reason in step.late]
    repairs = [parsed.batch.kline(row) for row in step.repairs]
    lines = {
        WINDOWS.name: windows,
        DEAD_LETTERS.name: dead_letter_lines(KLINES, shard, parsed.rejected, now_ms),
        LATE_DATA.name: [record_line(entry.kline.symbol, entry.kline.close_time_ms, encode_event(entry)) for entry in late],
        KLINE_REPAIRS.name: [record_line(kline.symbol, kline.close_time_ms, encode_kline(kline)) for kline in repairs],
    }
    return {topic: entries for topic, entries in lines.items() if entries}
