"""Sliding windows over trades: what moves each half second, because something was traded in it.

    trades      │·· ·│    │·  ·│ ·  │          event time is when it was made; ids continue, so that nothing is missing
    cells       │ a  │ -  │ b  │ c  │          half a second each: exact sums
    windows   [────── a - b ───)               3 s long, one every 0.5 s, each the sum of its cells
                   [── - b c ───────)          complete once a trade at or after its end is there, or a kline that closes
    klines        ────│    k1   │   k2 …       there or later, and all trades up to its `last_trade_id`

A symbol's time is its own, and no clock takes part. How trades and klines were split into batches, which of the two was read first,
what other symbols did, and repeats: none of it changes a value. docs/trade-windows.md has the definitions.
"""

from dataclasses import dataclass, field
from math import gcd

import numpy as np

from klinestream.market import trade_cells, trade_checks
from klinestream.market.batch import KlineBatch
from klinestream.market.decimals import Ints
from klinestream.market.errors import EngineError
from klinestream.market.events import SECOND_MS
from klinestream.market.indicators.protocol import Bools
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.trade_batch import TradeBatch
from klinestream.market.trade_cells import Cells
from klinestream.market.trade_checks import LAST, NUMBER, OPENED, KlineDifference
from klinestream.market.trade_order import Ordered, in_order
from klinestream.market.trade_rows import TradeWindowRows
from klinestream.market.trade_runs import (
    FIRST_BEFORE,
    FRONTIER_MS,
    HEAD,
    LAST_BEFORE,
    NEWEST_ID,
    NEWEST_MS,
    PROVED_MS,
    SINCE_ID,
    TradeState,
)
from klinestream.market.windows import rounds

_CELLS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class TradeWindowSettings:
    """What the engine computes. The slide divides a second, or is a multiple of one; the size is a multiple of the slide.

    A window that begins more than `silence_ms` after the newest trade before its end isn't published: else one trade after a silent
    day would give 172,800 of them at once. Of a symbol's klines that are read before their trades `waiting_most` wait for them; the
    oldest are let go, and prove nothing.
    """

    size_ms: int = 3000
    slide_ms: int = 500
    rsi_period: int = 14
    silence_ms: int = 600_000
    waiting_most: int = 64

    @property
    def computed(self) -> tuple[int, int, int]:
        """What the values in a state depend on."""
        return self.size_ms, self.slide_ms, self.rsi_period

    @property
    def cell_ms(self) -> int:
        """Length of a cell: whole ones make up a window, and a second.

        >>> TradeWindowSettings(3000, 500).cell_ms, TradeWindowSettings(4000, 2000).cell_ms
        (500, 1000)
        """
        return gcd(self.slide_ms, SECOND_MS)

    @property
    def quiet_ms(self) -> int:
        """How long after its newest trade a symbol's windows go on."""
        return self.silence_ms + self.size_ms

    @property
    def depth(self) -> int:
        """How many cells make up a window."""
        return self.size_ms // self.cell_ms


@dataclass(slots=True)
class TradeStep:
    """What a batch led to. Rows are places in the batch."""

    windows: list[TradeWindowRows] = field(default_factory=list)
    trades: int = 0
    repeats: int = 0
    back_in_time: int = 0
    contradictions: int = 0
    holes: int = 0
    unusable: list[tuple[int, str]] = field(default_factory=list)
    """Rows that are set aside, and why."""
    klines_equal: int = 0
    klines_unchecked: int = 0
    differences: list[KlineDifference] = field(default_factory=list)


