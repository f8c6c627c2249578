"""Candles of every interval, built from 1 s klines over arrays of symbols.

    klines   |··57··|··58··|··59··|··00··|··01··|      a kline's open time, in seconds of the minute
    1m                            ▲ closes with :59, its own last second: no later kline and no watermark is waited for
    5m, 15m, … 1d                 ▲ the same minute is merged into them; they close with it where it is their last

Only the candle of the minute changes with each kline; the longer ones change once a minute. A candle that a hole runs
through closes at the symbol's first kline past its end, and says that it isn't complete.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from klinestream.market.batch import KlineBatch
from klinestream.market.decimals import UNIT, Floats, Ints, ratio
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import INTERVALS, MINUTE_MS
from klinestream.market.windows import rounds

# The rows of a table: one candle, or a part of one, a column. Prices in 1e-8; volumes as whole units and remainders.
BEGAN, COUNT, OPEN, HIGH, LOW, CLOSE, BASE, BASE_REST, QUOTE, QUOTE_REST = range(10)
TAKER_BASE, TAKER_BASE_REST, TAKER_QUOTE, TAKER_QUOTE_REST, TRADES, FIRST_ID, LAST_ID = range(10, 17)
HEIGHT = 17
VOLUMES = ((BASE, BASE_REST), (QUOTE, QUOTE_REST), (TAKER_BASE, TAKER_BASE_REST), (TAKER_QUOTE, TAKER_QUOTE_REST))

NO_ID = -1
"""No trade, so no id."""
UNKNOWN_ID = -2
"""There are trades, but whoever gave them doesn't tell their ids."""

Bools = npt.NDArray[np.bool_]


def of_klines(batch: KlineBatch, rows: Ints) -> Ints:
    """Klines as a table (HEIGHT, rows)."""
    table = np.empty((HEIGHT, len(rows)), np.int64)
    table[BEGAN] = batch.open_times[rows]
    table[COUNT] = 1
    table[OPEN : CLOSE + 1] = batch.prices[:, rows]
    table[BASE:TRADES:2] = batch.volumes[:, rows]
    table[BASE_REST:TRADES:2] = batch.remainders[:, rows]
    table[TRADES] = batch.trades[rows]
    first, _, newest = batch.ids[:, rows]
    quiet = table[TRADES] == 0
    table[FIRST_ID] = np.where(quiet, NO_ID, np.where(first < 0, UNKNOWN_ID, first))
    # Of a second with trades the newest id up to its close is its last, and it is known where the exchange's REST is not.
    table[LAST_ID] = np.where(quiet, NO_ID, np.where(newest < 0, UNKNOWN_ID, newest))
    return table


def merged(first: Ints, then: Ints) -> Ints:
    """Two stretches of klines, the one before the other, as one: tables of the same shape, (…, HEIGHT, columns)."""
    whole = first + then  # right for counts, volumes and trades
    whole[..., (BEGAN, OPEN), :] = first[..., (BEGAN, OPEN), :]
    whole[..., HIGH, :] = np.maximum(first[..., HIGH, :], then[..., HIGH, :])
    whole[..., LOW, :] = np.minimum(first[..., LOW, :], then[..., LOW, :])
    whole[..., CLOSE, :] = then[..., CLOSE, :]
    whole[..., FIRST_ID, :] = np.where(first[..., FIRST_ID, :] == NO_ID, then[..., FIRST_ID, :], first[..., FIRST_ID, :])
    whole[..., LAST_ID, :] = np.where(then[..., LAST_ID, :] == NO_ID, first[..., LAST_ID, :], then[..., LAST_ID, :])
    return np.where(first[..., COUNT : COUNT + 1, :] == 0, then, whole)


def price(table: Ints, row: int) -> Floats:
    """One of the prices of a table, as floats."""
    return ratio(*np.divmod(table[row], UNIT))


def volume(table: Ints, row: int) -> Ints:
    """One of the volumes of a table: whole units and remainder below one, (2, columns)."""
    carried, rest = np.divmod(table[row + 1], UNIT)
    return np.stack([table[row] + carried, rest])


@dataclass(slots=True)
class Minutes:
    """What changes with each kline."""

    newest: Ints  # open time of the newest kline, 0 before the first
    table: Ints  # (HEIGHT, symbols): the klines of the minute so far


@dataclass(frozen=True, slots=True)
class CandleRows:
    """Closed candles of one interval. A column of `table` each."""

    interval: str
    columns: Ints  # of the symbols
    table: Ints

    @property
    def length_ms(self) -> int:
        """Length of the interval."""
        return INTERVALS[self.interval]

    @property
    def open_times(self) -> Ints:
        """Open times of the candles; their first klines may be later."""
        opened: Ints = self.table[BEGAN] - self.table[BEGAN] % self.length_ms
        return opened

    @property
    def complete(self) -> Bools:
        """Whether all klines are in it."""
        complete: Bools = self.table[COUNT] == self.length_ms // SECOND_MS
        return complete


@dataclass(frozen=True, slots=True)
class ProvisionalRows:
    """Candles in progress after one kline a symbol: tables (intervals, HEIGHT, columns)."""

    columns: Ints
    open_times: Ints  # of the klines
    tables: Ints


