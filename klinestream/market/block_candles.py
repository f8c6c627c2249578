"""The candle of the minute over blocks of one minute: as it stood after each second, and whole.

    seconds    |·00·|·01·|    |·03·| … |·59·|     (symbols, 60), with holes
    so far      c    c         c    …   c          after each kline what `candles.merged` gives kline by kline
    whole                               table      what the longer candles are made of

All are integers, so that it doesn't matter in which order they are added.
"""

from dataclasses import dataclass

import numpy as np

from klinestream.market import candles
from klinestream.market.blocks import KlineBlock
from klinestream.market.candles import HEIGHT, NO_ID, UNKNOWN_ID
from klinestream.market.decimals import UNIT, Floats, Ints, ratio

_NEVER_LEAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class MinuteSoFar:
    """The candle in progress after each second, arrays (symbols, seconds); nonsense where there is no kline."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats
    base_volume: Floats
    klines: Ints


class BlockMinute:
    """The candles of one minute of some symbols. The block begins with the minute and ends with it."""

    def __init__(self, block: KlineBlock) -> None:
        self._block = block
        self._whole = bool(block.there.all())
        self._first = np.zeros(len(block.there), np.int64) if self._whole else block.there.argmax(axis=1)
        self._highs = np.maximum.accumulate(self._of(block.prices[1], 0), axis=1)
        self._lows = np.minimum.accumulate(self._of(block.prices[2], _NEVER_LEAST), axis=1)
        self._base = np.cumsum(self._of(block.volumes[0], 0), axis=1)
        self._base_rest = np.cumsum(self._of(block.remainders[0], 0), axis=1)

    def so_far(self) -> MinuteSoFar:
        """As it stood after each second."""
        opened, shape = self._opened(), self._block.there.shape
        carried = self._base_rest // UNIT
        return MinuteSoFar(
            open=np.broadcast_to(ratio(*np.divmod(opened, UNIT))[:, None], shape),
            high=_price(self._highs),
            low=_price(self._lows),
            close=_price(self._block.prices[3]),
            base_volume=ratio(self._base + carried, self._base_rest - carried * UNIT),
            klines=np.broadcast_to(np.arange(1, shape[1] + 1), shape) if self._whole else np.cumsum(self._block.there, axis=1),
        )

    def table(self) -> tuple[Ints, Ints, Ints]:
        """Symbols that have klines, their candles as a table (HEIGHT, symbols), and the open times of their last klines."""
        block = self._block
        held = np.flatnonzero(block.there.any(axis=1))
        last = block.there.shape[1] - 1 - block.there[held, ::-1].argmax(axis=1)
        table = np.empty((HEIGHT, len(held)), np.int64)
        table[candles.BEGAN] = block.open_times[self._first[held]]
        table[candles.COUNT] = block.there[held].sum(axis=1)
        table[candles.OPEN], table[candles.CLOSE] = self._opened()[held], block.prices[3, held, last]
        table[candles.HIGH], table[candles.LOW] = self._highs[held, -1], self._lows[held, -1]
        table[candles.BASE], table[candles.BASE_REST] = self._base[held, -1], self._base_rest[held, -1]
        for place, (whole, rest) in list(enumerate(candles.VOLUMES))[1:]:
            table[whole] = self._of(block.volumes[place], 0)[held].sum(axis=1)
            table[rest] = self._of(block.remainders[place], 0)[held].sum(axis=1)
        table[candles.TRADES] = self._of(block.trades, 0)[held].sum(axis=1)
        table[candles.FIRST_ID] = table[candles.LAST_ID] = np.where(table[candles.TRADES] == 0, NO_ID, UNKNOWN_ID)
        return held, table, block.open_times[last]

    def _of(self, column: Ints, otherwise: int) -> Ints:
        return column if self._whole else np.where(self._block.there, column, otherwise)

    def _opened(self) -> Ints:
        opened: Ints = self._block.prices[0, np.arange(len(self._first)), self._first]
        return opened


def _price(values: Ints) -> Floats:
    whole = values // UNIT
    return ratio(whole, values - whole * UNIT)
