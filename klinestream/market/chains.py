"""A symbol's whole candles of one interval in order, built ones and the exchange's own, joined without hole or repeat.

    exchange's own  h0 ─ h1 ─ … ─ h199 ┐                      parked run: goes on with what is fetched
    built                              └► c0 ─ c1 ─ c2 ─ …    live run: goes on with each candle that closes
                                          ▲ join: the parked run has taken in all that waits for it, and becomes the live one

A candle that was built never waits. One that doesn't continue the live run (the first of a symbol, or the one after a
candle with a hole) begins a run of its own, which is alone: its values aren't ready, and its candles wait as well for the
parked run, the one before the hole, which the exchange's own candles carry on. `since` is where a run began: a value
depends on the candles from there on and on nothing else, so that a replay from there gives the same bits, whatever came
first.
"""

from dataclasses import dataclass, field

import numpy as np

from klinestream.market.candles import BEGAN
from klinestream.market.decimals import Floats, Ints
from klinestream.market.events import HistoryReason
from klinestream.market.intervals import INTERVALS
from klinestream.market.study import Study

WAITING_MOST = 512
"""Candles that wait, a symbol: a run that has been alone for that long has values of its own."""
ENOUGH = 150
"""Candles in a row that are as good as the run before a hole: the RSI has converged after as many."""


@dataclass(slots=True)
class Runs:
    """One run a symbol. `since` and `last` are open times of its first and newest candle, 0 where there is none."""

    since: Ints
    last: Ints
    values: Floats  # state of the study, (rows, symbols)

    @classmethod
    def none(cls, study: Study, symbols: int = 0) -> "Runs":
        """Symbols without a run."""
        return cls(np.zeros(symbols, np.int64), np.zeros(symbols, np.int64), study.init(symbols))

    def grow(self, study: Study, symbols: int) -> None:
        """Make room for so many symbols in all."""
        more = Runs.none(study, symbols - len(self.since))
        self.since, self.last = np.append(self.since, more.since), np.append(self.last, more.last)
        self.values = np.concatenate([self.values, more.values], axis=1)

    def begin(self, study: Study, column: int, since: int) -> None:
        """Begin a run at its first candle, which is still to come."""
        self.since[column], self.last[column] = since, 0
        self.values[:, column] = study.init(1)[:, 0]

    def take(self, column: int, other: "Runs") -> None:
        """Go on with another run; that one ends."""
        self.since[column], self.last[column] = other.since[column], other.last[column]
        self.values[:, column] = other.values[:, column]
        other.forget(column)

    def forget(self, column: int) -> None:
        """End a run."""
        self.since[column], self.last[column] = 0, 0


@dataclass(slots=True)
class ChainState:
    """Saved whenever a candle of the interval has closed."""

    live: Runs
    parked: Runs
    alone: set[int] = field(default_factory=set)
    """Columns whose live run waits for the parked one."""
    waiting: dict[int, dict[int, Ints]] = field(default_factory=dict)
    """Column → open time → candle: what the run that it belongs to can't take yet."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Candles that carry one run on: a table, in order of time."""

    chain: "Chain"
    runs: Runs
    column: int
    table: Ints


