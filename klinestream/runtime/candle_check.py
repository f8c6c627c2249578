"""Candles that were built here beside the exchange's own: the topic read once, then REST asked series after series."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from klinestream.market import decimals
from klinestream.market.codec import decode_event
from klinestream.market.errors import BrokerError, ConfigError, ExchangeError, RecordError
from klinestream.market.events import SECOND_MS, Candle, CandleOrigin, Kind, wire_fields
from klinestream.market.history import ROW, Row, checked_row
from klinestream.market.intervals import INTERVALS
from klinestream.market.partitions import partition_of
from klinestream.market.topics import CANDLES
from klinestream.runtime.feed_check import CLIENT_ID, patiently
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.rest import CANDLES_MOST, PassingError, Rest
from klinestream.runtime.sections import KafkaConfig

BUILT_MOST = 1_000_000
"""Candles that are checked at most in one go: they are held in memory."""
TOLD_MOST = 1000
"""Mismatches that a report holds; all are counted."""
_POLL_S = 0.5
_SILENCE_S = 15.0
_KLINES = "klines"

Series = tuple[str, str]
"""Symbol and interval."""
Span = tuple[int, int]
Told = Callable[[int, int], object]
"""Called with how much is done, and of how much."""


@dataclass(frozen=True, slots=True)
class CandleMismatch:
    """A field of a built candle that isn't what the exchange says; `klines` where it wasn't built from as many as it should."""

    symbol: str
    interval: str
    open_time_ms: int
    field: str
    """Wire name."""
    built: str
    exchange: str


@dataclass(slots=True)
class BuiltCandles:
    """The built, complete candles of a span, by series; of several records of a candle all that differ."""

    of: dict[Series, dict[int, list[Candle]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    incomplete: int = 0
    """Built ones in which klines were missing: the exchange's own takes their place."""
    unusable: int = 0
    held: int = 0

    def add(self, candle: Candle) -> None:
        """Take one in, if it was built. Raises ConfigError if they become too many."""
        if candle.origin != CandleOrigin.BUILT:
            return
        if not candle.complete:
            self.incomplete += 1
            return
        known = self.of[candle.symbol, candle.interval][candle.open_time_ms]
        if all(_values(candle) != _values(other) for other in known):
            known.append(candle)
            self.held += 1
        if self.held > BUILT_MOST:
            raise ConfigError(f"--since, --symbols: expected up to {BUILT_MOST:,} candles to check: ask for less time, or fewer symbols")


@dataclass(slots=True)
class CandleFindings:
    """What was found."""

    checked: Counter[str] = field(default_factory=Counter)
    """Candles that were compared, by interval."""
    fields: Counter[str] = field(default_factory=Counter)
    """Mismatches by field."""
    mismatches: list[CandleMismatch] = field(default_factory=list)
    unchecked: dict[Series, str] = field(default_factory=dict)
    """Series → why not all of it could be compared."""

    def add(self, mismatch: CandleMismatch) -> None:
        """Count one."""
        self.fields[mismatch.field] += 1
        if len(self.mismatches) < TOLD_MOST:
            self.mismatches.append(mismatch)

    @property
    def sound(self) -> bool:
        """There was something to check, all of it was checked, and nothing differs."""
        return bool(self.checked) and not self.fields and not self.unchecked


def read_built(
    config: KafkaConfig, symbols: Collection[str], intervals: Collection[str], span: Span, told: Told = lambda _done, _all: None
) -> BuiltCandles:
    """The built candles of these symbols and intervals that closed within a span. Raises BrokerError, ConfigError."""
    built = BuiltCandles()
    keys = {symbol.encode() for symbol in symbols}
    with closing(open_reader(config, CLIENT_ID)) as reader:
        bounds = reader.bounds(CANDLES.name)
        begin = reader.offsets_at(CANDLES.name, span[0])
        partitions = {partition_of(symbol, len(bounds)) for symbol in symbols}
        ends = {partition: bounds[partition][1] for partition in partitions if begin[partition] < bounds[partition][1]}
        reader.assign({(CANDLES.name, partition): begin[partition] for partition in ends})
        total = sum(end - begin[partition] for partition, end in ends.items())
        for number, record in enumerate(_records(reader, ends), 1):
            if record.key in keys and span[0] <= record.timestamp_ms < span[1]:
                _take(record, intervals, built)
            told(min(number, total), total)
    return built