class TradeWindowEngine:
    """The windows of any number of symbols, a batch of trades or klines at a time. The caller keeps `state`."""

    def __init__(self, settings: TradeWindowSettings, state: TradeState | None = None) -> None:
        self.settings = settings
        self.state = state or TradeState.empty(settings.computed, settings.depth, trade_checks.no_klines())
        self._rsi = Rsi(settings.rsi_period)
        if self.state.made_by != settings.computed:
            raise EngineError(
                f"the state was computed with size, slide and RSI period {self.state.made_by}, the settings say {settings.computed}: "
                "go back to those settings, or start the job without its state"
            )

    def take_trades(self, batch: TradeBatch) -> TradeStep:
        """Take trades in any number, each symbol's own in the order they came."""
        step = TradeStep()
        ordered = in_order(self.state, batch, self.settings.quiet_ms)
        step.trades, step.repeats, step.holes, step.unusable = len(ordered), ordered.repeats, ordered.holes, ordered.unusable
        step.back_in_time, step.contradictions = ordered.back_in_time, ordered.contradictions
        sources = self.state.sources_of(batch.sources)
        for part in ordered.rounds():
            self._round(batch, part, sources, step)
        self._settle(step)
        return step

    def take_klines(self, batch: KlineBatch) -> TradeStep:
        """Take klines in any number, each symbol's own in the order they came."""
        step = TradeStep()
        rows = trade_checks.rows_of(batch, self.state.numbers_of(batch.symbols))
        proving = rows[LAST] >= 0
        step.klines_unchecked += int((~proving).sum())
        self.state.waiting = np.concatenate([self.state.waiting, rows[:, proving]], axis=1)
        self._settle(step)
        self._forget(step)
        return step

    def _round(self, batch: TradeBatch, part: Ordered, sources: Ints, step: TradeStep) -> None:
        """Trades of which no symbol's have a hole or a long silence among them."""
        cell_ms, state = self.settings.cell_ms, self.state
        for i in np.flatnonzero(part.begins).tolist():
            state.begin(int(part.numbers[i]), int(batch.ids[0, part.rows[i]]), int(part.times[i]), cell_ms, self.settings.slide_ms)
        for i in np.flatnonzero(part.jumps).tolist():
            self._jump(int(state.live[part.numbers[i]]), int(part.times[i]), step)
        columns, numbers, rows = state.live[part.numbers], part.times // cell_ms, part.rows
        singles = trade_cells.single(
            batch.ids[:, rows],
            batch.prices[rows],
            batch.quantities[:, rows],
            sides=batch.sides[rows],
            sources=sources[rows],
            proofs=batch.proofs[rows],
        )
        starts = changes(columns, numbers)
        cells, columns_of, numbers = trade_cells.joined(singles, starts), columns[starts], numbers[starts]
        opened = numbers * cell_ms // SECOND_MS * SECOND_MS
        seconds = changes(columns_of, opened)
        trade_checks.add_seconds(state, columns_of[seconds], opened[seconds], trade_cells.joined(cells, seconds))
        firsts = changes(columns)
        lasts = np.append(firsts[1:], len(rows)) - 1
        moved, times = columns[lasts], part.times[lasts]
        at = np.repeat(np.arange(len(firsts)), np.diff(np.append(np.searchsorted(starts, firsts), len(starts))))
        self._advance(moved, times, step, (cells, at, numbers))
        state.marks[NEWEST_ID, moved], state.marks[NEWEST_MS, moved] = batch.ids[1, rows[lasts]], times

    def _jump(self, column: int, time_ms: int, step: TradeStep) -> None:
        """Over a long silence: what of it is published, then cells without trades up to the trade that ends it."""
        state, s = self.state, self.settings
        one = np.array([column])
        self._advance(one, state.marks[NEWEST_MS, one] + s.quiet_ms, step)
        newest = state.cells[trade_cells.NEWEST, -1, column].copy()
        state.cells[:, :, column] = trade_cells.empty(s.depth)
        state.cells[trade_cells.NEWEST, :, column] = newest[:, None]
        state.marks[[FRONTIER_MS, HEAD], column] = time_ms // s.slide_ms * s.slide_ms, time_ms // s.cell_ms

    def _advance(self, columns: Ints, to_ms: Ints, step: TradeStep, new: tuple[Cells, Ints, Ints] | None = None) -> None:
        """Runs go on to a time, with new cells (each one's place in `columns`, its number): windows that end by then are complete."""
        state, depth = self.state, self.settings.depth
        heads = state.marks[HEAD, columns]
        further = np.maximum(to_ms // self.settings.cell_ms - heads, 0)
        if new and not further.any():
            state.cells[:, -1, columns] = trade_cells.added(state.cells[:, -1, columns], new[0])
            return
        if len(columns) > 1 and further.sum() + depth * len(columns) > _CELLS_AT_ONCE:
            middle = len(columns) // 2
            for part in (slice(0, middle), slice(middle, None)):
                mine = (new[1] < middle) == (part.start == 0) if new else np.zeros(0, np.bool_)
                some = (new[0][:, mine], new[1][mine] - part.start, new[2][mine]) if new else None
                self._advance(columns[part], to_ms[part], step, some)
            return
        lengths = depth + further
        offsets = np.cumsum(lengths) - lengths
        line = trade_cells.empty(int(lengths.sum()))
        known = offsets[:, None] + np.arange(depth)
        line[:, known] = state.cells[:, :, columns].transpose(0, 2, 1)
        if new:
            cells, at, numbers = new
            places = offsets[at] + depth - 1 + numbers - heads[at]
            line[:, places] = trade_cells.added(line[:, places], cells)
        is_known = np.zeros(line.shape[1], np.bool_)
        is_known[known] = True
        trade_cells.carry_on(line, is_known)
        self._complete(columns, to_ms, offsets - heads + depth - 1, line, step)
        state.cells[:, :, columns] = line[:, (offsets + further)[:, None] + np.arange(depth)].transpose(0, 2, 1)
        state.marks[HEAD, columns] = heads + further

    def _complete(self, columns: Ints, to_ms: Ints, shifts: Ints, line: Cells, step: TradeStep) -> None:
        """The windows that end up to a time; a cell's place in the line is its number and the column's shift."""
        s, marks = self.settings, self.state.marks
        frontier = marks[FRONTIER_MS, columns]
        count = np.maximum(to_ms // s.slide_ms - frontier // s.slide_ms, 0)
        total = int(count.sum())
        if not total:
            return
        at = np.repeat(np.arange(len(columns)), count)
        ends = frontier[at] + s.slide_ms * (1 + np.arange(total) - np.repeat(np.cumsum(count) - count, count))
        cells = trade_cells.spans(line, shifts[at] + ends // s.cell_ms, s.depth)
        marks[FRONTIER_MS, columns] = frontier + count * s.slide_ms
        rows = TradeWindowRows.of(self.state, columns[at], ends, s.size_ms, cells)
        self._step_rsi(rows, columns[at], cells)
        step.windows.append(rows)

    def _step_rsi(self, rows: TradeWindowRows, columns: Ints, cells: Cells) -> None:
        """A step for each window with other trades than the one before, unless it has none; the others carry its value on."""
        state = self.state
        ids = cells[[trade_cells.FIRST_ID, trade_cells.LAST_ID]]
        firsts = changes(columns)
        before = np.concatenate([ids[:, :1], ids[:, :-1]], axis=1)
        before[:, firsts] = state.marks[[FIRST_BEFORE, LAST_BEFORE]][:, columns[firsts]]
        steps = np.flatnonzero((cells[trade_cells.COUNT] > 0) & (ids != before).any(axis=0))
        rsi, ready = np.full(len(columns), np.nan), np.zeros(len(columns), np.bool_)
        averages = np.array([rows.average_price[i] for i in steps.tolist()], np.float64)
        for turn in rounds(columns[steps]):
            rsi[steps[turn]], ready[steps[turn]] = self._rsi.update(state.rsi, columns[steps[turn]], averages[turn])
        stepped = np.zeros(len(columns), np.int64)
        stepped[steps] = steps
        group = np.repeat(firsts, np.diff(np.append(firsts, len(columns))))
        place = np.maximum.accumulate(np.maximum(stepped, group))
        carried = ~np.isin(place, steps)
        rows.rsi = np.where(carried, state.rsi_now[columns], rsi[place])
        rows.rsi_ready = np.where(carried, state.rsi_ready[columns], ready[place])
        lasts = np.append(firsts[1:], len(columns)) - 1
        ended = columns[lasts]
        state.rsi_now[ended], state.rsi_ready[ended] = rows.rsi[lasts], rows.rsi_ready[lasts]
        state.marks[FIRST_BEFORE, ended], state.marks[LAST_BEFORE, ended] = ids[:, lasts]

    def _settle(self, step: TradeStep) -> None:
        """Klines whose trades are all in are compared with them, and prove what they prove."""
        state, klines = self.state, self.state.waiting
        if not klines.shape[1]:
            return
        columns = state.live[klines[NUMBER]]
        begun = columns >= 0
        newest, since = (np.where(begun, state.marks[mark, columns] if begun.any() else 0, -1) for mark in (NEWEST_ID, SINCE_ID))
        settled = begun & (klines[LAST] <= newest)
        if not settled.any():
            return
        ended = settled & (klines[LAST] < since)
        columns = np.where(ended, -1, columns)
        if state.retired:
            for i in np.flatnonzero(settled & np.isin(klines[NUMBER], list(state.retired))).tolist():
                found = state.retired_run(int(klines[NUMBER, i]), int(klines[LAST, i]))
                columns[i] = found if ended[i] else columns[i]
        known = settled & (columns >= 0)
        step.klines_unchecked += int((settled & ~known).sum())
        state.waiting = klines[:, ~settled]
        self._take(klines[:, known], columns[known], step)

    def _take(self, klines: Ints, columns: Ints, step: TradeStep) -> None:
        if not len(columns):
            return
        compared = trade_checks.compare(self.state, klines, columns)
        step.klines_equal += compared.equal
        step.klines_unchecked += compared.unchecked
        step.differences += compared.differences
        marks = self.state.marks
        order = np.argsort(columns, kind="stable")
        firsts = changes(columns[order])
        moved = columns[order][firsts]
        proved = np.maximum.reduceat(klines[OPENED][order] + SECOND_MS, firsts)
        marks[PROVED_MS, moved] = np.maximum(marks[PROVED_MS, moved], proved)
        to_ms = np.minimum(proved, marks[NEWEST_MS, moved] + self.settings.quiet_ms)
        on: Bools = to_ms // self.settings.slide_ms > marks[FRONTIER_MS, moved] // self.settings.slide_ms
        if on.any():
            self._advance(moved[on], to_ms[on], step)

    def _forget(self, step: TradeStep) -> None:
        """Let klines go that are more than may wait."""
        klines = self.state.waiting
        if klines.shape[1] <= self.settings.waiting_most:
            return
        order = np.argsort(klines[NUMBER], kind="stable")
        firsts = changes(klines[NUMBER][order])
        lengths = np.diff(np.append(firsts, len(order)))
        left = np.repeat(firsts + lengths, lengths) - np.arange(len(order))  # of its symbol, from this one on
        keep = np.sort(order[left <= self.settings.waiting_most])
        step.klines_unchecked += len(order) - len(keep)
        self.state.waiting = klines[:, keep]


def changes(*columns: Ints) -> Ints:
    """Where a row differs from the one before, and the first one.

    >>> changes(np.array([7, 7, 8, 8]), np.array([1, 2, 2, 2])).tolist()
    [0, 1, 2]
    """
    if not len(columns[0]):
        return np.zeros(0, np.int64)
    differs = np.zeros(len(columns[0]), np.bool_)
    differs[0] = True
    for column in columns:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)
