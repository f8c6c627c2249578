"""The recorded market: frames of a recording served once more, and what follows exactly from them.

    recording      :14.2 ····|:15 ─────── whole seconds ───────── :05|··· :05.8       first and last second: cut off
    re-timed  start second ··|··                                     |···  then silence

- Time: the second of the recording's first frame is served at the second the market was opened in, so all times (T and
  E in frames, t and T of klines) are shifted alike by a whole number of seconds; from there on the market's time runs
  `speed` times as fast as the wall clock. Without re-timing they are served as recorded, and the market's time is theirs.
- Candles are built from the trades, whose ids are contiguous: so they are exactly the exchange's. A second is known if
  the recording holds all of it: so not the first one and the last one, which are cut off, nor those before the first
  trade, which have no close to carry. A candle is served only if it is known from its first second on, and once it has
  ended only if it is known to its end. (So a recording of ten minutes has no 1h candle, unless an hour begins in it.)
- After its end the market ends: streams go quiet, known candles, trades and the book can still be asked for.
- The book is the recorded snapshot with the recorded diffs applied; before the snapshot there is none.
"""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from klinestream.market.decimals import UNIT, Ints
from klinestream.market.errors import ConfigError
from klinestream.market.events import SECOND_MS
from klinestream.standin.intervals import DAY_MS, MINUTE_MS, Interval
from klinestream.standin.market import AggTrade, BookTicker, Candle, DepthDiff, DepthSnapshot, MiniTicker, Seconds, SymbolInfo, Trade
from klinestream.standin.recorded_book import RecordedBook
from klinestream.standin.recorded_trades import RecordedTrades
from klinestream.standin.recording import Recording, files_by_symbol, first_event_ms, load
from klinestream.standin.rows import Rows, mini_tickers

_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BTC", "ETH", "BNB", "TRY", "EUR", "BRL", "JPY", "IDR", "USD")
_QUOTE_LENGTH = 3  # of one that isn't among them


