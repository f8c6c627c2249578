"""What the streams push: from what the market did since the last step to frames.

market time   12:00:00.980 ····· 12:00:01.000 ····· 12:00:01.020
step                └─ trades, bookTickers of [.960, .980)
                                      └─ the second's closed klines as one burst, candles in progress (each 2 s),
                                         tickers (each 1 s), depth (each 100 ms); then trades of [.980, 1.000)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import orjson
import structlog

from klinestream.market.events import SECOND_MS
from klinestream.standin import payloads
from klinestream.standin.frames import Frame, Unit
from klinestream.standin.klines import Klines
from klinestream.standin.market import DepthDiff, Market, MiniTicker
from klinestream.standin.streams import Kind, Stream

BOOK_PUSH_MS = 100
# A machine that slept is not made to send all that it slept through: clients see a gap, as they would at the exchange.
CATCH_UP_MS = 10_000

# Each look at what happened is followed by three times as long without one.
LOOK_EVERY = 4

log = structlog.get_logger()


class Feed:
    """Makes the frames of the wanted streams, step by step. Times are the market's."""

    def __init__(
        self, market: Market, now_ms: int, stopwatch: Callable[[], float] = time.perf_counter, catch_up_ms: int = CATCH_UP_MS
    ) -> None:
        """Nothing before `now_ms` is pushed. `stopwatch` gives seconds: it measures how long the market takes to answer."""
        self._catch_up_ms = catch_up_ms
        self._market = market
        self._now_ms = now_ms
        self._stopwatch = stopwatch
        self._looked_ms = now_ms
        self._look_took_ms = 0.0
        self._klines = Klines(market, stopwatch)
        self._wanted: dict[Kind, list[Stream]] = {}
        self._newest_trades: dict[Stream, dict[str, int]] = {}

    def want(self, streams: Iterable[Stream]) -> None:
        """Make these streams' frames from now on; symbols that the market doesn't list are passed over."""
        self._wanted = {kind: [] for kind in Kind}
        for stream in streams:
            if not stream.symbol or stream.symbol in self._market.symbols:
                self._wanted[stream.kind].append(stream)
        self._klines.want(self._wanted[Kind.KLINE])
        self._newest_trades = {stream: self._newest_trades.get(stream, {}) for stream in self._wanted[Kind.MINI_TICKERS]}

    def step(self, now_ms: int) -> Iterator[list[Frame]]:
        """What is due since the last step, in batches and in the order in which it is sent; to be taken as a whole."""
        since_ms = self._now_ms
        if now_ms - since_ms > self._catch_up_ms:
            log.warning("fell behind, frames are passed over", behind_ms=now_ms - since_ms)
            since_ms = now_ms - self._catch_up_ms
            self._looked_ms = max(self._looked_ms, since_ms)
            self._klines.forget()
        self._now_ms = max(now_ms, since_ms)
        if not self._wanted:
            self._looked_ms = self._now_ms
            return
        for edge_ms in _edges(since_ms, now_ms, SECOND_MS):
            if self._wanted[Kind.KLINE]:
                yield from self._klines.edge(edge_ms, now_ms)
            yield list(self._tickers(edge_ms, now_ms))
        for edge_ms in _edges(since_ms, now_ms, BOOK_PUSH_MS):
            yield list(self._books(edge_ms))
        if self._has_time_to_look(now_ms):
            began = self._stopwatch()
            yield list(self._as_it_happened(self._looked_ms, now_ms))
            self._looked_ms = now_ms
            self._look_took_ms = (self._stopwatch() - began) * SECOND_MS

    def prepare(self) -> None:
        """Do ahead what the next second's edge needs."""
        if self._wanted.get(Kind.KLINE):
            self._klines.prepare(self._now_ms - self._now_ms % SECOND_MS)

    def _has_time_to_look(self, now_ms: int) -> bool:
        """Asking for what happened takes a share of the time at most, and is over before the next second's edge.

        With some streams that is each step; with thousands a look takes longer than a step, however short its span.
        """
        most_ms = min(self._look_took_ms, SECOND_MS / 2)
        return now_ms - self._looked_ms > most_ms * LOOK_EVERY and SECOND_MS - now_ms % SECOND_MS > most_ms

    def _as_it_happened(self, since_ms: int, now_ms: int) -> Iterator[Frame]:
        market = self._market
        for stream in self._wanted[Kind.TRADE]:
            for trade in market.trades(stream.symbol, since_ms, now_ms):
                yield Frame(stream, partial(payloads.trade, stream.symbol, trade))
        for stream in self._wanted[Kind.AGG_TRADE]:
            for agg_trade in market.agg_trades(stream.symbol, since_ms, now_ms):
                yield Frame(stream, partial(payloads.agg_trade, stream.symbol, agg_trade))
        for stream in self._wanted[Kind.BOOK_TICKER]:
            for best in market.book_tickers(stream.symbol, since_ms, now_ms):
                yield Frame(stream, _timeless(partial(payloads.book_ticker, stream.symbol, best)))
        for stream in self._wanted[Kind.DEPTH]:
            if stream.push_ms == BOOK_PUSH_MS:
                for diff in market.depth_diffs(stream.symbol, since_ms, now_ms):
                    yield Frame(stream, partial(payloads.depth_update, stream.symbol, diff))

    def _books(self, edge_ms: int) -> Iterator[Frame]:
        for stream in self._wanted[Kind.DEPTH]:
            if stream.push_ms != BOOK_PUSH_MS and edge_ms % stream.push_ms == 0:
                diffs = self._market.depth_diffs(stream.symbol, edge_ms - stream.push_ms + 1, edge_ms + 1)
                if diffs:
                    yield Frame(stream, partial(payloads.depth_update, stream.symbol, put_together(diffs)))
        for stream in self._wanted[Kind.PARTIAL_DEPTH]:
            if edge_ms % stream.push_ms == 0:
                snapshot = self._market.depth(stream.symbol, edge_ms, stream.levels)
                if snapshot is not None:
                    yield Frame(stream, _timeless(partial(orjson.dumps, payloads.book(snapshot))))

    def _tickers(self, edge_ms: int, event_ms: int) -> Iterator[Frame]:
        streams = self._wanted[Kind.MINI_TICKER]
        if streams:
            by_symbol = {ticker.symbol: ticker for ticker in self._market.mini_tickers(edge_ms, [stream.symbol for stream in streams])}
            for stream in streams:
                if stream.symbol in by_symbol:
                    yield Frame(stream, partial(_mini_ticker, by_symbol[stream.symbol], event_ms))
        for stream in self._wanted[Kind.MINI_TICKERS]:
            if edge_ms % stream.push_ms == 0:
                changed = self._changed(stream, self._market.mini_tickers(edge_ms))
                if changed:
                    yield Frame(stream, partial(_mini_tickers, changed, event_ms))

    def _changed(self, stream: Stream, tickers: list[MiniTicker]) -> list[MiniTicker]:
        """Those with a trade since the stream's last push."""
        seen = self._newest_trades.get(stream, {})
        self._newest_trades[stream] = {ticker.symbol: ticker.last_trade_id for ticker in tickers}
        return [ticker for ticker in tickers if seen.get(ticker.symbol) != ticker.last_trade_id]


