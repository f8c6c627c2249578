"""Sliding windows over 1 s klines: average, low, high, volume and the RSI of the averages, over arrays of symbols.

    klines      |··10··|··11··|··12··|··13··|      a kline's event time is its close, …999
    windows             [9.0 ─────────── 12.0)     3 s long, one every 0.5 s; complete when kline 11 is there,
                          [9.5 ─────────── 12.5)   and so is this one: kline 12 closes at 12.999

A symbol's time is its own: when the kline of second t comes, the windows that end in (t + 0.999, t + 1.999] are
complete, for the next kline that could fall into any of them closes at t + 1.999. Nothing waits for a watermark, and
no result depends on how the klines were split into batches, on other symbols, or on repeats.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klinestream.market.batch import KlineBatch
from klinestream.market.decimals import UNIT, Floats, Ints, ratio
from klinestream.market.errors import EngineError
from klinestream.market.events import SECOND_MS, LateReason, Window
from klinestream.market.indicators.rsi import Rsi

HOLES_REMEMBERED = 16
"""How many holes are remembered a symbol; a kline of a remembered hole is a repair, not a stale one."""

_NEVER_LEAST = np.iinfo(np.int64).max

Shape = tuple[int, tuple[int, ...]]
"""Windows that hold the same klines: how many each holds, and their ends as distances from the newest one's open time."""

Hole = tuple[int, int]
"""Open times: the first second missing, and the first one there again."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What the engine computes. `remembered_s`: for how many seconds a repeat can be told from a conflict."""

    size_ms: int = 3000
    slide_ms: int = 500
    rsi_period: int = 14
    remembered_s: int = 60

    @property
    def computed(self) -> tuple[int, int, int]:
        """What the values in a state depend on."""
        return self.size_ms, self.slide_ms, self.rsi_period

    @property
    def depth(self) -> int:
        """How many klines the longest window holds."""
        return max(points for points, _ in self.shapes())

    def shapes(self) -> list[Shape]:
        """The windows that one kline completes.

        Windows that hold the same klines stand together, in order of their ends. With a slide above a second the end
        counts only where it falls on the grid.

        >>> WindowSettings(3000, 500).shapes()
        [(3, (1000, 1500))]
        >>> WindowSettings(2500, 500).shapes()
        [(3, (1000,)), (2, (1500,))]
        """
        shapes: dict[int, tuple[int, ...]] = {}
        for end in range(SECOND_MS, 2 * SECOND_MS, min(self.slide_ms, SECOND_MS)):
            points = (SECOND_MS - 1 - end + self.size_ms) // SECOND_MS + 1
            shapes[points] = (*shapes.get(points, ()), end)
        return list(shapes.items())


@dataclass(slots=True)
class Remembered:
    """The klines of one second modulo `remembered_s`: per symbol the open time held there, and its content's digest."""

    open_times: Ints
    digests: npt.NDArray[np.uint64]


class Memory(Protocol):
    """Where remembered seconds are kept: Flink's map state, or a `Held` dictionary."""

    def get(self, slot: int, /) -> Remembered | None:
        """What is remembered in a slot."""

    def put(self, slot: int, second: Remembered, /) -> None:
        """Remember it."""


class Held(dict[int, Remembered]):
    """A memory in this process."""

    def put(self, slot: int, second: Remembered, /) -> None:
        """Remember it."""
        self[slot] = second


@dataclass(slots=True)
class WindowState:
    """All that changes with each kline, symbols side by side. Small, since it is saved whole after each batch."""

    made_by: tuple[int, int, int]  # the settings it was computed with
    newest: Ints  # open time of the newest kline
    since: Ints  # open time of the first kline of the contiguous run
    points: Ints  # klines of the run, up to the ring's depth
    ring: Ints  # (4, depth, symbols): close, low, high, base volume's whole units
    remainders: Ints  # (depth, symbols): base volume's remainder
    rsi: Floats  # of the windows' averages

    @classmethod
    def empty(cls, settings: WindowSettings) -> "WindowState":
        """The state before the first kline."""
        return cls(
            settings.computed,
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros((4, settings.depth, 0), np.int64),
            np.zeros((settings.depth, 0), np.int64),
            Rsi(settings.rsi_period).init(0),
        )