class _Recorded:
    """One symbol of the market."""

    def __init__(self, recording: Recording) -> None:
        """A recording whose times are the market's already; raises ConfigError where it has no trade."""
        if not len(recording.trades.id):
            raise ConfigError(f"expected trades of {recording.symbol} among its recorded frames, found none: candles are made from them")
        self.first_ms = recording.first_ms
        self.end_ms = recording.last_ms + 1
        first_trade_ms = int(recording.trades.time_ms[0])
        self.known_ms = max(-(-recording.first_ms // SECOND_MS), first_trade_ms // SECOND_MS) * SECOND_MS
        # A second is whole once something later than its end was recorded.
        self.known_end_ms = recording.last_ms // SECOND_MS * SECOND_MS
        self.info = _info(recording, self.known_ms)
        self.trades = RecordedTrades(self.info, recording.trades)
        self.book = RecordedBook(recording)

    def serves(self, opened_ms: int, closed_ms: int, at_ms: int) -> bool:
        """A candle of that open and close time may be served at a time."""
        known_to_end = closed_ms < self.known_end_ms if at_ms > closed_ms else at_ms <= self.end_ms
        return opened_ms >= self.known_ms and known_to_end


class _Symbols(Mapping[str, SymbolInfo]):
    """The symbols of the folder; what is asked for is loaded."""

    def __init__(self, market: "RecordedMarket", names: Sequence[str]) -> None:
        self._market = market
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> SymbolInfo:
        return self._market.recorded(name).info

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class RecordedMarket:
    """A klinestream.standin.market.Market of the frames in a folder; a symbol is loaded when it is first asked for."""

    def __init__(self, folder: Path, start_ms: int, *, speed: float = 1.0, retime: bool = True, ago_ms: int = 0) -> None:
        """Begins to serve at `start_ms` of the wall clock, re-timed with times `ago_ms` before it.

        Raises ConfigError where the folder holds no recording.
        """
        self._files = files_by_symbol(folder)
        self._speed = speed
        recorded_ms = min(first_event_ms(symbol, files) for symbol, files in self._files.items()) // SECOND_MS * SECOND_MS
        self._start_ms = start_ms // SECOND_MS * SECOND_MS
        self._shift_ms = self._start_ms - ago_ms // SECOND_MS * SECOND_MS - recorded_ms if retime else 0
        self._first_ms = recorded_ms + self._shift_ms
        self._loading = threading.Lock()
        self._loaded: dict[str, _Recorded] = {}
        self._symbols = _Symbols(self, list(self._files))

    @property
    def symbols(self) -> Mapping[str, SymbolInfo]:
        """All symbols by name."""
        return self._symbols

    @functools.cached_property
    def end_ms(self) -> int | None:
        """The market's time after its last frame; loads all symbols."""
        return max(self.recorded(symbol).end_ms for symbol in self._files)

    def recorded(self, symbol: str) -> _Recorded:
        """A symbol of the folder, loaded once; KeyError for another."""
        with self._loading:
            if symbol not in self._loaded:
                self._loaded[symbol] = _Recorded(load(symbol, self._files[symbol], self._shift_ms))
            return self._loaded[symbol]

    def clock(self, wall_ms: int) -> int:
        """See Market: the recording's first second at the second of the start, from there on at the market's speed."""
        return self._first_ms + int((wall_ms - self._start_ms) * self._speed)

    def seconds(self, open_time_ms: int, count: int = 1, symbols: Sequence[str] | None = None) -> Seconds:
        """See Market."""
        names = tuple(self._symbols if symbols is None else symbols)
        opens = open_time_ms + SECOND_MS * np.arange(count)
        parts = [self.recorded(name) for name in names]
        columns = [_second_columns(part, part.trades.rows(np.append(opens, opens[-1] + SECOND_MS)), opens) for part in parts]
        return Seconds(names, opens, *(np.stack(column, axis=1) for column in zip(*columns, strict=True)))

    def candles(self, symbol: str, interval: Interval, from_ms: int, to_ms: int, at_ms: int) -> list[Candle]:
        """See Market, and above which candles are known."""
        recorded = self.recorded(symbol)
        opens = interval.opens(max(from_ms, recorded.known_ms), min(to_ms, at_ms, recorded.end_ms))
        closes = [interval.close_of(opened) for opened in opens]
        # The newest ones may reach past what is known.
        while opens and not recorded.serves(opens[-1], closes[-1], at_ms):
            del opens[-1], closes[-1]
        if not opens:
            return []
        rows = recorded.trades.rows(np.array([*opens, min(closes[-1] + 1, at_ms)]))
        return rows.candles(recorded.info, opens, closes, at_ms)

    def candle(self, symbol: str, interval: Interval, at_ms: int) -> Candle | None:
        """See Market."""
        found = self.candles(symbol, interval, interval.open_of(at_ms - 1), at_ms, at_ms)
        return found[0] if found else None

    def mini_tickers(self, at_ms: int, symbols: Sequence[str] | None = None) -> list[MiniTicker]:
        """See Market; of what is known of the 24 hours, until the recording ends."""
        tickers = []
        since_ms = (at_ms - DAY_MS) // MINUTE_MS * MINUTE_MS
        for name in self._symbols if symbols is None else symbols:
            recorded = self.recorded(name)
            first_ms, end_ms = max(since_ms, recorded.known_ms), min(at_ms // SECOND_MS * SECOND_MS, recorded.known_end_ms)
            if first_ms < end_ms:
                tickers += mini_tickers([recorded.info], recorded.trades.rows(np.array([first_ms, end_ms])))
        return tickers

    def trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[Trade]:
        """See Market."""
        trades = self.recorded(symbol).trades
        first, end = trades.place_at(from_ms), trades.place_at(to_ms)
        return trades.trades(first, end if limit is None else min(first + limit, end))

    def trade_id_at(self, symbol: str, at_ms: int) -> int:
        """See Market."""
        return self.recorded(symbol).trades.id_at(at_ms)

    def trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[Trade]:
        """See Market."""
        trades = self.recorded(symbol).trades
        first = trades.place_of(first_id)
        return trades.trades(first, min(first + limit, trades.place_at(at_ms)))

    def agg_trades(self, symbol: str, from_ms: int, to_ms: int, limit: int | None = None) -> list[AggTrade]:
        """See Market."""
        trades = self.recorded(symbol).trades
        first_id, end_id = trades.agg_id_at(from_ms), trades.agg_id_at(to_ms)
        return trades.agg_trades(first_id, end_id if limit is None else min(first_id + limit, end_id))

    def agg_trade_id_at(self, symbol: str, at_ms: int) -> int:
        """See Market."""
        return self.recorded(symbol).trades.agg_id_at(at_ms)

    def agg_trades_by_id(self, symbol: str, first_id: int, limit: int, at_ms: int) -> list[AggTrade]:
        """See Market."""
        trades = self.recorded(symbol).trades
        first_id = max(first_id, 0)
        return trades.agg_trades(first_id, min(first_id + limit, trades.agg_id_at(at_ms)))

    def book_tickers(self, symbol: str, from_ms: int, to_ms: int) -> list[BookTicker]:
        """See Market."""
        return self.recorded(symbol).book.tickers(from_ms, to_ms)

    def depth_diffs(self, symbol: str, from_ms: int, to_ms: int, every_ms: int = 100) -> list[DepthDiff]:
        """See Market."""
        return self.recorded(symbol).book.diffs(from_ms, to_ms, every_ms)

    def depth(self, symbol: str, at_ms: int, limit: int) -> DepthSnapshot | None:
        """See Market."""
        return self.recorded(symbol).book.at(at_ms, limit)


def _info(recording: Recording, known_ms: int) -> SymbolInfo:
    """What the frames tell of a symbol: tick and step are the coarsest powers of ten that all trades are multiples of.

    The book doesn't count: it holds quantities from before a step was made coarser.
    """
    quote = next((quote for quote in _QUOTES if recording.symbol.endswith(quote)), recording.symbol[-_QUOTE_LENGTH:])
    return SymbolInfo(
        name=recording.symbol,
        base=recording.symbol.removesuffix(quote),
        quote=quote,
        tick=_unit(recording.trades.price),
        step=_unit(recording.trades.quantity),
        min_notional=5 * UNIT,
        listed_ms=known_ms,
    )


def _unit(sizes: Ints) -> int:
    divisor = int(np.gcd.reduce(sizes))
    unit = int(UNIT)
    while divisor % unit:
        unit //= 10
    return unit


def _second_columns(recorded: _Recorded, rows: Rows, opens: Ints) -> tuple[Ints, ...]:
    """The columns of Seconds of one symbol, each (seconds,)."""
    info = recorded.info
    # Exact in int64, as long as a second's volume is: tick * step and UNIT are powers of ten.
    unit = info.tick * info.step
    traded = rows.trades[0] > 0
    return (
        *(price[0] * info.tick for price in (rows.open, rows.high, rows.low, rows.close)),
        rows.base[0] * info.step,
        rows.quote[0] * unit // UNIT if unit < UNIT else rows.quote[0] * (unit // UNIT),
        rows.taker_base[0] * info.step,
        rows.taker_quote[0] * unit // UNIT if unit < UNIT else rows.taker_quote[0] * (unit // UNIT),
        rows.trades[0],
        np.where(traded, rows.first_id[0], -1),
        np.where(traded, rows.first_id[0] + rows.trades[0] - 1, -1),
        (opens >= recorded.known_ms) & (opens < recorded.known_end_ms),
    )
