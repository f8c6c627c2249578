"""A recorded symbol's trades, what they add up to between any two times, and the aggTrades they form."""

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.standin.market import AggTrade, SymbolInfo, Trade
from klinestream.standin.recording import Trades
from klinestream.standin.rows import Rows


class RecordedTrades:
    """Trades of one symbol; `first` and `end` below are places in the recording, not ids."""

    def __init__(self, info: SymbolInfo, trades: Trades) -> None:
        """The trades of this symbol, at least one."""
        self._trades = trades
        self._ticks = trades.price // info.tick
        self._steps = trades.quantity // info.step
        alike = (np.diff(trades.price) == 0) & (np.diff(trades.time_ms) == 0) & (trades.maker[1:] == trades.maker[:-1])
        self._agg_first = np.concatenate([[0], np.flatnonzero(~alike) + 1, [len(trades.id)]])

    def place_at(self, at_ms: int) -> int:
        """The place of the first trade made at `at_ms` or later."""
        return int(np.searchsorted(self._trades.time_ms, at_ms))

    def place_of(self, trade_id: int) -> int:
        """The place of an id; 0 before the first, the number of trades past the last."""
        return min(max(trade_id - int(self._trades.id[0]), 0), len(self._trades.id))

    def id_at(self, at_ms: int) -> int:
        """The id of the first trade made at `at_ms` or later."""
        return int(self._trades.id[0]) + self.place_at(at_ms)

    def trades(self, first: int, end: int) -> list[Trade]:
        """The trades of these places."""
        held = self._trades
        columns = (held.id, held.price, held.quantity, held.time_ms, held.event_ms, held.maker)
        return list(map(Trade, *(column[first:end].tolist() for column in columns)))

    def agg_id_at(self, at_ms: int) -> int:
        """The id of the first aggTrade made at `at_ms` or later; the recording's first one is 0, since none were recorded."""
        return int(np.searchsorted(self._agg_first, self.place_at(at_ms)))

    def agg_trades(self, first_id: int, end_id: int) -> list[AggTrade]:
        """The aggTrades of these ids."""
        ids = np.arange(max(first_id, 0), min(end_id, len(self._agg_first) - 1))
        if not len(ids):
            return []
        held, first, last = self._trades, self._agg_first[ids], self._agg_first[ids + 1] - 1
        quantity = np.add.reduceat(held.quantity[: last[-1] + 1], first)
        columns = (
            ids,
            held.price[first],
            quantity,
            held.id[first],
            held.id[last],
            held.time_ms[first],
            held.event_ms[last],
            held.maker[first],
        )
        return list(map(AggTrade, *(column.tolist() for column in columns)))

    def rows(self, bounds: Ints) -> Rows:
        """What was traded between each bound and the next, in ms, as rows; the first bound lies after some trade, or its row has one."""
        places = np.searchsorted(self._trades.time_ms, bounds)
        trades = np.diff(places)
        traded = trades > 0
        starts = places[:-1][traded]
        stop = int(places[-1])
        last = self._ticks[np.maximum(places[1:] - 1, 0)]

        def reduced(reduce: np.ufunc, values: Ints, quiet: Ints) -> Ints:
            column = quiet.copy()
            if len(starts):
                column[traded] = reduce.reduceat(values[:stop], starts)
            return column

        nothing = np.zeros(len(trades), np.int64)
        taken = self._steps * ~self._trades.maker
        opened = last.copy()
        opened[traded] = self._ticks[starts]
        columns = (
            opened,
            reduced(np.maximum, self._ticks, last),
            reduced(np.minimum, self._ticks, last),
            last,
            reduced(np.add, self._steps, nothing),
            reduced(np.add, self._steps * self._ticks, nothing),
            reduced(np.add, taken, nothing),
            reduced(np.add, taken * self._ticks, nothing),
            trades,
            int(self._trades.id[0]) + places[:-1],
        )
        return Rows(*(column[None, :] for column in columns))
