"""The seeded market: any symbol at any time, from integers alone, so that candles, trades and ids agree by construction.

It is put together from shapes: quarters of an hour, trade by trade, made once (`shapes`). Plans say which shapes follow
each other through a day (`plans`), and closed forms say which plan a symbol's day follows and where its price stands at
midnight (`days`):

    price                                            ╭╮  ╱╲ next midnight: product of waves of 1, 2, 4 … 1024 days,
      ▲                        ╭╮     ╭─╮   ╭╮   ╭─╯╰──●     each a hash of (seed, symbol, octave, day)
      │        ╭╮     ╭───╮ ╭─╯╰─╮ ╭╯  ╰╮╭╯╰──╯
      │   ╭────╯╰──╮╭╯    ╰─╯      ╰─╯    ╰╯
      ●───╯         ╰╯
      midnight                                         a trade of shape q at place k of the day:
      ├── q0 ───┼── q1 ───┼── q2 ───┼─ … ─┼─ q95 ──┤
      │ shapes  │ trades at fixed ms        │          price    = offset + (height >> shift)          ticks
      │         │ heights, small quantities │          quantity = weight * shape's quantity           steps
      └─────────┴───────────────────────────┘          id       = first id of the day + of the place + number in shape

Per symbol and quarter, `offset`, `shift` and `weight` are constants. The map from height to price never falls, so the
high of any stretch of a shape is the map of its greatest height; quantities are added before they are weighted; and the
quote volume is weight * (offset * sum of quantities + sum of quantity * (height >> shift)), whose last sum is made once
for each shift. So a bar of a shape's minute or quarter, made once, gives the candle of any symbol in a handful of integer
operations, and equals the aggregate of that symbol's trades to the last digit. Candles up to 5m are folded from minutes,
longer ones from quarters, what is in progress from its last minute's trades.

- Continuity: `offset` holds what the day's earlier shapes moved. What then misses to the next midnight's price is made
  up in 96 equal steps, at each quarter's opening trade, so that no close is ever carried over a step.
- Ids: each 32 days of a symbol follow all 32 plans once, in an order of their own, so they always have the same number
  of trades, and the first id of any day is a product and a short sum.
- Listing: at the midnight of its listing a symbol makes its first trade, with id 0.
- No symbol depends on another or on how many there are; nothing depends on the platform's floating point.
"""

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from klinestream.market.decimals import UNIT, Ints
from klinestream.market.events import SECOND_MS
from klinestream.standin.intervals import DAY_MS, MINUTE_MS, Interval
from klinestream.standin.market import AggTrade, BookTicker, Candle, DepthDiff, DepthSnapshot, MiniTicker, Seconds, SymbolInfo, Trade
from klinestream.standin.rows import Rows, mini_tickers
from klinestream.standin.seeded import book, plans, shapes
from klinestream.standin.seeded.days import Days
from klinestream.standin.seeded.listing import listings
from klinestream.standin.seeded.shapes import SHAPE_MS
from klinestream.standin.seeded.spans import Spans
from klinestream.standin.seeded.tape import Tape

_SLOT_MS = (100, 100, 200, 500, 1000, 2000, 5000, 10_000)  # how often the book of each class of activity changes
_SPACINGS = 1 << 16  # rungs of a book are about 1/65536 of the price apart: the book reaches 1.5 % to both sides
_BOOKS_HELD = 64
_DAY_MINUTES = DAY_MS // MINUTE_MS
_DAYS_HELD = 2  # the last 24 hours of all symbols, by minute


@functools.lru_cache(maxsize=2)
def _made(seed: int) -> tuple[shapes.Shapes, plans.Plans]:
    """Shapes and plans of a seed: a second's work that the markets of one process share."""
    made = shapes.build(seed)
    return made, plans.build(seed, made)