def _take(record: Record, intervals: Collection[str], built: BuiltCandles) -> None:
    try:
        candle = decode_event(Candle, record.value or b"")
    except RecordError:
        built.unusable += 1
        return
    if candle.interval in intervals:
        built.add(candle)


def _records(reader: Reader, ends: Mapping[int, int]) -> Iterator[Record]:
    """All up to these offsets."""
    left = dict(ends)
    heard_s = time.monotonic()
    while left:
        for record in reader.poll(_POLL_S):
            end = left.get(record.partition)
            if end is None or record.offset >= end:
                left.pop(record.partition, None)
                continue
            heard_s = time.monotonic()
            yield record
            if record.offset + 1 >= end:
                del left[record.partition]
        if time.monotonic() - heard_s > _SILENCE_S:
            raise BrokerError(
                f"expected {CANDLES.name} up to offset {left} (partition: offset), but nothing came for {_SILENCE_S:g} s: "
                "check that the broker runs, and what it logs; then try again"
            )


def check_series(rest: Rest, series: Series, built: Mapping[int, Sequence[Candle]], found: CandleFindings) -> None:
    """Compare the built candles of a series, by open time, with the exchange's.

    Raises PassingError if the exchange is away; an answer that can't be used is a finding.
    """
    symbol, interval = series
    length_ms = INTERVALS[interval]
    last_ms = max(built, default=-1)
    from_ms = min(built, default=0)
    try:
        while from_ms <= last_ms:
            to_ms = min(from_ms + CANDLES_MOST * length_ms, last_ms + length_ms)
            rows = _rows(rest, series, from_ms, to_ms)
            _compare(series, {at: candles for at, candles in built.items() if from_ms <= at < to_ms}, rows, found)
            from_ms = min((at for at in built if at >= to_ms), default=last_ms + 1)
    except PassingError:
        raise  # it won't answer for the next series either
    except (ExchangeError, RecordError) as error:
        found.unchecked[symbol, interval] = str(error)


def _rows(rest: Rest, series: Series, from_ms: int, to_ms: int) -> dict[int, Row]:
    symbol, interval = series
    rows = patiently(lambda: rest.candles(symbol, interval, from_ms, to_ms))
    return {row[0]: row for row in (checked_row(row, INTERVALS[interval]) for row in rows)}


def _compare(series: Series, built: Mapping[int, Sequence[Candle]], rows: Mapping[int, Row], found: CandleFindings) -> None:
    lacking = sum(at not in rows for at in built)
    if lacking:
        found.unchecked[series] = f"the exchange has none of {lacking} candles that were built"
    for at in sorted(built.keys() & rows.keys()):
        expected = dict(zip(ROW, rows[at], strict=True)) | {_KLINES: INTERVALS[series[1]] // SECOND_MS}
        for candle in built[at]:
            found.checked[series[1]] += 1
            for name, value in _values(candle).items():
                if value != _number(expected[name]):
                    found.add(CandleMismatch(*series, at, name, _shown(name, value), str(expected[name])))


_COMPARED = {name: wire_fields(Candle)[name] for name in (*ROW, _KLINES)}


def _values(candle: Candle) -> dict[str, int]:
    return {name: getattr(candle, one.name) for name, one in _COMPARED.items()}


def _number(told: str | int) -> int:
    return decimals.parse(told) if isinstance(told, str) else told


def _shown(name: str, value: int) -> str:
    return decimals.show(value) if _COMPARED[name].metadata["kind"] in (Kind.PRICE, Kind.VOLUME) else str(value)