@dataclass(slots=True)
class Names:
    """What seldom changes: the symbols' columns, and the holes of each."""

    columns: dict[str, int] = field(default_factory=dict)
    holes: dict[str, list[Hole]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WindowRows:
    """Windows as columns. Each row is published once for each of its `ends`: windows that hold the same klines."""

    ends: tuple[int, ...]  # distances from `open_times`
    size_ms: int
    symbols: list[str]
    open_times: Ints  # of the kline that completed them
    close: Floats
    average_price: Floats
    low: Floats
    high: Floats
    volume: Floats
    points: Ints
    rsi: Floats  # nan: none yet
    rsi_ready: npt.NDArray[np.bool_]
    since: Ints

    def events(self) -> list[Window]:
        """The windows one by one."""
        prices = (self.close, self.average_price, self.low, self.high, self.volume, self.points)
        columns = (*prices, self.rsi.astype(object), self.rsi_ready, self.since)
        columns[6][np.isnan(self.rsi)] = None
        rows = zip(self.symbols, self.open_times.tolist(), *(column.tolist() for column in columns), strict=True)
        return [Window(symbol, opened + end - self.size_ms, opened + end, *values) for symbol, opened, *values in rows for end in self.ends]


@dataclass(slots=True)
class Step:
    """What a batch led to. Rows are places in the batch."""

    windows: list[WindowRows] = field(default_factory=list)
    klines: int = 0
    repeats: int = 0
    late: list[tuple[int, LateReason]] = field(default_factory=list)
    repairs: list[int] = field(default_factory=list)
    holes: int = 0
    names_changed: bool = False


class WindowEngine:
    """The windows of any number of symbols, a batch of klines at a time.

    State and memory are the caller's to keep: after `step` the caller saves `state`, and `names` if the step says that
    they changed; `memory` is written through.
    """

    def __init__(
        self, settings: WindowSettings, state: WindowState | None = None, names: Names | None = None, memory: Memory | None = None
    ) -> None:
        self.settings = settings
        self.state = state or WindowState.empty(settings)
        self.names = names or Names()
        self.memory: Memory = Held() if memory is None else memory
        self._rsi = Rsi(settings.rsi_period)
        self._shapes = settings.shapes()
        if self.state.made_by != settings.computed:
            raise EngineError(
                f"the state was computed with size, slide and RSI period {self.state.made_by}, the settings say {settings.computed}: "
                "go back to those settings, or start the job without its state"
            )

    def step(self, batch: KlineBatch) -> Step:
        """Take klines in any number, each symbol's own in the order they came."""
        step = Step()
        columns = self._columns(batch.symbols, step)
        digests = batch.content()
        for rows in rounds(columns):
            self._round(batch, rows, columns[rows], digests[rows], step)
        return step

    def _columns(self, symbols: tuple[str, ...], step: Step) -> Ints:
        known = self.names.columns
        for symbol in symbols:
            if symbol not in known:
                known[symbol] = len(known)
                step.names_changed = True
        new = len(known) - len(self.state.newest)
        if new:
            self._grow(new)
        return np.fromiter((known[symbol] for symbol in symbols), np.int64, len(symbols))

    def _grow(self, new: int) -> None:
        s = self.state
        s.newest, s.since, s.points = (np.append(a, np.zeros(new, np.int64)) for a in (s.newest, s.since, s.points))
        s.ring = np.concatenate([s.ring, np.zeros((*s.ring.shape[:2], new), np.int64)], axis=2)
        s.remainders = np.concatenate([s.remainders, np.zeros((len(s.remainders), new), np.int64)], axis=1)
        s.rsi = np.concatenate([s.rsi, self._rsi.init(new)], axis=1)

    def _round(self, batch: KlineBatch, rows: Ints, columns: Ints, digests: npt.NDArray[np.uint64], step: Step) -> None:
        """One kline a symbol."""
        newest, opened = self.state.newest[columns], batch.open_times[rows]
        fresh = opened > newest
        if not fresh.all():
            self._old(batch, rows[~fresh], columns[~fresh], digests[~fresh], step)
            rows, columns, digests, newest, opened = rows[fresh], columns[fresh], digests[fresh], newest[fresh], opened[fresh]
        if not len(rows):
            return
        broken = opened != newest + SECOND_MS
        if broken.any():
            self._restart(columns[broken], newest[broken], opened[broken], step)
        self._hold(batch, rows, columns)
        self._remember(columns, opened, digests)
        step.klines += len(rows)
        for shape in self._shapes:
            self._complete(batch, rows, columns, shape, step)

    def _restart(self, columns: Ints, newest: Ints, opened: Ints, step: Step) -> None:
        """Begin a new run: after a hole, and at a symbol's first kline."""
        s = self.state
        s.since[columns], s.points[columns] = opened, 0
        s.ring[:, :, columns], s.remainders[:, columns] = 0, 0
        s.rsi[:, columns] = self._rsi.init(len(columns))
        names = list(self.names.columns)
        for column, last, first in zip(columns.tolist(), newest.tolist(), opened.tolist(), strict=True):
            if last:
                holes = self.names.holes.setdefault(names[column], [])
                holes.append((last + SECOND_MS, first))
                del holes[:-HOLES_REMEMBERED]
                step.holes += 1
                step.names_changed = True

    def _hold(self, batch: KlineBatch, rows: Ints, columns: Ints) -> None:
        """Put the klines into the rings."""
        s, opened = self.state, batch.open_times[rows]
        slot = opened // SECOND_MS % self.settings.depth
        _, high, low, close = batch.prices[:, rows]
        s.ring[:, slot, columns] = close, low, high, batch.volumes[0, rows]
        s.remainders[slot, columns] = batch.remainders[0, rows]
        s.newest[columns] = opened
        s.points[columns] = np.minimum(s.points[columns] + 1, self.settings.depth)

    def _remember(self, columns: Ints, opened: Ints, digests: npt.NDArray[np.uint64]) -> None:
        slots = opened // SECOND_MS % self.settings.remembered_s
        for slot in np.unique(slots).tolist():
            mine = slots == slot
            held = self.memory.get(slot) or Remembered(np.zeros(0, np.int64), np.zeros(0, np.uint64))
            new = len(self.state.newest) - len(held.open_times)
            times, contents = np.append(held.open_times, np.zeros(new, np.int64)), np.append(held.digests, np.zeros(new, np.uint64))
            times[columns[mine]], contents[columns[mine]] = opened[mine], digests[mine]
            self.memory.put(slot, Remembered(times, contents))

    def _old(self, batch: KlineBatch, rows: Ints, columns: Ints, digests: npt.NDArray[np.uint64], step: Step) -> None:
        """Klines that aren't newer than the newest: repeats, conflicts, repairs and stale ones."""
        opened = batch.open_times[rows]
        slots = opened // SECOND_MS % self.settings.remembered_s
        for slot in np.unique(slots).tolist():
            held = self.memory.get(slot)
            for i in np.flatnonzero(slots == slot).tolist():
                row, column, time = int(rows[i]), int(columns[i]), int(opened[i])
                if held is not None and column < len(held.open_times) and held.open_times[column] == time:
                    if held.digests[column] == digests[i]:
                        step.repeats += 1
                    else:
                        step.late.append((row, LateReason.CONFLICT))
                elif any(first <= time < end for first, end in self.names.holes.get(batch.symbols[row], ())):
                    step.repairs.append(row)
                else:
                    step.late.append((row, LateReason.STALE))

    def _complete(self, batch: KlineBatch, rows: Ints, columns: Ints, shape: Shape, step: Step) -> None:
        """The windows of one shape that these klines complete."""
        points, ends = shape
        s, opened = self.state, batch.open_times[rows]
        on_grid = (opened + ends[0]) % self.settings.slide_ms == 0
        if not on_grid.all():
            rows, columns, opened = rows[on_grid], columns[on_grid], opened[on_grid]
        if not len(rows):
            return
        back = np.arange(points)[:, None]
        there = np.minimum(s.points[columns], points)
        slots = (opened // SECOND_MS - back) % self.settings.depth
        close, low, high, volume = s.ring[:, slots, columns]
        missing = back >= there
        average = ratio((close // UNIT).sum(axis=0), (close % UNIT).sum(axis=0), there)
        rsi, ready = self._rsi.update(s.rsi, columns, average)
        step.windows.append(
            WindowRows(
                ends=ends,
                size_ms=self.settings.size_ms,
                symbols=[batch.symbols[row] for row in rows.tolist()],
                open_times=opened,
                close=ratio(*np.divmod(close[0], UNIT)),
                average_price=average,
                low=ratio(*np.divmod(np.where(missing, _NEVER_LEAST, low).min(axis=0), UNIT)),
                high=ratio(*np.divmod(high.max(axis=0), UNIT)),
                volume=ratio(volume.sum(axis=0), s.remainders[slots, columns].sum(axis=0)),
                points=there,
                rsi=rsi,
                rsi_ready=ready,
                since=s.since[columns],
            )
        )


def rounds(columns: Ints) -> list[Ints]:
    """Rows of a batch in rounds that hold no symbol twice, each symbol's rows in their order.

    >>> [rows.tolist() for rows in rounds(np.array([7, 8, 7, 7, 9]))]
    [[0, 1, 4], [2], [3]]
    """
    order = np.argsort(columns, kind="stable")
    grouped = columns[order]
    starts = np.flatnonzero(np.append(True, grouped[1:] != grouped[:-1])) if len(columns) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(columns)))
    place = np.empty(len(columns), np.int64)
    place[order] = np.arange(len(columns)) - np.repeat(starts, lengths)
    by_round = np.argsort(place, kind="stable")
    return [rows for rows in np.split(by_round, np.cumsum(np.bincount(place))[:-1]) if len(rows)] if len(columns) else []