class SeededMarket:
    """A klinestream.standin.market.Market without end, whose time is the wall clock's."""

    end_ms: int | None = None

    def __init__(self, seed: int, symbols: int) -> None:
        """A market of that many symbols; the first ones are the same for any number."""
        listed = listings(seed, symbols)
        self._symbols = MappingProxyType({listing.info.name: listing.info for listing in listed})
        self._names = tuple(self._symbols)
        self._number = {name: number for number, name in enumerate(self._names)}
        self._all = np.arange(symbols)
        self._listed_ms, self._tick, self._step = (
            np.array([getattr(info, size) for info in self._symbols.values()], np.int64) for size in ("listed_ms", "tick", "step")
        )
        made, day_plans = _made(seed)
        days = Days(seed, listed, day_plans)
        self._tape = Tape(made, days, listed)
        self._spans = Spans(made, days)
        self._ladders = [
            book.Ladder(
                seed=seed,
                symbol=number,
                tick=listing.info.tick,
                lot=listing.weight * listing.info.step,
                spacing=max(1, listing.base_ticks // _SPACINGS),
                slot_ms=_SLOT_MS[listing.activity],
            )
            for number, listing in enumerate(listed)
        ]
        # Bound to the instance, not the class: a market that is let go takes its caches along.
        self._book = functools.lru_cache(maxsize=_BOOKS_HELD)(self._make_book)
        self._day_of_all = functools.lru_cache(maxsize=_DAYS_HELD)(self._make_day_of_all)

    @property
    def symbols(self) -> Mapping[str, SymbolInfo]:
        """All symbols by name, in listing order."""
        return self._symbols

    def clock(self, wall_ms: int) -> int:
        """The wall clock itself."""
        return wall_ms

    def seconds(self, open_time_ms: int, count: int = 1, symbols: Sequence[str] | None = None) -> Seconds:
        """See Market."""
        numbers = self._numbers(symbols)
        rows = self._spans.seconds(numbers, open_time_ms // SECOND_MS, open_time_ms // SECOND_MS + count)
        opens = open_time_ms + SECOND_MS * np.arange(count)
        tick, step = self._tick[numbers][:, None], self._step[numbers][:, None]
        quote_unit = tick * step // UNIT
        traded = rows.trades > 0
        columns = (
            *(price * tick for price in (rows.open, rows.high, rows.low, rows.close)),
            *(rows.base * step, rows.quote * quote_unit, rows.taker_base * step, rows.taker_quote * quote_unit),
            *(rows.trades, np.where(traded, rows.first_id, -1), np.where(traded, rows.first_id + rows.trades - 1, -1)),
            opens >= self._listed_ms[numbers][:, None],
        )
        names = self._names if symbols is None else tuple(symbols)
        return Seconds(names, opens, *(np.ascontiguousarray(column.T) for column in columns))

    def candles(self, symbol: str, interval: Interval, from_ms: int, to_ms: int, at_ms: int) -> list[Candle]:
        """See Market."""
        info = self._symbols[symbol]
        if at_ms <= info.listed_ms:
            return []
        opens = interval.opens(max(from_ms, interval.open_of(info.listed_ms)), min(to_ms, at_ms))
        closes = [interval.close_of(opened) for opened in opens]
        whole = sum(closed < at_ms for closed in closes)
        candles = self._whole_candles(info, interval, opens[:whole], closes[:whole], at_ms) if whole else []
        if whole < len(opens):
            rows = self._spans.until(self._number[symbol], max(opens[-1], info.listed_ms), at_ms)
            candles += rows.candles(info, opens[-1:], closes[-1:], at_ms)
        return candles

    def candle(self, symbol: str, interval: Interval, at_ms: int) -> Candle | None:
        """See Market."""
        found = self.candles(symbol, interval, interval.open_of(at_ms - 1), at_ms, at_ms)
        return found[0] if found else None

    def mini_tickers(self, at_ms: int, symbols: Sequence[str] | None = None) -> list[MiniTicker]:
        """See Market."""
        second_ms = at_ms // SECOND_MS * SECOND_MS
        minute = second_ms // MINUTE_MS
        wanted = self._numbers(symbols)
        day = self._day_of_all(minute).of(wanted) if symbols is None else self._day(wanted, minute)
        if second_ms > minute * MINUTE_MS:
            newest = self._spans.seconds(wanted, minute * 60, second_ms // SECOND_MS)
            day = Rows.joined([day, newest]).total()
        infos = [self._symbols[self._names[number]] for number in wanted.tolist()]
        since_ms = (minute - _DAY_MINUTES) * MINUTE_MS
        if all(info.listed_ms <= since_ms for info in infos):
            return mini_tickers(infos, day)
        tickers = []
        for row, info in enumerate(infos):
            if info.listed_ms <= since_ms:
                tickers += mini_tickers([info], day.of(np.array([row])))
            elif info.listed_ms < second_ms:
                tickers += mini_tickers([info], self._spans.until(self._number[info.name], info.listed_ms, second_ms))
        return tickers

    def trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[Trade]:
        """See Market."""
        return self._tape.trades_between(self._number[symbol], from_ms, to_ms, limit)

    def trade_id_at(self, symbol: str, at_ms: int) -> int:
        """See Market."""
        return self._tape.trade_id_at(self._number[symbol], at_ms)

    def trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[Trade]:
        """See Market."""
        first_id = max(first_id, 0)
        return self._tape.trades(self._number[symbol], first_id, min(first_id + limit, self.trade_id_at(symbol, at_ms)))

    def agg_trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[AggTrade]:
        """See Market."""
        return self._tape.agg_trades_between(self._number[symbol], from_ms, to_ms, limit)

    def agg_trade_id_at(self, symbol: str, at_ms: int) -> int:
        """See Market."""
        return self._tape.agg_id_at(self._number[symbol], at_ms)

    def agg_trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[AggTrade]:
        """See Market."""
        first_id = max(first_id, 0)
        return self._tape.agg_trades(self._number[symbol], first_id, min(first_id + limit, self.agg_trade_id_at(symbol, at_ms)))

    def book_tickers(self, symbol: str, from_ms: int, to_ms: int) -> list[BookTicker]:
        """See Market; the top changes with every slot of the book."""
        number = self._number[symbol]
        ladder = self._ladders[number]
        slots = self._slots(number, from_ms, to_ms, ladder.slot_ms)
        return [book.ticker(ladder, slot, self._tape.best_bid(number, slot * ladder.slot_ms)) for slot in slots]

    def depth_diffs(self, symbol: str, from_ms: int, to_ms: int, every_ms: int = 100) -> list[DepthDiff]:
        """See Market; quiet symbols' books change less often than that."""
        number = self._number[symbol]
        ladder = self._ladders[number]
        stride = max(every_ms // ladder.slot_ms, 1)
        # The first slot has no book before it, and a diff needs one.
        slots = [slot for slot in self._slots(number, from_ms, to_ms, stride * ladder.slot_ms) if slot - stride >= self._first_slot(number)]
        return [book.diff(ladder, *((at, self._book(number, at)) for at in (slot - stride, slot))) for slot in slots]

    def depth(self, symbol: str, at_ms: int, limit: int) -> DepthSnapshot | None:
        """See Market."""
        number = self._number[symbol]
        slot = (at_ms - 1) // self._ladders[number].slot_ms
        return book.snapshot(self._ladders[number], slot, self._book(number, slot), limit) if slot >= self._first_slot(number) else None

    def _numbers(self, symbols: Sequence[str] | None) -> Ints:
        return self._all if symbols is None else np.array([self._number[name] for name in symbols], np.int64)

    def _whole_candles(self, info: SymbolInfo, interval: Interval, opens: list[int], closes: list[int], at_ms: int) -> list[Candle]:
        numbers = np.array([self._number[info.name]])
        start_ms, end_ms = max(opens[0], info.listed_ms), closes[-1] + 1
        if interval.name == "1s":
            unit_ms, rows_of = SECOND_MS, self._spans.seconds
        elif interval.length_ms % SHAPE_MS:
            unit_ms, rows_of = MINUTE_MS, self._spans.minutes
        else:
            unit_ms, rows_of = SHAPE_MS, self._spans.quarters
        rows = rows_of(numbers, start_ms // unit_ms, end_ms // unit_ms)
        starts = (np.maximum(opens, start_ms) - start_ms) // unit_ms
        return rows.folded(starts).candles(info, opens, closes, at_ms)

    def _day(self, numbers: Ints, minute: int) -> Rows:
        """The 24 hours before a minute (since 1970) as one row a symbol."""
        return self._spans.whole_minutes(numbers, minute - _DAY_MINUTES, minute)

    def _make_day_of_all(self, minute: int) -> Rows:
        return self._day(self._all, minute)

    def _make_book(self, number: int, slot: int) -> book.Book:
        ladder = self._ladders[number]
        return book.book(ladder, slot, self._tape.best_bid(number, slot * ladder.slot_ms))

    def _slots(self, number: int, from_ms: int, to_ms: int, every_ms: int) -> list[int]:
        """The book's slots whose time lies in the span and is a multiple of `every_ms`, itself a multiple of the slot."""
        slot_ms = self._ladders[number].slot_ms
        times = range(-(-from_ms // every_ms) * every_ms, to_ms, every_ms)
        return [time_ms // slot_ms for time_ms in times if time_ms // slot_ms >= self._first_slot(number)]

    def _first_slot(self, number: int) -> int:
        """The first slot of the book: from the first trade on, at the listing, there is a price."""
        return int(self._listed_ms[number]) // self._ladders[number].slot_ms + 1