@dataclass(slots=True)
class Built:
    """What a batch of klines led to, in the order in which it did."""

    closed: list[CandleRows] = field(default_factory=list)
    provisional: list[ProvisionalRows] = field(default_factory=list)
    klines: int = 0
    repeats: int = 0


class CandleBuilder:
    """The candles of any number of symbols. `minutes` is to be saved after each batch, `longer` when candles were closed."""

    def __init__(
        self, intervals: Sequence[str], minutes: Minutes | None = None, longer: Ints | None = None, provisional: bool = True
    ) -> None:
        """`intervals` ascend and begin with 1m."""
        self.intervals = tuple(intervals)
        self.minutes = minutes or Minutes(np.zeros(0, np.int64), np.zeros((HEIGHT, 0), np.int64))
        self.longer = np.zeros((len(intervals) - 1, HEIGHT, 0), np.int64) if longer is None else longer
        self._provisional = provisional

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols in all."""
        new = symbols - len(self.minutes.newest)
        if new > 0:
            self.minutes.newest = np.append(self.minutes.newest, np.zeros(new, np.int64))
            self.minutes.table = np.concatenate([self.minutes.table, np.zeros((HEIGHT, new), np.int64)], axis=1)
        new = symbols - self.longer.shape[2]
        if new > 0:
            self.longer = np.concatenate([self.longer, np.zeros((*self.longer.shape[:2], new), np.int64)], axis=2)

    def step(self, batch: KlineBatch, columns: Ints) -> Built:
        """Take klines, each symbol's own in the order they came; `columns` are those of their symbols."""
        built = Built()
        for rows in rounds(columns):
            self._round(batch, rows, columns[rows], built)
        return built

    def passed(self, columns: Ints, opened: Ints) -> Built:
        """The next klines of these columns opened then: close what ended before."""
        built = Built()
        self._pass(columns, opened, built)
        return built

    def minute(self, columns: Ints, table: Ints, newest: Ints) -> Built:
        """Take all klines of a minute of each of `columns` at once, as `table`; `newest`: open times of the last of them.

        To be called after `passed`; gives what `step` gives of these klines, provisional candles apart.
        """
        built = Built(klines=int(table[COUNT].sum()))
        self.minutes.newest[columns] = newest
        self.minutes.table[:, columns] = table
        last = (newest + SECOND_MS) % MINUTE_MS == 0
        if last.any():
            self._close(columns[last], newest[last] + SECOND_MS, built)
        return built

    def _round(self, batch: KlineBatch, rows: Ints, columns: Ints, built: Built) -> None:
        """One kline a symbol."""
        newest, opened = self.minutes.newest[columns], batch.open_times[rows]
        fresh = opened > newest
        if not fresh.all():
            built.repeats += int(np.count_nonzero(~fresh))
            rows, columns, newest, opened = rows[fresh], columns[fresh], newest[fresh], opened[fresh]
        if not len(rows):
            return
        broken = opened != newest + SECOND_MS
        if broken.any():
            self._pass(columns[broken], opened[broken], built)
        self.minutes.newest[columns] = opened
        self.minutes.table[:, columns] = merged(self.minutes.table[:, columns], of_klines(batch, rows))
        built.klines += len(rows)
        if self._provisional:
            built.provisional.append(self._in_progress(columns, opened))
        last = (opened + SECOND_MS) % MINUTE_MS == 0
        if last.any():
            self._close(columns[last], opened[last] + SECOND_MS, built)

    def _pass(self, columns: Ints, opened: Ints, built: Built) -> None:
        """Close what began before a hole and ended in it."""
        self._end_minutes(columns[self._left(self.minutes.table[:, columns], opened, MINUTE_MS)], built)
        for place, interval in enumerate(self.intervals[1:]):
            self._end(place, columns[self._left(self.longer[place][:, columns], opened, INTERVALS[interval])], built)

    @staticmethod
    def _left(table: Ints, opened: Ints, length_ms: int) -> Bools:
        left: Bools = (table[COUNT] > 0) & (table[BEGAN] // length_ms != opened // length_ms)
        return left

    def _close(self, columns: Ints, ends: Ints, built: Built) -> None:
        """Close the candles whose last second has come."""
        self._end_minutes(columns, built)
        for place, interval in enumerate(self.intervals[1:]):
            self._end(place, columns[ends % INTERVALS[interval] == 0], built)

    def _end_minutes(self, columns: Ints, built: Built) -> None:
        if not len(columns):
            return
        minute = self.minutes.table[:, columns]
        built.closed.append(CandleRows(self.intervals[0], columns, minute))
        self.longer[:, :, columns] = merged(self.longer[:, :, columns], np.broadcast_to(minute, (len(self.longer), *minute.shape)))
        self.minutes.table[:, columns] = 0

    def _end(self, place: int, columns: Ints, built: Built) -> None:
        if len(columns):
            built.closed.append(CandleRows(self.intervals[place + 1], columns, self.longer[place][:, columns]))
            self.longer[place][:, columns] = 0

    def _in_progress(self, columns: Ints, opened: Ints) -> ProvisionalRows:
        minute = self.minutes.table[:, columns]
        longer = merged(self.longer[:, :, columns], np.broadcast_to(minute, (len(self.longer), *minute.shape)))
        return ProvisionalRows(columns, opened, np.concatenate([minute[None], longer]))