class Chain:
    """The runs of one interval."""

    def __init__(self, interval: str, study: Study, history: int, state: ChainState | None = None) -> None:
        """`history`: how many of the exchange's candles there will be before a symbol's first; 0 for none."""
        self.interval = interval
        self.length_ms = INTERVALS[interval]
        self.state = state or ChainState(Runs.none(study), Runs.none(study))
        self._study = study
        self._history = history
        self._enough = min(history, ENOUGH)

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols in all."""
        if symbols > len(self.state.live.since):
            self.state.live.grow(self._study, symbols)
            self.state.parked.grow(self._study, symbols)

    def live(self, columns: Ints, table: Ints) -> Ints:
        """Candles that were built, one a column, are about to carry the live runs on. Returns which of them do.

        The others are known already: the exchange's own came first.
        """
        runs, opened = self.state.live, table[BEGAN]
        last = runs.last[columns]
        for place in np.flatnonzero((opened > last) & (opened != last + self.length_ms)).tolist():
            self._restart(int(columns[place]), int(opened[place]))
        rows = np.flatnonzero(opened > runs.last[columns])
        if self.state.alone:
            for row in rows.tolist():
                if int(columns[row]) in self.state.alone:
                    self._wait(int(columns[row]), table[:, [row]])
        return rows

    def _restart(self, column: int, opened: int) -> None:
        """A candle that doesn't continue the live run: the parked run may go on with it, else it begins one."""
        live, parked, alone = self.state.live, self.state.parked, self.state.alone
        if 0 < parked.since[column] <= opened <= parked.last[column] + self.length_ms:
            live.take(column, parked)
            alone.discard(column)
            return
        if live.last[column] and column not in alone:
            parked.take(column, live)
        live.begin(self._study, column, opened)
        if self._history:
            alone.add(column)

    def _wait(self, column: int, table: Ints) -> None:
        waiting = self.state.waiting.setdefault(column, {})
        waiting.update((int(candle[BEGAN]), candle.copy()) for candle in table.T)
        if len(waiting) <= WAITING_MOST:
            return
        if column in self.state.alone:
            self.state.alone.remove(column)
            self.state.parked.forget(column)
            del self.state.waiting[column]
        else:
            for opened in sorted(waiting)[WAITING_MOST:]:
                del waiting[opened]

    def _run(self, column: int) -> Runs:
        """The run that the exchange's candles carry on."""
        joined = self.state.live.last[column] and column not in self.state.alone
        return self.state.live if joined else self.state.parked

    def history(self, column: int, table: Ints, reason: HistoryReason) -> Stretch | None:
        """The exchange's own candles: those that carry a run on at once, or None where they are known or have to wait."""
        runs = self._run(column)
        first, last, reached = int(table[BEGAN, 0]), int(table[BEGAN, -1]), int(runs.last[column])
        if last <= reached:
            return None
        if reached and first <= reached + self.length_ms:
            return Stretch(self, runs, column, table[:, table[BEGAN] > reached])
        if runs is self.state.parked and reason is HistoryReason.START:
            runs.begin(self._study, column, first)
            return Stretch(self, runs, column, table)
        self._wait(column, table)
        return None

    def advance(self, column: int) -> Stretch | None:
        """What waits and can carry a run on now; to be asked again after it has. Joins the runs when they meet."""
        live, parked, alone = self.state.live, self.state.parked, self.state.alone
        runs = self._run(column)
        stretch = self._take_waiting(column, runs, int(runs.last[column]) + self.length_ms) if runs.last[column] else None
        if stretch is not None or column not in alone:
            return stretch
        if parked.last[column] >= live.last[column]:
            live.take(column, parked)
            alone.remove(column)
            return self._take_waiting(column, live, int(live.last[column]) + self.length_ms)
        first = self._long_enough(column)
        if first is None:
            return None
        parked.begin(self._study, column, first)
        return self._take_waiting(column, parked, first)

    def _take_waiting(self, column: int, runs: Runs, first: int) -> Stretch | None:
        """The candles in a row from `first` on."""
        waiting = self.state.waiting.get(column)
        if waiting is None:
            return None
        found, opened = [], first
        while (candle := waiting.get(opened)) is not None:
            found.append(candle)
            opened += self.length_ms
        for known in [time for time in waiting if time < opened]:
            del waiting[known]
        if not waiting:
            del self.state.waiting[column]
        return Stretch(self, runs, column, np.stack(found, axis=1)) if found else None

    def _long_enough(self, column: int) -> int | None:
        """Where those candles in a row begin that lead to the live run, if they are enough to go on without the parked one."""
        waiting, newest, since = self.state.waiting.get(column, {}), int(self.state.live.last[column]), int(self.state.live.since[column])
        opened = since
        while opened - self.length_ms in waiting:
            opened -= self.length_ms
        enough = (newest - opened) // self.length_ms + 1 >= self._enough
        return opened if opened < since and enough else None
