"""Rows of candles to be, in a symbol's own units, ticks and steps, and folding them together: what both markets share."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.market import Candle, MiniTicker, SymbolInfo


@dataclass(frozen=True)
class Rows:
    """Bars of some symbols over time, each array of shape (symbols, rows): prices in ticks, base volumes in steps.

    Quote volumes are in tick * step. Sums of a month stay far below 2^63 in these units, also where they don't in 1e-8.
    """

    open: Ints
    high: Ints
    low: Ints
    close: Ints
    base: Ints
    quote: Ints
    taker_base: Ints
    taker_quote: Ints
    trades: Ints
    first_id: Ints
    """Id of the first trade at or after the row's start, whether it falls into the row or not."""

    @staticmethod
    def joined(parts: Sequence["Rows"]) -> "Rows":
        """The rows of all parts, which follow each other in time."""
        return Rows(*(np.concatenate([getattr(part, f.name) for part in parts], axis=1) for f in fields(Rows)))

    def of(self, symbols: Ints) -> "Rows":
        """The rows of some of the symbols, given by their places."""
        return Rows(*(getattr(self, f.name)[symbols] for f in fields(Rows)))

    def total(self) -> "Rows":
        """All rows of each symbol as one."""
        return self.folded(np.array([0]))

    def folded(self, starts: Ints) -> "Rows":
        """Each stretch of rows from one start to the next as one row. Starts rise strictly; the first is 0."""
        ends = np.append(starts[1:], self.open.shape[1]) - 1

        def total(column: Ints) -> Ints:
            return np.asarray(np.add.reduceat(column, starts, axis=1), np.int64)

        return Rows(
            open=self.open[:, starts],
            high=np.maximum.reduceat(self.high, starts, axis=1),
            low=np.minimum.reduceat(self.low, starts, axis=1),
            close=self.close[:, ends],
            base=total(self.base),
            quote=total(self.quote),
            taker_base=total(self.taker_base),
            taker_quote=total(self.taker_quote),
            trades=total(self.trades),
            first_id=self.first_id[:, starts],
        )

    def candles(self, info: SymbolInfo, opens: list[int], closes: list[int], at_ms: int) -> list[Candle]:
        """The only symbol's rows as candles."""
        columns = [getattr(self, f.name)[0].tolist() for f in fields(Rows)]
        prices = [[ticks * info.tick for ticks in column] for column in columns[:4]]
        base, quote, taker_base, taker_quote = columns[4:8]
        volumes = (
            [steps * info.step for steps in base],
            [info.quote_volume(amount) for amount in quote],
            [steps * info.step for steps in taker_base],
            [info.quote_volume(amount) for amount in taker_quote],
        )
        trades, first = columns[8:]
        first_ids = [first_id if count else -1 for first_id, count in zip(first, trades, strict=True)]
        last_ids = [first_id + count - 1 if count else -1 for first_id, count in zip(first, trades, strict=True)]
        closed = [at_ms > close for close in closes]
        return list(map(Candle, opens, closes, *prices, *volumes, trades, first_ids, last_ids, closed))


def mini_tickers(infos: Sequence[SymbolInfo], rows: Rows) -> list[MiniTicker]:
    """The only row of each symbol as its ticker."""
    tickers = []
    columns = (rows.open, rows.high, rows.low, rows.close, rows.base, rows.quote, rows.trades, rows.first_id)
    lists = (column[:, 0].tolist() for column in columns)
    for info, opened, high, low, close, base, quote, trades, first_id in zip(infos, *lists, strict=True):
        prices = (opened * info.tick, high * info.tick, low * info.tick, close * info.tick)
        volumes = (base * info.step, info.quote_volume(quote))
        tickers.append(MiniTicker(info.name, *prices, *volumes, trades, first_id + trades - 1))
    return tickers
