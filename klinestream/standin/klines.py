"""Kline frames at each second's edge: the closed second of every symbol, and candles of longer intervals in progress.

A candle is asked of the market once, when its stream is subscribed; from then on the closed seconds are added to it,
since asking anew for each of some thousand candles each two seconds would take longer than that.
"""

from collections.abc import Callable, Iterator, Sequence

from klinestream.market.events import SECOND_MS
from klinestream.standin import payloads
from klinestream.standin.frames import Frame, Unit
from klinestream.standin.intervals import INTERVALS, Interval
from klinestream.standin.market import Candle, Market, Seconds
from klinestream.standin.streams import KLINE_PUSH_MS, Stream

# How long one call may spend on candles that were just subscribed, so that the others' frames stay on time.
WARM_UP_S = 0.005


class Klines:
    """Makes the frames of the wanted kline streams. Times are the market's."""

    def __init__(self, market: Market, stopwatch: Callable[[], float]) -> None:
        """Begin with no stream. `stopwatch` gives seconds."""
        self._market = market
        self._stopwatch = stopwatch
        self._seconds: list[Stream] = []
        self._longer: list[Stream] = []
        self._symbols: list[str] = []
        self._running: dict[Stream, Candle] = {}
        self._prepared: tuple[int, list[_Ahead], dict[str, Candle]] | None = None

    def want(self, streams: Sequence[Stream]) -> None:
        """Make these streams' frames from now on."""
        self._seconds = [stream for stream in streams if stream.interval is INTERVALS["1s"]]
        self._longer = [stream for stream in streams if stream.interval is not INTERVALS["1s"]]
        self._symbols = list(dict.fromkeys(stream.symbol for stream in streams))
        wanted = set(self._longer)
        self._running = {stream: candle for stream, candle in self._running.items() if stream in wanted}
        self._prepared = None

    def forget(self) -> None:
        """Some seconds were passed over: candles in progress have to be asked for again."""
        self._running = {}
        self._prepared = None

    def prepare(self, open_ms: int) -> None:
        """Do ahead what the end of the second that opens then will need. Nothing of it leaves before that end."""
        if self._prepared is None or self._prepared[0] != open_ms:
            rows = self._rows(open_ms)
            self._prepared = open_ms, [_Ahead(stream, rows[stream.symbol]) for stream in self._seconds if stream.symbol in rows], rows
        deadline = self._stopwatch() + WARM_UP_S
        for stream in self._longer:
            if stream not in self._running:
                if self._stopwatch() > deadline:
                    return
                self._begin(stream, open_ms)

    def edge(self, edge_ms: int, event_ms: int) -> Iterator[list[Frame]]:
        """The frames due at the end of a second: first the burst of all closed seconds, then the longer candles."""
        self.prepare(edge_ms - SECOND_MS)
        assert self._prepared is not None  # noqa: S101  # prepare has just made it
        _, ahead, rows = self._prepared
        yield [second.frame(event_ms) for second in ahead]
        yield list(self._candles_at(edge_ms, event_ms, rows))

    def _candles_at(self, edge_ms: int, event_ms: int, rows: dict[str, Candle]) -> Iterator[Frame]:
        for stream in self._longer:
            candle = self._advance(stream, rows.get(stream.symbol), edge_ms)
            if candle is not None and (candle.closed or edge_ms % KLINE_PUSH_MS == 0):
                yield _Ahead(stream, candle).frame(event_ms)

    def _rows(self, open_ms: int) -> dict[str, Candle]:
        if not self._symbols:
            return {}
        return dict(_candles(self._market.seconds(open_ms, 1, self._symbols)))

    def _begin(self, stream: Stream, at_ms: int) -> None:
        candle = self._market.candle(stream.symbol, _interval(stream), at_ms)
        if candle is not None:
            self._running[stream] = candle

    def _advance(self, stream: Stream, row: Candle | None, edge_ms: int) -> Candle | None:
        """The stream's candle at the edge; None where nothing is known of it yet."""
        interval = _interval(stream)
        before = self._running.pop(stream, None)
        if before is None:
            # Not warm yet: its frames in progress may wait, but a candle's end is always told.
            opened = interval.open_of(edge_ms - 1)
            ended = interval.close_of(opened) == edge_ms - 1
            found = self._market.candles(stream.symbol, interval, opened, edge_ms, edge_ms) if ended else []
            return found[-1] if found else None
        if row is None:
            return None
        candle = merged(before, row) if row.close_time_ms <= before.close_time_ms else first(row, interval)
        self._running[stream] = candle
        return candle


