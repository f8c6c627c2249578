"""What a symbol did over the last 1,440 closed 1m candles, and since its run began.

Sums are exact, whole units and remainders of 1e-8 apart, and divided once. Of the day each minute is kept, so that a
value needs nothing but the candles from the later of the run's start and a day ago: it doesn't matter in which order
minutes were put in.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klinestream.market.candles import BASE, BEGAN, CLOSE, HIGH, LOW, OPEN, price, volume
from klinestream.market.decimals import UNIT, Floats, Ints, ratio
from klinestream.market.intervals import HOUR_MS, MINUTE_MS

HOUR_MINUTES = 60
DAY_HOURS = 24
DAY_MINUTES = DAY_HOURS * HOUR_MINUTES
MINUTE_ROWS = 7
_TIME, _BASE, _BASE_REST, _OPEN, _CLOSE, _LOW, _HIGH = range(MINUTE_ROWS)
_HOUR_ROWS = 10
_HOUR, _COUNT = 0, 1  # then sums, whole units and remainders apart, of base volume, opens and closes
_LEAST, _GREATEST = 8, 9
_NEVER_LEAST = np.iinfo(np.int64).max
_NO_MINUTE = np.array([0, 0, 0, 0, 0, _NEVER_LEAST, 0])
_NOTHING = np.array([0] * _LEAST + [_NEVER_LEAST, 0])


class MinuteStore(Protocol):
    """Where the minutes of a day are kept: Flink's map state, or a `KeptMinutes` dictionary.

    From 0 on stand slots, a minute of all symbols each, (MINUTE_ROWS, symbols); below 0 what came as history, all minutes of one
    symbol each, (MINUTE_ROWS, minutes): so that neither rewrites the other.
    """

    def put(self, place: int, minutes: Ints, /) -> None:
        """Keep them."""

    def items(self) -> Iterable[tuple[int, Ints]]:
        """All that is kept."""


class KeptMinutes(dict[int, Ints]):
    """Minutes in this process."""

    def put(self, place: int, minutes: Ints, /) -> None:
        """Keep them."""
        self[place] = minutes


class Day:
    """The last 1,440 minutes of any number of symbols; what changes is written through to `store`.

    hours    ··|····h-2····|····h-1····|····h····     sums of whole hours are kept, so that a value takes 24 of them
    a day      ◄── minutes ─┤── sums ──┤─ minutes ►    and the minutes of the two hours at its ends
    """

    def __init__(self, store: MinuteStore) -> None:
        """Goes on from what the store holds."""
        self._store = store
        self._minutes = np.zeros((MINUTE_ROWS, DAY_MINUTES, 0), np.int64)
        self._hours = np.zeros((_HOUR_ROWS, DAY_HOURS, 0), np.int64)
        self._histories: dict[int, Ints] = {}
        for place, minutes in store.items():
            if place >= 0:
                self.grow(minutes.shape[1])
                self._set(np.full(minutes.shape[1], place), np.arange(minutes.shape[1]), minutes)
            else:
                self.grow(-place)
                self._histories[-place - 1] = minutes
                self._set(_slots(minutes[_TIME]), np.full(minutes.shape[1], -place - 1), minutes)
        everyone = np.arange(self._minutes.shape[2])
        for hour in np.unique(self._minutes[_TIME] // HOUR_MS).tolist():
            self._sum_hour(hour, everyone)

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols in all."""
        new = symbols - self._minutes.shape[2]
        if new > 0:
            self._minutes = np.concatenate([self._minutes, np.zeros((MINUTE_ROWS, DAY_MINUTES, new), np.int64)], axis=2)
            self._hours = np.concatenate([self._hours, np.zeros((_HOUR_ROWS, DAY_HOURS, new), np.int64)], axis=2)

    def put(self, columns: Ints, table: Ints) -> None:
        """Keep a 1m candle of each of some symbols."""
        self.grow(int(columns.max()) + 1)
        for slot in np.unique(self._keep(columns, _minutes_of(table))).tolist():
            self._store.put(slot, self._minutes[:, slot].copy())

    def put_history(self, column: int, table: Ints) -> None:
        """Keep 1m candles of one symbol, each later than the one before."""
        self.grow(column + 1)
        minutes = _minutes_of(table)
        self._keep(np.full(minutes.shape[1], column), minutes)
        before = self._histories.get(column, np.zeros((MINUTE_ROWS, 0), np.int64))
        before = before[:, ~np.isin(_slots(before[_TIME]), _slots(minutes[_TIME]))]
        self._histories[column] = np.concatenate([before, minutes], axis=1)
        self._store.put(-column - 1, self._histories[column])

    def _keep(self, columns: Ints, minutes: Ints) -> Ints:
        """Put minutes in their places, and sum up their hours. Returns the slots that have changed."""
        slots, changed = self._set(_slots(minutes[_TIME]), columns, minutes)
        hours = minutes[_TIME] // HOUR_MS
        for hour in np.unique(hours[changed]).tolist():
            self._sum_hour(hour, np.unique(columns[changed & (hours == hour)]))
        return slots

    def _set(self, slots: Ints, columns: Ints, minutes: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """An older minute never takes a newer one's place."""
        newer = minutes[_TIME] >= self._minutes[_TIME, slots, columns]
        self._minutes[:, slots[newer], columns[newer]] = minutes[:, newer]
        return slots[newer], newer

    def _sum_hour(self, hour: int, columns: Ints) -> None:
        """Sum up the minutes that are there of an hour, unless a later one has its place."""
        place = hour % DAY_HOURS
        columns = columns[self._hours[_HOUR, place, columns] <= hour]
        self._hours[:, place, columns] = _summed(self._of_hour(np.full(len(columns), hour), columns), np.full(len(columns), hour))

    def _of_hour(self, hours: Ints, columns: Ints) -> Ints:
        """The minutes that are held where those of an hour have their place, (MINUTE_ROWS, 60, columns)."""
        slots = (hours * HOUR_MINUTES + np.arange(HOUR_MINUTES)[:, None]) % DAY_MINUTES
        return self._minutes[:, slots, columns]

    def over(self, columns: Ints, newest: Ints, since: Ints) -> Floats:
        """What the day before the end of the minutes `newest` gives, of runs that began at `since`: (7, columns).

        Rows: candles, volume, mean volume, mean open, mean close, low, high.
        """
        first = np.maximum(since, newest - (DAY_MINUTES - 1) * MINUTE_MS)
        first_hour, last_hour = first // HOUR_MS, newest // HOUR_MS
        between = self._hours[:, :, columns]
        between = np.where((between[_HOUR] > first_hour) & (between[_HOUR] < last_hour), between, _NOTHING[:, None, None])
        ends = []
        for hour in (first_hour, last_hour):
            minutes = self._of_hour(hour, columns)
            there = (minutes[_TIME] >= first) & (minutes[_TIME] <= newest)
            if hour is last_hour:
                there &= last_hour > first_hour  # else these are the same minutes
            ends.append(_summed(np.where(there, minutes, _NO_MINUTE[:, None, None]), hour))
        parts = np.concatenate([between, np.stack(ends, axis=1)], axis=1)
        count, base, base_rest, opens, opens_rest, closes, closes_rest = parts[_COUNT:_LEAST].sum(axis=1)
        low, high = parts[_LEAST].min(axis=0), parts[_GREATEST].max(axis=0)
        divisor = np.maximum(count, 1)  # of minutes that are no longer held the caller makes nothing
        means = (ratio(base, base_rest, divisor), ratio(opens, opens_rest, divisor), ratio(closes, closes_rest, divisor))
        extremes = ratio(*np.divmod(low, UNIT)), ratio(*np.divmod(high, UNIT))
        return np.stack([count.astype(np.float64), ratio(base, base_rest), *means, *extremes])


def _minutes_of(table: Ints) -> Ints:
    base = volume(table, BASE)
    return np.stack([table[BEGAN], *base, table[OPEN], table[CLOSE], table[LOW], table[HIGH]])


def _slots(times: Ints) -> Ints:
    slots: Ints = times // MINUTE_MS % DAY_MINUTES
    return slots


def _summed(minutes: Ints, hours: Ints) -> Ints:
    """Those of some minutes, (MINUTE_ROWS, …, columns), that lie in an hour, as a column of `_hours` each."""
    held = np.where(minutes[_TIME] // HOUR_MS == hours, minutes, _NO_MINUTE[:, None, None])
    sums = (
        held[_TIME] > 0,
        held[_BASE],
        held[_BASE_REST],
        held[_OPEN] // UNIT,
        held[_OPEN] % UNIT,
        held[_CLOSE] // UNIT,
        held[_CLOSE] % UNIT,
    )
    return np.stack([hours, *(row.sum(axis=0) for row in sums), held[_LOW].min(axis=0), held[_HIGH].max(axis=0)])


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