def put_together(diffs: Sequence[DepthDiff]) -> DepthDiff:
    """Contiguous diffs as one.

    A level that came and went in between stays in it, with quantity 0: a snapshot taken in between may hold it.
    """
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for diff in diffs:
        for levels, changes in zip(sides, (diff.bids, diff.asks), strict=True):
            levels.update(changes)
    bids, asks = sides
    last = diffs[-1]
    return DepthDiff(
        diffs[0].first_update_id,
        last.last_update_id,
        tuple(sorted(bids.items(), reverse=True)),
        tuple(sorted(asks.items())),
        last.event_ms,
    )


def _edges(since_ms: int, now_ms: int, every_ms: int) -> range:
    """The multiples of `every_ms` in (since_ms, now_ms]."""
    return range(since_ms - since_ms % every_ms + every_ms, now_ms + 1, every_ms)


def _timeless(render: Callable[[], bytes]) -> Callable[[Unit], bytes]:
    """A payload that carries no time."""
    return lambda _unit: render()


def _mini_ticker(ticker: MiniTicker, event_ms: int, unit: Unit) -> bytes:
    return orjson.dumps(payloads.mini_ticker(ticker, event_ms, unit))


def _mini_tickers(tickers: list[MiniTicker], event_ms: int, unit: Unit) -> bytes:
    return orjson.dumps([payloads.mini_ticker(ticker, event_ms, unit) for ticker in tickers])
