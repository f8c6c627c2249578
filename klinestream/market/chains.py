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
class Run:
    """Whole candles in a row, of one symbol."""

    since: int
    """Open time of its first candle."""
    last: int
    """Open time of its newest candle."""
    values: Floats
    """State of the study, (rows,)."""


@dataclass(slots=True)
class Runs:
    """A run each of many symbols, side by side; `last` is 0 where there is none."""

    since: Ints
    last: Ints
    values: Floats  # (rows, symbols)

    @classmethod
    def none(cls, study: Study, symbols: int = 0) -> "Runs":
        """Symbols without a run."""
        return cls(np.zeros(symbols, np.int64), np.zeros(symbols, np.int64), study.init(symbols))

    def grow(self, study: Study, symbols: int) -> None:
        """Make room for so many symbols in all."""
        more = Runs.none(study, symbols - len(self.since))
        self.since, self.last = np.append(self.since, more.since), np.append(self.last, more.last)
        self.values = np.concatenate([self.values, more.values], axis=1)

    def take(self, column: int) -> Run:
        """One of them."""
        return Run(int(self.since[column]), int(self.last[column]), self.values[:, column].copy())

    def put(self, column: int, run: Run) -> None:
        """Let it take its place among them."""
        self.since[column], self.last[column], self.values[:, column] = run.since, run.last, run.values


@dataclass(slots=True)
class Beside:
    """What there is of one column beside the live runs. Saved by itself, so that one symbol's history doesn't rewrite all others."""

    live: Run | None = None
    """Its live run, where it is further than in the live runs as they were saved."""
    parked: Run | None = None
    """The run before a hole, or before the first candle."""
    alone: bool = False
    """Its live run waits for the parked one."""
    waiting: dict[int, Ints] = field(default_factory=dict)
    """Open time → candle: what the run that it belongs to can't take yet."""


Saved = dict[int, Runs | Beside]
"""What is saved of a chain: the live runs at `LIVE`, and by column what is beside them."""
LIVE = -1


@dataclass(slots=True)
class ChainState:
    """What a chain goes on from."""

    live: Runs
    parked: dict[int, Run] = field(default_factory=dict)
    alone: set[int] = field(default_factory=set)
    waiting: dict[int, dict[int, Ints]] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: Saved, study: Study) -> "ChainState":
        """From what was saved."""
        live = saved.get(LIVE)
        state = cls(live if isinstance(live, Runs) else Runs.none(study))
        for column, beside in saved.items():
            if isinstance(beside, Beside):
                state.live.grow(study, max(column + 1, len(state.live.since)))
                state._put(column, beside)
        return state

    def _put(self, column: int, beside: Beside) -> None:
        if beside.live is not None:
            self.live.put(column, beside.live)
        if beside.parked is not None:
            self.parked[column] = beside.parked
        if beside.alone:
            self.alone.add(column)
        if beside.waiting:
            self.waiting[column] = beside.waiting


@dataclass(frozen=True, slots=True)
class Stretch:
    """Candles that carry a run on: a table, in order of time."""

    chain: "Chain"
    column: int
    run: Run
    table: Ints

    def carried(self, values: Floats) -> None:
        """The run has taken them in."""
        self.run.last, self.run.values = int(self.table[BEGAN, -1]), values
        self.chain.carried(self.column, self.run)


