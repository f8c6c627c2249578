"""The klines that features are computed from: slice after slice of a group of symbols, as dense minutes. Bounded by a slice.

    files in order of offset ─► klines that count ─┬─► slice [a, b) ─► minutes (minute, symbol, second)
    imported klines ───────────────────────────────┘   the rest waits for the next one

A file is read when its first kline is due, and once. A symbol that lags behind the others has their newer klines wait for it.
"""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.blocks import KlineBlock
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import MINUTE_MS
from klinestream.replay.kline_columns import ArchivedKlines, counting, filled, joined
from klinestream.replay.klines import KlineArchive, KlineFile

Bools = npt.NDArray[np.bool_]

MINUTE_S = MINUTE_MS // SECOND_MS
NEVER_MS = np.iinfo(np.int64).max


@dataclass(slots=True)
class FeedState:
    """What goes on from slice to slice, of each symbol."""

    begun_ms: Ints
    """Open time of the feed's first kline."""
    known_ms: Ints
    """When all klines so far were known: the latest `published_ms`."""

    @classmethod
    def empty(cls, symbols: int) -> "FeedState":
        """Before the first kline."""
        return cls(np.full(symbols, NEVER_MS), np.zeros(symbols, np.int64))


class Feed:
    """The klines of some symbols from a slice's beginning on. Raises ArchiveError."""

    def __init__(self, archive: KlineArchive, symbols: Sequence[str], from_ms: int, to_ms: int) -> None:
        self._archive = archive
        self._symbols = tuple(symbols)
        self._from_ms, self._to_ms = from_ms, to_ms
        self._files: dict[int, deque[KlineFile]] = defaultdict(deque)
        for file in archive.files_of(symbols, from_ms, to_ms):
            self._files[file.span.partition].append(file)
        self._newest = np.full(len(symbols), -1, np.int64)
        self._waiting: list[ArchivedKlines] = []

    def until(self, from_ms: int, to_ms: int) -> ArchivedKlines:
        """The feed's klines of the next slice that count."""
        for files in self._files.values():
            while files and min(file.first_ms for file in files) < to_ms:
                self._read(files.popleft())
        due = joined([part.take(part.open_times < to_ms) for part in self._waiting], self._symbols)
        left = [part.take(part.open_times >= to_ms) for part in self._waiting]
        self._waiting = [part for part in left if len(part)]
        return due.take(due.open_times >= from_ms)

    def _read(self, file: KlineFile) -> None:
        found = self._archive.read_file(file)
        found = joined([found.take((found.open_times >= self._from_ms) & (found.open_times < self._to_ms))], self._symbols)
        self._waiting.append(found.take(counting(found, self._newest)))

    @property
    def waiting(self) -> int:
        """How many klines wait for a later slice."""
        return sum(map(len, self._waiting))

    def imported(self, from_ms: int, to_ms: int) -> ArchivedKlines:
        """Imported klines of a slice."""
        return joined([self._archive.imported(self._symbols, from_ms, to_ms)], self._symbols)


def with_imported(feed: ArchivedKlines, imported: ArchivedKlines, state: FeedState, *, live: bool) -> ArchivedKlines:
    """The feed's klines, and imported ones: live none once a symbol's feed has begun, else all that the feed lacks."""
    np.minimum.at(state.begun_ms, feed.codes, feed.open_times)
    if not len(imported):
        return feed
    return filled(feed, imported.take(imported.open_times < state.begun_ms[imported.codes]) if live else imported)


@dataclass(frozen=True, slots=True)
class Minutes:
    """A slice as dense minutes: arrays (…, minutes, symbols, 60)."""

    from_ms: int
    there: Bools
    prices: Ints
    volumes: Ints
    remainders: Ints
    trades: Ints
    known_ms: Ints
    """When the kline and all before it were known; of seconds without one, those before it."""

    @classmethod
    def of(cls, klines: ArchivedKlines, from_ms: int, to_ms: int, known_ms: Ints) -> "Minutes":
        """Klines of a slice, each second of a symbol once; `known_ms` is carried on in place."""
        symbols, minutes = len(klines.names), (to_ms - from_ms) // MINUTE_MS
        shape = (minutes, symbols, MINUTE_S)
        second = (klines.open_times - from_ms) // SECOND_MS
        places = (second // MINUTE_S * symbols + klines.codes) * MINUTE_S + second % MINUTE_S

        def dense(values: Ints) -> Ints:
            found = np.zeros((*values.shape[:-1], minutes * symbols * MINUTE_S), np.int64)
            found[..., places] = values
            return found.reshape(*values.shape[:-1], *shape)

        there = np.zeros(minutes * symbols * MINUTE_S, np.bool_)
        there[places] = True
        published = dense(klines.published_ms).transpose(1, 0, 2).reshape(symbols, -1)
        published[:, 0] = np.maximum(published[:, 0], known_ms)
        known = np.maximum.accumulate(published, axis=1)
        known_ms[:] = known[:, -1]
        columns = (dense(klines.prices), dense(klines.volumes), dense(klines.remainders), dense(klines.trades))
        return cls(from_ms, there.reshape(shape), *columns, known.reshape(symbols, minutes, MINUTE_S))

    def block(self, minute: int) -> KlineBlock:
        """One of them."""
        first_ms = self.from_ms + minute * MINUTE_MS
        columns = self.prices[:, minute], self.volumes[:, minute], self.remainders[:, minute], self.trades[minute]
        return KlineBlock(first_ms, self.there[minute], *columns)
