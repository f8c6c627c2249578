"""What is held of each symbol's trades: a run is a row of trades whose ids continue, kept in a column of arrays.

    ids      ··|101|102|103|      |240|241|··       the feed could not get 104 to 239
    runs     ──── a ────────      ──── b ────►
               retired: klines      live: trades and klines
               may close its end

A run that a hole ended is kept for a while, since a kline that is read later may still say up to when it was whole. So what comes
of it doesn't depend on which of two topics was read first.
"""

from dataclasses import dataclass, field

import numpy as np

from klinestream.market import trade_cells
from klinestream.market.decimals import Floats, Ints
from klinestream.market.indicators.protocol import Bools
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.trade_cells import NO_ID, Cells

HOLES_REMEMBERED = 16
"""How many holes are remembered a symbol; a trade that comes for one of them is too late."""
RETIRED_MOST = 16
"""How many ended runs are kept a symbol."""
SECONDS_REMEMBERED = 16
"""How many seconds with trades are kept of a run, to compare klines that are read later."""

SINCE_ID, NEWEST_ID, SINCE_MS, NEWEST_MS, PROVED_MS, FRONTIER_MS, HEAD, FIRST_BEFORE, LAST_BEFORE, SECONDS, SYMBOL = range(11)
"""Marks of a run. PROVED_MS: a kline said that all before is there; FRONTIER_MS: end of the newest window that is complete; HEAD: the
newest cell's number; FIRST_BEFORE, LAST_BEFORE: ids that the window before held; SECONDS: how many with trades so far."""
_MARKS = 11

Hole = tuple[int, int]
"""Ids: the first one missing, and the first one there again."""


@dataclass(slots=True)
class TradeState:
    """All that is known of the symbols so far."""

    made_by: tuple[int, int, int]  # the settings it was computed with
    marks: Ints  # (_MARKS, columns)
    cells: Cells  # (FIELDS, a window's cells, columns): the newest ones, the head last
    seconds: Cells  # (FIELDS, SECONDS_REMEMBERED, columns): those with trades, the n-th at n modulo their number
    opened: Ints  # (SECONDS_REMEMBERED, columns): their open times, -1 where there is none
    rsi: Floats  # of the windows' averages
    rsi_now: Floats  # its newest value, nan where there is none
    rsi_ready: Bools
    waiting: Ints  # klines whose trades are not all in yet, as `klinestream.market.trade_checks` has them
    symbols: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Symbol → its place in `symbols` and `live`."""
    live: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """The column of each symbol's run, -1 where it has none."""
    retired: dict[int, list[int]] = field(default_factory=dict)
    holes: dict[int, list[Hole]] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, made_by: tuple[int, int, int], depth: int, waiting: Ints) -> "TradeState":
        """The state before the first trade."""
        return cls(
            made_by,
            np.zeros((_MARKS, 0), np.int64),
            trade_cells.empty(depth, 0),
            trade_cells.empty(SECONDS_REMEMBERED, 0),
            np.zeros((SECONDS_REMEMBERED, 0), np.int64),
            Rsi(made_by[2]).init(0),
            np.zeros(0),
            np.zeros(0, np.bool_),
            waiting,
        )

    def numbers_of(self, symbols: tuple[str, ...]) -> Ints:
        """Each symbol's number; new ones get one."""
        known = self.numbers
        try:
            return np.array([known[symbol] for symbol in symbols], np.int64)
        except KeyError:
            for symbol in symbols:
                if symbol not in known:
                    known[symbol] = len(known)
                    self.symbols.append(symbol)
        self.live = np.append(self.live, np.full(len(known) - len(self.live), -1, np.int64))
        return np.array([known[symbol] for symbol in symbols], np.int64)

    def sources_of(self, sources: tuple[str, ...]) -> Ints:
        """Each source's number; new ones get one."""
        if len(set(sources)) == 1 and sources[0] in self.sources:
            return np.full(len(sources), self.sources.index(sources[0]), np.int64)
        for source in sources:
            if source not in self.sources:
                self.sources.append(source)
        return np.array([self.sources.index(source) for source in sources], np.int64)

    def begin(self, number: int, first_id: int, time_ms: int, bin_ms: int, slide_ms: int) -> None:
        """A symbol's new run; the one before, if any, is retired."""
        before = int(self.live[number])
        if before >= 0:
            retired = self.retired.setdefault(number, [])
            retired.append(before)
            if len(retired) > RETIRED_MOST:
                self.free.append(retired.pop(0))
        column = self._column()
        self.live[number] = column
        marks = np.full(_MARKS, -1, np.int64)
        marks[[SINCE_ID, NEWEST_ID, SINCE_MS, NEWEST_MS]] = first_id, first_id - 1, time_ms, time_ms
        marks[[FRONTIER_MS, HEAD, SECONDS, SYMBOL]] = time_ms // slide_ms * slide_ms, time_ms // bin_ms, 0, number
        self.marks[:, column] = marks
        self.cells[:, :, column] = trade_cells.empty(self.cells.shape[1])
        self.seconds[:, :, column] = trade_cells.empty(SECONDS_REMEMBERED)
        self.opened[:, column] = NO_ID
        self.rsi[:, column] = Rsi(self.made_by[2]).init(1)[:, 0]
        self.rsi_now[column], self.rsi_ready[column] = np.nan, False

    def remember_hole(self, number: int, hole: Hole) -> None:
        """Ids that were missing when those after them came."""
        holes = self.holes.setdefault(number, [])
        holes.append(hole)
        del holes[:-HOLES_REMEMBERED]

    def retired_run(self, number: int, last_id: int) -> int:
        """The column of the ended run that holds an id, -1 if none does. Klines come in order: runs before it are let go."""
        columns = self.retired.get(number, [])
        while columns and self.marks[NEWEST_ID, columns[0]] < last_id:
            self.free.append(columns.pop(0))
        return columns[0] if columns and self.marks[SINCE_ID, columns[0]] <= last_id else -1

    def _column(self) -> int:
        if not self.free:
            self._grow()
        return self.free.pop()

    def _grow(self) -> None:
        """Room for half as many columns again."""
        have = self.marks.shape[1]
        more = max(4, have // 2)
        self.marks = np.concatenate([self.marks, np.full((_MARKS, more), -1, np.int64)], axis=1)
        self.cells = np.concatenate([self.cells, trade_cells.empty(self.cells.shape[1], more)], axis=2)
        self.seconds = np.concatenate([self.seconds, trade_cells.empty(SECONDS_REMEMBERED, more)], axis=2)
        self.opened = np.concatenate([self.opened, np.full((SECONDS_REMEMBERED, more), NO_ID, np.int64)], axis=1)
        self.rsi = np.concatenate([self.rsi, Rsi(self.made_by[2]).init(more)], axis=1)
        self.rsi_now = np.append(self.rsi_now, np.full(more, np.nan))
        self.rsi_ready = np.append(self.rsi_ready, np.zeros(more, np.bool_))
        self.free = list(range(have + more - 1, have - 1, -1))