class Chain:
    """The runs of one interval."""

    def __init__(self, interval: str, study: Study, history: int, saved: Saved | None = None) -> None:
        """`history`: how many of the exchange's candles there will be before a symbol's first; 0 for none."""
        self.interval = interval
        self.length_ms = INTERVALS[interval]
        self.state = ChainState.of(saved or {}, study)
        self._live_changed = False
        self._changed: set[int] = set()
        self._beside = {column for column in saved or {} if column != LIVE}
        self._study = study
        self._history = history
        self._enough = min(history, ENOUGH)

    def grow(self, symbols: int) -> None:
        """Make room for so many symbols in all."""
        if symbols > len(self.state.live.since):
            self.state.live.grow(self._study, symbols)

    def carried(self, column: int, run: Run) -> None:
        """A run of a column has taken candles in."""
        self._changed.add(column)
        if column not in self.state.parked:
            self.state.live.put(column, run)

    def changes(self) -> dict[int, Runs | Beside | None]:
        """What has to be saved since the last time; None for what is to be forgotten."""
        found: dict[int, Runs | Beside | None] = {}
        if self._live_changed:
            found[LIVE] = self.state.live
            self._changed |= self._beside  # what was further than the live runs no longer is
        for column in self._changed:
            beside = self._of(column)
            if beside is not None:
                found[column] = beside
                self._beside.add(column)
            elif column in self._beside:
                found[column] = None
                self._beside.remove(column)
        self._live_changed, self._changed = False, set()
        return found

    def _of(self, column: int) -> Beside | None:
        state = self.state
        live = state.live.take(column) if not self._live_changed and state.live.since[column] else None
        beside = Beside(live, state.parked.get(column), column in state.alone, state.waiting.get(column, {}))
        return beside if beside != Beside() else None

    def live(self, columns: Ints, table: Ints) -> Ints:
        """Candles that were built, one a column, are about to carry the live runs on. Returns which of them do.

        The others are known already: the exchange's own came first.
        """
        runs, opened = self.state.live, table[BEGAN]
        last = runs.last[columns]
        self._live_changed = True
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
        self._changed.add(column)
        live, parked, alone = self.state.live, self.state.parked, self.state.alone
        before = parked.get(column)
        if before is not None and before.since <= opened <= before.last + self.length_ms:
            self._join(column)
            return
        if live.last[column] and column not in alone:
            parked[column] = live.take(column)
        live.put(column, self._begun(opened))
        if self._history:
            alone.add(column)

    def _begun(self, since: int) -> Run:
        """A run whose first candle is still to come."""
        return Run(since, 0, self._study.init(1)[:, 0])

    def _join(self, column: int) -> None:
        """The parked run becomes the live one."""
        self._changed.add(column)
        self.state.live.put(column, self.state.parked.pop(column))
        self.state.alone.discard(column)

    def _wait(self, column: int, table: Ints) -> None:
        self._changed.add(column)
        waiting = self.state.waiting.setdefault(column, {})
        waiting.update((int(candle[BEGAN]), candle.copy()) for candle in table.T)
        if len(waiting) <= WAITING_MOST:
            return
        if column in self.state.alone:
            self.state.alone.remove(column)
            self.state.parked.pop(column, None)
            del self.state.waiting[column]
        else:
            for opened in sorted(waiting)[WAITING_MOST:]:
                del waiting[opened]

    def _run(self, column: int) -> Run | None:
        """The run that the exchange's candles carry on, if there is one."""
        live = self.state.live
        joined = live.last[column] and column not in self.state.alone
        return live.take(column) if joined else self.state.parked.get(column)

    def history(self, column: int, table: Ints, reason: HistoryReason) -> Stretch | None:
        """The exchange's own candles: those that carry a run on at once, or None where they are known or have to wait."""
        run = self._run(column)
        first, last = int(table[BEGAN, 0]), int(table[BEGAN, -1])
        if run is not None and last <= run.last:
            return None
        if run is not None and first <= run.last + self.length_ms:
            return Stretch(self, column, run, table[:, table[BEGAN] > run.last])
        if reason is HistoryReason.START and run is self.state.parked.get(column):
            self.state.parked[column] = run = self._begun(first)
            return Stretch(self, column, run, table)
        self._wait(column, table)
        return None

    def advance(self, column: int) -> Stretch | None:
        """What waits and can carry a run on now; to be asked again after it has. Joins the runs when they meet."""
        live, parked, alone = self.state.live, self.state.parked, self.state.alone
        run = self._run(column)
        stretch = self._take_waiting(column, run, run.last + self.length_ms) if run is not None else None
        if stretch is not None or column not in alone:
            return stretch
        if run is not None and run.last >= live.last[column]:
            self._join(column)
            return self._take_waiting(column, run, run.last + self.length_ms)
        first = self._long_enough(column)
        if first is None:
            return None
        parked[column] = self._begun(first)
        return self._take_waiting(column, parked[column], first)

    def _take_waiting(self, column: int, run: Run, first: int) -> Stretch | None:
        """The candles in a row from `first` on."""
        waiting = self.state.waiting.get(column)
        if waiting is None:
            return None
        self._changed.add(column)
        found, opened = [], first
        while (candle := waiting.get(opened)) is not None:
            found.append(candle)
            opened += self.length_ms
        for known in [time for time in waiting if time < opened]:
            del waiting[known]
        if not waiting:
            del self.state.waiting[column]
        return Stretch(self, column, run, np.stack(found, axis=1)) if found else None

    def _long_enough(self, column: int) -> int | None:
        """Where those candles in a row begin that lead to the live run, if they are enough to go on without the parked one."""
        waiting, newest, since = self.state.waiting.get(column, {}), int(self.state.live.last[column]), int(self.state.live.since[column])
        opened = since
        while opened - self.length_ms in waiting:
            opened -= self.length_ms
        enough = (newest - opened) // self.length_ms + 1 >= self._enough
        return opened if opened < since and enough else None
