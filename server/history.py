"""What the server remembers of the windows: bounded, in order of time, one value for each window. Pure.

A window is known by (symbol, end); where several records claim it, the highest revision counts, then the earliest
`since`: a later one means that the job had to start without its state. The order in which records come does not
matter.

    ends     |··t-118.5··|··t-118.0··| … |··t-0.5··|··t··|        one symbol
    offsets  |···· 40 ···|···· 41 ···| … |·· 276 ··|·277·|
             ^ floor 40: a client that has all before 40 can go on, one that has less needs a fresh snapshot
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from klinestream.market.topics import WINDOWS, Topic

Cursor = Mapping[int, int]
"""Partition → offset of the first record that the holder has not seen."""


class Entry(NamedTuple):
    """One window as it was read; `value` is its JSON, passed on as it is.

    A named tuple, since thousands come a second: a frozen dataclass takes four times as long to make.
    """

    symbol: str
    end_ms: int
    since_ms: int
    revision: int
    partition: int
    offset: int
    value: bytes
    published_ms: int | None = None

    @property
    def rank(self) -> tuple[int, int]:
        """The greatest rank among records of one window counts."""
        return self.revision, -self.since_ms


@dataclass(frozen=True, slots=True)
class Slice:
    """Windows of one symbol in order of time, and the cursor that follows them."""

    values: Sequence[bytes]
    cursor: Cursor


@dataclass(slots=True)
class _Series:
    """One symbol's windows in parallel lists: hundreds of thousands of small objects would slow the garbage collector."""

    partition: int
    floor: int
    next_offset: int
    ends: list[int] = field(default_factory=list)
    ranks: list[tuple[int, int]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def put(self, entry: Entry) -> bool:
        """Hold an entry, unless its window is held with the same or a greater rank."""
        self.next_offset = max(self.next_offset, entry.offset + 1)
        at = bisect_left(self.ends, entry.end_ms)
        if at == len(self.ends) or self.ends[at] != entry.end_ms:
            self.ends.insert(at, entry.end_ms)
            self.ranks.insert(at, entry.rank)
            self.offsets.insert(at, entry.offset)
            self.values.insert(at, entry.value)
            return True
        if entry.rank <= self.ranks[at]:
            return False
        self.ranks[at], self.offsets[at], self.values[at] = entry.rank, entry.offset, entry.value
        return True

    def values_from(self, offset: int) -> tuple[bytes, ...]:
        """The windows held that were read at this offset or after it, in order of time."""
        return tuple(value for at, value in zip(self.offsets, self.values, strict=True) if at >= offset)

    def drop(self, count: int) -> None:
        """Forget the oldest windows; who has not seen them can't go on from a cursor any more."""
        if count <= 0:
            return
        self.floor = max(self.floor, max(self.offsets[:count]) + 1)
        for column in (self.ends, self.ranks, self.offsets, self.values):
            del column[:count]


class History:
    """The windows of all symbols whose end lies in the last `span_ms` before the newest, and no more than the caps.

    `windows_most` bounds each symbol, `symbols_most` their number: garbage must not fill the memory.
    """

    def __init__(self, span_ms: int, *, windows_most: int, symbols_most: int, topic: Topic = WINDOWS) -> None:
        """Start empty; see `begin`. `topic` is where all of it comes from."""
        self.span_ms = span_ms
        self.topic = topic
        self.newest_end_ms: int | None = None
        self._windows_most = windows_most
        self._symbols_most = symbols_most
        self._starts: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._series: dict[str, _Series] = {}

    def begin(self, starts: Mapping[int, int]) -> None:
        """Forget everything; reading starts anew from these offsets, partition → offset."""
        self._starts = dict(starts)
        self._next = dict(starts)
        self._series.clear()
        self.newest_end_ms = None

    def add(self, entry: Entry) -> bool:
        """Hold an entry. False if it brings nothing new: held already, replaced before it came, or too old."""
        self._next[entry.partition] = max(entry.offset + 1, self._next.get(entry.partition, 0))
        if self.newest_end_ms is None or entry.end_ms > self.newest_end_ms:
            self.newest_end_ms = entry.end_ms
        if entry.end_ms <= self._horizon_ms():
            return False
        series = self._series.get(entry.symbol)
        if series is None:
            if len(self._series) >= self._symbols_most and not self._forget_quiet():
                return False
            start = self._starts.get(entry.partition, entry.offset)
            series = self._series[entry.symbol] = _Series(entry.partition, start, start)
        new = series.put(entry)
        self._trim(series)
        return new

    @property
    def positions(self) -> dict[int, int]:
        """Partition → offset after all that was read of it."""
        return dict(self._next)

    def symbols(self) -> list[str]:
        """The symbols with a window in the span, in order of name."""
        horizon = self._horizon_ms()
        return sorted(symbol for symbol, series in self._series.items() if series.ends and series.ends[-1] > horizon)

    def snapshot(self, symbol: str) -> Slice:
        """All windows held of a symbol; none if it is not known."""
        series = self._series.get(symbol)
        if series is None:
            return Slice((), {})
        self._trim(series)
        return Slice(tuple(series.values), {series.partition: series.next_offset})

    def between(self, symbol: str, from_ms: int | None, to_ms: int | None) -> Sequence[bytes] | None:
        """The windows held of a symbol that end in [from, to), in order; None if it is not known."""
        series = self._series.get(symbol)
        if series is None:
            return None
        self._trim(series)
        first = 0 if from_ms is None else bisect_left(series.ends, from_ms)
        return series.values[first : None if to_ms is None else bisect_left(series.ends, to_ms)]

    def newest(self) -> dict[str, bytes]:
        """Symbol → its newest window; symbols without one in the span are left out."""
        horizon = self._horizon_ms()
        return {symbol: series.values[-1] for symbol, series in self._series.items() if series.ends and series.ends[-1] > horizon}

    def since(self, symbol: str, cursor: Cursor) -> Slice | None:
        """The windows that a holder of this cursor has missed; None if the history can't tell, and a snapshot is due.

        A cursor ahead of this history comes from a server that is further on, or from another topic of that name:
        only a snapshot is right in both cases.
        """
        series = self._series.get(symbol)
        if series is None:
            return None
        self._trim(series)
        offset = cursor.get(series.partition)
        if offset is None or not series.floor <= offset <= series.next_offset:
            return None
        return Slice(series.values_from(offset), {series.partition: series.next_offset})

    def missed(self, symbol: str, cursor: Cursor) -> Sequence[bytes] | None:
        """As `since`, for a cursor over all symbols: it may be ahead of this symbol's newest window."""
        series = self._series.get(symbol)
        if series is None:
            return None
        self._trim(series)
        offset = cursor.get(series.partition)
        if offset is None or not series.floor <= offset <= self._next.get(series.partition, 0):
            return None
        return series.values_from(offset)

    def _horizon_ms(self) -> int:
        return (self.newest_end_ms or 0) - self.span_ms

    def _trim(self, series: _Series) -> None:
        series.drop(max(bisect_right(series.ends, self._horizon_ms()), len(series.ends) - self._windows_most))

    def _forget_quiet(self) -> bool:
        """Make room by forgetting the symbols that have no window in the span any more; False if there are none."""
        horizon = self._horizon_ms()
        quiet = [symbol for symbol, series in self._series.items() if not series.ends or series.ends[-1] <= horizon]
        for symbol in quiet:
            del self._series[symbol]
        return bool(quiet)
