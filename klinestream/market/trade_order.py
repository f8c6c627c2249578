"""Trades of a batch by symbol, each symbol's in their order: what continues, what begins anew, what counts when.

ids     101 102 102 103 | 107 108      102 again: a repeat; 104 to 106 are missing: a hole, and with 107 a new run begins
T        .1  .4  .4  .3 |  .9  .9      103 is back in time: it counts at .4, with the trade before it
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.market.indicators.protocol import Bools
from klinestream.market.trade_batch import TradeBatch
from klinestream.market.trade_runs import NEWEST_ID, NEWEST_MS, PROVED_MS, TradeState

IN_A_HOLE = "f, l: too late, these ids were missing when later ones came"
IN_PART = "f, l: too late, a part of these ids was counted already"

_NO_RUN = -2
_TIME_BITS = 43  # any time that the decoder lets in, and one bit more


@dataclass(slots=True)
class Ordered:
    """Rows of a batch, sorted by symbol: the ones that count."""

    rows: Ints  # places in the batch
    numbers: Ints  # the symbols'
    times: Ints  # when each counts: not before the trade before it
    begins: Bools  # it is the first one of a run
    jumps: Bools  # it ends a long silence
    round: Ints  # in which it is taken: a run's first one, and what ends a silence, begin one
    repeats: int = 0
    holes: int = 0
    back_in_time: int = 0
    contradictions: int = 0
    unusable: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def rounds(self) -> Iterator["Ordered"]:
        """Parts in which runs begin, and silences end, with a symbol's first row only."""
        if not len(self.rows):
            return
        most = int(self.round.max())
        if not most:
            yield self
            return
        for turn in range(most + 1):
            at = np.flatnonzero(self.round == turn)
            yield Ordered(self.rows[at], self.numbers[at], self.times[at], self.begins[at], self.jumps[at], self.round[at])


def in_order(state: TradeState, batch: TradeBatch, silence_ms: int) -> Ordered:
    """The trades that count. Remembers holes in `state`, and nothing else there."""
    numbers = state.numbers_of(batch.symbols)
    rows = np.argsort(numbers, kind="stable")
    numbers, (first, last) = numbers[rows], batch.ids[:, rows]
    starts = _starts(numbers)
    held = _of_run(state, NEWEST_ID, numbers, _NO_RUN)
    before = np.where(starts, held, np.concatenate([[_NO_RUN], last[:-1]])) if len(rows) else held
    clean = first == before + 1
    found = Ordered(rows, numbers, rows, np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_), rows)
    if not clean.all():
        keep = _sequence(state, found, first, last, np.isin(numbers, numbers[~clean]))
        found.rows, found.numbers, found.begins = rows[keep], numbers[keep], found.begins[keep]
    _count_at(state, found, batch.times[found.rows], silence_ms)
    return found


def _sequence(state: TradeState, found: Ordered, first: Ints, last: Ints, odd: Bools) -> Bools:
    """Row by row, for symbols among whose trades something isn't as it should be: which rows count."""
    keep = np.ones(len(odd), np.bool_)
    current, newest = -1, _NO_RUN
    at = np.flatnonzero(odd)
    columns = (at, found.numbers[at], first[at], last[at])
    for i, number, begin, end in zip(*(column.tolist() for column in columns), strict=True):
        if number != current:
            current = number
            column = int(state.live[number])
            newest = int(state.marks[NEWEST_ID, column]) if column >= 0 else _NO_RUN
        if newest == _NO_RUN or begin > newest + 1:
            found.begins[i] = True
            found.holes += newest != _NO_RUN
            if begin:
                state.remember_hole(number, (max(newest + 1, 0), begin))
        elif begin <= newest:
            keep[i] = False
            if any(begin < after and missing <= end for missing, after in state.holes.get(number, ())):
                found.unusable.append((int(found.rows[i]), IN_A_HOLE))
            elif end > newest:
                found.unusable.append((int(found.rows[i]), IN_PART))
            else:
                found.repeats += 1
            continue
        newest = end
    return keep


def _count_at(state: TradeState, found: Ordered, made: Ints, silence_ms: int) -> None:
    """When each trade counts, and in which round it is taken."""
    starts = _starts(found.numbers)
    anew = starts | found.begins
    firsts = np.flatnonzero(anew)
    begun = found.begins[firsts]
    newest = np.where(begun, made[firsts], _of_run(state, NEWEST_MS, found.numbers[firsts], 0))
    proved = np.where(begun, 0, _of_run(state, PROVED_MS, found.numbers[firsts], 0))
    run = np.cumsum(anew) - 1
    raised = made.copy()
    raised[firsts] = np.maximum(raised[firsts], newest)
    ordered = np.maximum.accumulate(raised + (run << _TIME_BITS)) - (run << _TIME_BITS) if len(made) else made
    found.times = np.maximum(ordered, proved[run]) if len(made) else made
    found.back_in_time = int((ordered > made).sum())
    found.contradictions = int((found.times > ordered).sum())
    before = np.concatenate([[0], found.times[:-1]]) if len(made) else made
    before[firsts] = newest
    found.jumps = found.times - before > silence_ms
    # A round goes no further than a silence may last and once as much: that bounds what it takes to hold.
    cuts = (found.begins | found.jumps | (found.times // silence_ms != before // silence_ms)) & ~starts
    turns = np.cumsum(cuts)
    found.round = turns - turns[np.flatnonzero(starts)][np.cumsum(starts) - 1] if len(made) else turns


def _starts(numbers: Ints) -> Bools:
    starts = np.ones(len(numbers), np.bool_)
    starts[1:] = numbers[1:] != numbers[:-1]
    return starts


def _of_run(state: TradeState, mark: int, numbers: Ints, otherwise: int) -> Ints:
    """A mark of each symbol's run."""
    columns = state.live[numbers]
    if not state.marks.shape[1]:
        return np.full(len(numbers), otherwise, np.int64)
    return np.where(columns >= 0, state.marks[mark, columns], otherwise)
