"""What a symbol did over the last 1,440 closed 1m candles, and since its run began.

Sums are exact, whole units and remainders of 1e-8 apart, and divided once. Of the day each minute is kept, so that a
value needs nothing but the candles from the later of the run's start and a day ago: it doesn't matter in which order
minutes were put in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from klinestream.market.candles import BASE, BEGAN, CLOSE, HIGH, LOW, OPEN, price, volume
from klinestream.market.decimals import UNIT, Floats, Ints, ratio
from klinestream.market.intervals import MINUTE_MS

DAY_MINUTES = 1440
MINUTE_ROWS = 7
_TIME, _BASE, _BASE_REST, _OPEN, _CLOSE, _LOW, _HIGH = range(MINUTE_ROWS)


class MinuteStore(Protocol):
    """Where the minutes of a day are kept: Flink's map state, or a `KeptMinutes` dictionary."""

    def put(self, slot: int, minute: Ints, /) -> None:
        """Keep the minute of a slot, (MINUTE_ROWS, symbols)."""

    def items(self) -> Iterable[tuple[int, Ints]]:
        """All that is kept."""


class KeptMinutes(dict[int, Ints]):
    """Minutes in this process."""

    def put(self, slot: int, minute: Ints, /) -> None:
        """Keep it."""
        self[slot] = minute


class Day:
    """The last 1,440 minutes of any number of symbols; what changes is written through to `store`."""

    def __init__(self, store: MinuteStore) -> None:
        """Goes on from what the store holds."""
        self._store = store
        self._minutes = np.zeros((MINUTE_ROWS, DAY_MINUTES, 0), np.int64)
        for slot, minute in store.items():
            self._grow(minute.shape[1])
            self._minutes[:, slot, : minute.shape[1]] = minute

    def _grow(self, symbols: int) -> None:
        new = symbols - self._minutes.shape[2]
        if new > 0:
            self._minutes = np.concatenate([self._minutes, np.zeros((MINUTE_ROWS, DAY_MINUTES, new), np.int64)], axis=2)

    def put(self, columns: Ints, table: Ints) -> None:
        """Keep 1m candles of a table, one or several a symbol; an older minute never takes a newer one's place."""
        self._grow(int(columns.max()) + 1)
        slots = table[BEGAN] // MINUTE_MS % DAY_MINUTES
        newer = table[BEGAN] >= self._minutes[_TIME, slots, columns]
        columns, table, slots = columns[newer], table[:, newer], slots[newer]
        base = volume(table, BASE)
        self._minutes[:, slots, columns] = (table[BEGAN], *base, table[OPEN], table[CLOSE], table[LOW], table[HIGH])
        for slot in np.unique(slots).tolist():
            self._store.put(slot, self._minutes[:, slot].copy())

    def over(self, columns: Ints, newest: Ints, since: Ints) -> Floats:
        """What the day before the end of the minutes `newest` gives, of runs that began at `since`: (7, columns).

        Rows: candles, volume, mean volume, mean open, mean close, low, high.
        """
        mine = self._minutes[:, :, columns]
        first = np.maximum(since, newest - (DAY_MINUTES - 1) * MINUTE_MS)
        there = (mine[_TIME] >= first) & (mine[_TIME] <= newest)
        count = np.count_nonzero(there, axis=0)
        held = np.where(there, mine, 0)

        def summed(row: int) -> tuple[Ints, Ints]:
            return (held[row] // UNIT).sum(axis=0), (held[row] % UNIT).sum(axis=0)

        base = held[_BASE].sum(axis=0), held[_BASE_REST].sum(axis=0)
        low = np.where(there, mine[_LOW], np.iinfo(np.int64).max).min(axis=0)
        means = (ratio(*base, count), ratio(*summed(_OPEN), count), ratio(*summed(_CLOSE), count))
        extremes = ratio(*np.divmod(low, UNIT)), ratio(*np.divmod(held[_HIGH].max(axis=0), UNIT))
        return np.stack([count.astype(np.float64), ratio(*base), *means, *extremes])


@dataclass(frozen=True, slots=True)
class Totals:
    """The same since a run began, as rows of the run's state (whole numbers below 2**53 are exact in float64)."""

    rows: int = 9

    def init(self, columns: int) -> Floats:
        """Nothing yet."""
        state = np.zeros((self.rows, columns))
        state[7] = np.inf
        return state

    def update(self, state: Floats, columns: Ints, table: Ints) -> Floats:
        """Take the next candle of each column, in place; the rows of `Day.over`."""
        held = state[:, columns]
        held[0] += 1
        for row, whole_and_rest in ((1, volume(table, BASE)), (3, divmod(table[OPEN], UNIT)), (5, divmod(table[CLOSE], UNIT))):
            rest = held[row + 1] + whole_and_rest[1]
            held[row] += whole_and_rest[0] + rest // UNIT
            held[row + 1] = rest % UNIT
        held[7], held[8] = np.minimum(held[7], price(table, LOW)), np.maximum(held[8], price(table, HIGH))
        state[:, columns] = held
        count, *sums, low, high = held

        def exact(place: int, divisor: Ints | int = 1) -> Floats:
            return ratio(sums[place].astype(np.int64), sums[place + 1].astype(np.int64), divisor)

        times = count.astype(np.int64)
        return np.stack([count, exact(0), exact(0, times), exact(2, times), exact(4, times), low, high])