class _Ahead:
    """A kline frame that only lacks the time at which it is sent."""

    __slots__ = ("_body", "_candle", "_stream")

    def __init__(self, stream: Stream, candle: Candle) -> None:
        self._stream = stream
        self._candle = candle
        self._body = self._in(Unit.MILLISECOND)

    def frame(self, event_ms: int) -> Frame:
        def render(unit: Unit) -> bytes:
            return payloads.kline(self._stream.symbol, self._body if unit is Unit.MILLISECOND else self._in(unit), event_ms, unit)

        return Frame(self._stream, render)

    def _in(self, unit: Unit) -> bytes:
        return payloads.kline_body(self._stream.symbol, _interval(self._stream).name, self._candle, unit)


def first(row: Candle, interval: Interval) -> Candle:
    """The candle of an interval whose first second is `row`."""
    opened = interval.open_of(row.open_time_ms)
    return spanning(row, opened, interval.close_of(opened))


def merged(candle: Candle, row: Candle) -> Candle:
    """A candle after one more second; quiet ones carry the close before, which trades replace."""
    if not row.trades:
        return spanning(candle, candle.open_time_ms, candle.close_time_ms, row.close_time_ms)
    if not candle.trades:
        return spanning(row, candle.open_time_ms, candle.close_time_ms)
    return Candle(
        open_time_ms=candle.open_time_ms,
        close_time_ms=candle.close_time_ms,
        open=candle.open,
        high=max(candle.high, row.high),
        low=min(candle.low, row.low),
        close=row.close,
        base_volume=candle.base_volume + row.base_volume,
        quote_volume=candle.quote_volume + row.quote_volume,
        taker_base_volume=candle.taker_base_volume + row.taker_base_volume,
        taker_quote_volume=candle.taker_quote_volume + row.taker_quote_volume,
        trades=candle.trades + row.trades,
        first_trade_id=candle.first_trade_id,
        last_trade_id=row.last_trade_id,
        closed=row.close_time_ms == candle.close_time_ms,
    )


def spanning(values: Candle, open_time_ms: int, close_time_ms: int, until_ms: int | None = None) -> Candle:
    """The values of a candle as those of another span, known up to `until_ms` or else to the values' own close."""
    return Candle(
        open_time_ms=open_time_ms,
        close_time_ms=close_time_ms,
        open=values.open,
        high=values.high,
        low=values.low,
        close=values.close,
        base_volume=values.base_volume,
        quote_volume=values.quote_volume,
        taker_base_volume=values.taker_base_volume,
        taker_quote_volume=values.taker_quote_volume,
        trades=values.trades,
        first_trade_id=values.first_trade_id,
        last_trade_id=values.last_trade_id,
        closed=close_time_ms == (values.close_time_ms if until_ms is None else until_ms),
    )


def _interval(stream: Stream) -> Interval:
    assert stream.interval is not None  # noqa: S101  # every kline stream has one
    return stream.interval


def _candles(seconds: Seconds) -> Iterator[tuple[str, Candle]]:
    """The known rows of one second by symbol."""
    opened = int(seconds.open_time_ms[0])
    columns = [
        column[0].tolist()
        for column in (
            seconds.open,
            seconds.high,
            seconds.low,
            seconds.close,
            seconds.base_volume,
            seconds.quote_volume,
            seconds.taker_base_volume,
            seconds.taker_quote_volume,
            seconds.trades,
            seconds.first_trade_id,
            seconds.last_trade_id,
        )
    ]
    closed = [True] * len(seconds.symbols)
    for symbol, known, *values in zip(seconds.symbols, seconds.known[0].tolist(), *columns, closed, strict=True):
        if known:
            yield symbol, Candle(opened, opened + SECOND_MS - 1, *values)
