"""Windows over stretches of seconds at once: what a replay has, where the live engine takes kline after kline.

    symbols  BTCUSDT  │·│·│·│·│·│·│·│ … │·│    a block: (symbols, seconds), with holes
             ETHUSDT  │·│·│ │·│·│·│·│ … │·│    sums and extremes along a row: all symbols and seconds at once
             NEWUSDT  │ │ │ │ │·│·│·│ … │·│    RSI: second after second, all symbols side by side
                        ▲ each second that is there completes its windows

Values are those of `WindowEngine`, to the last bit: sums are integers, divided by the same `ratio`, and RSI steps as in
`Rsi.update`. How a series is cut into blocks changes no value.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import UNIT, Floats, Ints, ratio
from klinestream.market.events import SECOND_MS
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.windows import Shape, WindowSettings

Bools = npt.NDArray[np.bool_]

_NEVER_LEAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class KlineBlock:
    """Klines of symbols over a stretch of seconds, (…, symbols, seconds); what stands where `there` is false means nothing."""

    first_ms: int
    """Open time of the first second."""
    there: Bools
    prices: Ints  # (4, …): open, high, low, close, in 1e-8
    volumes: Ints  # (4, …): whole units of base, quote, taker base, taker quote
    remainders: Ints  # (4, …): their remainders, 1e-8
    trades: Ints

    @property
    def open_times(self) -> Ints:
        """Of each second."""
        times: Ints = self.first_ms + SECOND_MS * np.arange(self.there.shape[1])
        return times


@dataclass(frozen=True, slots=True)
class WindowBlock:
    """Windows as arrays (symbols, seconds): those that the kline of each second completes. Nonsense where `there` is false."""

    ends: tuple[int, ...]  # distances from the second's open time; each window is published once for each
    on_grid: Bools  # (seconds,): whether they complete windows at all
    there: Bools
    close: Floats
    average_price: Floats
    low: Floats
    high: Floats
    volume: Floats
    points: Ints
    rsi: Floats  # nan: none yet
    rsi_ready: Bools
    since: Ints


@dataclass(slots=True)
class _Tail:
    """What goes on from block to block, a row a symbol."""

    newest: Ints  # open time of the newest kline, 0 before the first
    since: Ints  # open time of the first kline of its run
    columns: Ints  # (4, symbols, depth - 1): close, low, high, base volume's whole units of the last seconds
    remainders: Ints  # (symbols, depth - 1)
    rsi: Floats


class BlockWindows:
    """The windows of a fixed number of symbols, a block after the other in order of time."""

    def __init__(self, settings: WindowSettings, symbols: int) -> None:
        self._settings = settings
        self._rsi = Rsi(settings.rsi_period)
        self._shapes = settings.shapes()
        one, before = np.zeros(symbols, np.int64), settings.depth - 1
        self._tail = _Tail(
            one, one, np.zeros((4, symbols, before), np.int64), np.zeros((symbols, before), np.int64), self._rsi.init(symbols)
        )

    def step(self, block: KlineBlock) -> list[WindowBlock]:
        """Take the next block; a hole may lie before it. Returns a block of windows for each of their shapes."""
        tail = self._tail
        before = np.empty_like(block.there)
        before[:, 0] = tail.newest == block.first_ms - SECOND_MS
        before[:, 1:] = block.there[:, :-1]
        begins = block.there & ~before
        since = self._since(block, begins)
        points = np.where(block.there, np.minimum((block.open_times - since) // SECOND_MS + 1, self._settings.depth), 1)
        held = _Held(tail, block)
        found = [self._windows(block, held, points, since, shape) for shape in self._shapes]
        self._smooth(found, begins)
        self._keep(block, held, since)
        return found

    def _since(self, block: KlineBlock, begins: Bools) -> Ints:
        """Of each second where its run began."""
        if not begins.any():
            return np.broadcast_to(self._tail.since[:, None], block.there.shape)
        return np.asarray(np.maximum.accumulate(np.where(begins, block.open_times, self._tail.since[:, None]), 1))

    def _windows(self, block: KlineBlock, held: "_Held", points: Ints, since: Ints, shape: Shape) -> WindowBlock:
        """The windows of one shape, without RSI."""
        most, ends = shape
        on_grid = (block.open_times + ends[0]) % self._settings.slide_ms == 0
        whole, rest, low, high, volume, remainder = held.over(points, most)
        few = np.minimum(points, most)
        average = ratio(whole, rest, few)
        return WindowBlock(
            ends=ends,
            on_grid=on_grid,
            there=block.there if on_grid.all() else block.there & on_grid,
            close=ratio(*held.now(_Held.CLOSE)),
            average_price=average,
            low=ratio(*_parts(low)),
            high=ratio(*_parts(high)),
            volume=ratio(volume, remainder),
            points=few,
            rsi=np.full(average.shape, np.nan),
            rsi_ready=np.zeros(average.shape, np.bool_),
            since=since,
        )

    def _smooth(self, found: list[WindowBlock], begins: Bools) -> None:
        """Step the RSI, in place: second after second, and the shapes of each in their order."""
        state, (symbols, seconds) = self._tail.rsi, begins.shape
        # Time first, so that a step of all symbols stands together; those that fall on no window's end are none.
        averages = np.stack([each.average_price.T for each in found], axis=1).reshape(-1, symbols)
        anew = np.zeros((seconds, len(found), symbols), np.bool_)
        anew[:, 0] = begins.T
        anew = anew.reshape(averages.shape)
        steps = np.flatnonzero(np.stack([each.on_grid for each in found], axis=1))
        if len(steps):
            since_last = np.append(0, steps[:-1] + 1)
            of_steps = np.logical_or.reduceat(anew[: steps[-1] + 1], since_last, axis=0)
            values, ready = self._rsi.series(state, averages[steps], of_steps)
            whole, whole_ready = np.full(averages.shape, np.nan), np.zeros(averages.shape, np.bool_)
            whole[steps], whole_ready[steps] = values, ready
            for shape, each in enumerate(found):
                each.rsi[:], each.rsi_ready[:] = whole[shape :: len(found)].T, whole_ready[shape :: len(found)].T
        pending = np.flatnonzero(anew[steps[-1] + 1 if len(steps) else 0 :].any(axis=0))
        state[:, pending] = self._rsi.init(len(pending))

    def _keep(self, block: KlineBlock, held: "_Held", since: Ints) -> None:
        tail = self._tail
        last = np.where(block.there, block.open_times, 0).max(axis=1)
        tail.newest = np.maximum(tail.newest, last)
        tail.since = since[:, -1].copy()
        if self._settings.depth > 1:
            tail.columns = held.columns[..., 1 - self._settings.depth :].copy()
            tail.remainders = held.remainders[..., 1 - self._settings.depth :].copy()


class _Held:
    """A block with the seconds before it, (…, symbols, depth - 1 + seconds)."""

    CLOSE, LOW, HIGH, BASE = range(4)

    def __init__(self, tail: _Tail, block: KlineBlock) -> None:
        own = (block.prices[3], block.prices[2], block.prices[1], block.volumes[0])
        self.columns = np.stack([np.concatenate(pair, axis=1) for pair in zip(tail.columns, own, strict=True)])
        self.remainders = np.concatenate([tail.remainders, block.remainders[0]], axis=1)
        self.seconds = block.there.shape[1]
        self._whole, self._rest = _parts(self.columns[self.CLOSE])

    def now(self, row: int) -> tuple[Ints, Ints]:
        """A price of each second of the block."""
        return _parts(self._back(self.columns[row], 0)) if row != self.CLOSE else (self._back(self._whole, 0), self._back(self._rest, 0))

    def over(self, points: Ints, most: int) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints]:
        """Over the newest `points` seconds, `most` at most: sum of closes, whole and rest, low, high, sum of volumes, whole and rest."""
        added = (self._whole, self._rest, self.columns[self.BASE], self.remainders)
        sums = [self._back(each, 0).copy() for each in added]
        low, high = self._back(self.columns[self.LOW], 0).copy(), self._back(self.columns[self.HIGH], 0).copy()
        all_held = bool((points >= most).all())
        for back in range(1, most):
            held = None if all_held else points > back
            for number, each in enumerate(added):
                sums[number] += self._held(each, back, held, 0)
            np.minimum(low, self._held(self.columns[self.LOW], back, held, _NEVER_LEAST), out=low)
            np.maximum(high, self._held(self.columns[self.HIGH], back, held, 0), out=high)
        return sums[0], sums[1], low, high, sums[2], sums[3]

    def _held(self, column: Ints, seconds: int, held: Bools | None, otherwise: int) -> Ints:
        return self._back(column, seconds) if held is None else np.where(held, self._back(column, seconds), otherwise)

    def _back(self, column: Ints, seconds: int) -> Ints:
        end = column.shape[1] - seconds
        return column[:, end - self.seconds : end]


def _parts(values: Ints) -> tuple[Ints, Ints]:
    """What divmod gives of 1e-8, in less time."""
    whole = values // UNIT
    return whole, values - whole * UNIT
