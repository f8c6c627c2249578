"""What a market behind the stand-in's protocol can be asked: the one interface of the seeded and the recorded market.

A market has no clock: it is asked about times, in its own time. The shell turns the wall clock into it, once, with
`Market.clock`, and from then on speaks of market times only:

    wall clock ─► Market.clock(wall_ms) ─► at_ms ─► everything that happened before at_ms, and nothing after

- Times are ms since 1970 UTC. A span of time is `[from_ms, to_ms)`: its start belongs to it, its end doesn't. So a
  stream that asks for `[last at_ms, this at_ms)` again and again gets each event once.
- Prices and volumes are integers of 1e-8 (klinestream.market.decimals). In a dataclass a volume is a Python int of any
  size. In the columns of `Seconds` it is an int64: one second's volume fits, a day's may not.
- A symbol's name is upper case; a name that the market doesn't list is a KeyError.
- Trade ids are contiguous per symbol, and so are the ids of aggTrades and of the book's updates.
- A market forgets nothing and is never stepped: any time may be asked for, in any order, from any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import UNIT, Ints
from klinestream.standin.intervals import Interval

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What exchangeInfo says of a symbol; sizes are integers of 1e-8."""

    name: str
    """Base and quote in one word, upper case: BTCUSDT."""
    base: str
    """Base asset: BTC."""
    quote: str
    """Quote asset: USDT."""
    tick: int
    """Every price is a multiple of it (PRICE_FILTER tickSize)."""
    step: int
    """Every quantity is a multiple of it (LOT_SIZE stepSize), and at least one step."""
    min_notional: int
    """Least value of an order in the quote asset (NOTIONAL minNotional)."""
    listed_ms: int
    """Open time of its first 1 s kline; before it there is nothing."""

    def quote_volume(self, amount: int) -> int:
        """A sum of ticks times steps in 1e-8 of the quote asset, cut off after the eighth decimal."""
        return int(amount * self.tick * self.step // UNIT)


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade."""

    id: int
    price: int
    quantity: int
    time_ms: int
    """When it was made: T on the wire."""
    event_ms: int
    """When the exchange sent it: E on the wire, never before `time_ms`."""
    buyer_is_maker: bool
    """m on the wire: the seller was the taker."""

    @property
    def quote_quantity(self) -> int:
        """Price times quantity, in 1e-8 of the quote asset, cut off after the eighth decimal."""
        return int(self.price * self.quantity // UNIT)


@dataclass(frozen=True, slots=True)
class AggTrade:
    """Consecutive trades of one price, one taker side and one time, as one."""

    id: int
    price: int
    quantity: int
    first_trade_id: int
    last_trade_id: int
    time_ms: int
    event_ms: int
    buyer_is_maker: bool


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle of any interval, as far as it was known at the time asked for.

    Without trades: `trades` 0, both ids -1, volumes 0, all four prices the last close before.
    """

    open_time_ms: int
    close_time_ms: int
    """Last ms of its interval, `…999`, also while it is in progress."""
    open: int
    high: int
    low: int
    close: int
    base_volume: int
    quote_volume: int
    taker_base_volume: int
    taker_quote_volume: int
    trades: int
    first_trade_id: int
    last_trade_id: int
    closed: bool
    """The time asked for lies past its end: x on the wire."""


@dataclass(frozen=True, slots=True)
class Seconds:
    """Closed 1 s klines of many symbols as columns: a row a second, a column a symbol.

    All arrays but `open_time_ms` have the shape (seconds, symbols). Prices and volumes are int64 of 1e-8. Where
    `known` is false the market has no such kline (before the listing, outside the recording) and the rest means
    nothing. A second without trades looks as in `Candle`.
    """

    symbols: tuple[str, ...]
    open_time_ms: Ints
    """Shape (seconds,)."""
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    base_volume: Ints
    quote_volume: Ints
    taker_base_volume: Ints
    taker_quote_volume: Ints
    trades: Ints
    first_trade_id: Ints
    last_trade_id: Ints
    known: Flags


@dataclass(frozen=True, slots=True)
class MiniTicker:
    """A symbol's last 24 hours, up to the last whole second: the window opens with the minute that holds its start."""

    symbol: str
    open: int
    high: int
    low: int
    close: int
    base_volume: int
    quote_volume: int
    trades: int
    last_trade_id: int
    """Newest trade in the window: a symbol whose id moved has changed since the last ticker."""


@dataclass(frozen=True, slots=True)
class BookTicker:
    """The best bid and ask after one update of the book."""

    update_id: int
    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int
    time_ms: int
    """When it is sent; not on the wire."""


Levels = tuple[tuple[int, int], ...]
"""(price, quantity) of some levels of one side, best first; quantity 0 in a diff removes the level."""


@dataclass(frozen=True, slots=True)
class DepthDiff:
    """What changed in the book by the updates `first_update_id` to `last_update_id` (U and u on the wire)."""

    first_update_id: int
    """The last_update_id of the diff before, plus one."""
    last_update_id: int
    bids: Levels
    asks: Levels
    event_ms: int


@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """The book after `last_update_id`: both sides best first. Diffs from `last_update_id` + 1 on continue it."""

    last_update_id: int
    bids: Levels
    asks: Levels


class Market(Protocol):
    """A market that can be asked about any time; every answer depends on the arguments alone."""

    @property
    def symbols(self) -> Mapping[str, SymbolInfo]:
        """All symbols by name, in listing order."""

    @property
    def end_ms(self) -> int | None:
        """From this market time on nothing happens any more; None for a market without end."""

    def clock(self, wall_ms: int) -> int:
        """The market's time at a time of the wall clock. Never steps back while the wall clock doesn't."""

    def seconds(self, open_time_ms: int, count: int = 1, symbols: Sequence[str] | None = None) -> Seconds:
        """The 1 s klines of `count` seconds from `open_time_ms` (a whole second) on; of all symbols where none are named.

        They are the whole seconds' klines: ask only for seconds that have ended at the market's time.
        """

    def candles(self, symbol: str, interval: Interval, from_ms: int, to_ms: int, at_ms: int) -> list[Candle]:
        """The candles that open in `[from_ms, to_ms)` and before `at_ms`, oldest first, from the trades before `at_ms`.

        The last one may be in progress. One whose beginning or end the market doesn't hold is left out: a recorded
        market's first and last one of each interval; a listing's first candle holds all there was, and is there.
        Bound the span: at most some thousand candles (klinestream.standin.intervals.span).
        """

    def candle(self, symbol: str, interval: Interval, at_ms: int) -> Candle | None:
        """The candle that holds the last ms before `at_ms`, so at the very end of an interval the one that just closed.

        None before the listing and where `candles` would leave it out.
        """

    def mini_tickers(self, at_ms: int, symbols: Sequence[str] | None = None) -> list[MiniTicker]:
        """The last 24 hours of the named symbols (None: all) in that order; those without any trade yet are left out."""

    def trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[Trade]:
        """The trades made in the span, oldest first; the oldest `limit` of them."""

    def trade_id_at(self, symbol: str, at_ms: int) -> int:
        """The id of the first trade made at `at_ms` or later: one more than the newest before it."""

    def trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[Trade]:
        """The oldest `limit` trades with ids from `first_id` on that were made before `at_ms`."""

    def agg_trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[AggTrade]:
        """The aggTrades made in the span, oldest first; the oldest `limit` of them."""

    def agg_trade_id_at(self, symbol: str, at_ms: int) -> int:
        """The id of the first aggTrade made at `at_ms` or later."""

    def agg_trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[AggTrade]:
        """The oldest `limit` aggTrades with ids from `first_id` on that were made before `at_ms`."""

    def book_tickers(self, symbol: str, from_ms: int, to_ms: int) -> list[BookTicker]:
        """The updates of the best bid and ask that are sent in the span, oldest first."""

    def depth_diffs(self, symbol: str, from_ms: int, to_ms: int, every_ms: int = 100) -> list[DepthDiff]:
        """The diffs whose event time lies in the span, oldest first. `every_ms`: 100 or 1000, the stream's speed.

        Diffs of one speed are contiguous with each other; those of 1000 are those of 100 put together.
        """

    def depth(self, symbol: str, at_ms: int, limit: int) -> DepthSnapshot | None:
        """The book at `at_ms`, after the last diff of 100 ms before it; None while the market has none.

        At most `limit` levels a side; fewer where the market holds fewer.
        """
