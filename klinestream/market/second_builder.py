"""Klines of one second from trades as they come, for venues where nothing proves a second but the clock.

    trades    │·· ·│    │·  ··│ ·             ids don't prove anything, so a second is over
    closed         ▲    ▲     ▲   ▲           when a trade of a later one comes, or when its end and a grace have passed
    klines    │ k  │ q  │  k  │ k │ q │ …     k from its trades, q quiet: the close is carried on

A trade of a second that is closed comes too late for it: `is_late` says so, and its caller tells of it. The order of trades
within a second is that of their arrival.

After a break (`break_off`: the connection was lost, the process began anew) trades may be missing, and nobody knows which. What
was open is never given then, nor is the second of the next trade: a new run begins with the one after it.

    trades    │·· ·│ · ╳   │·· │  ·│
    klines    │ k  │           │ k │ …        a hole, and not quiet seconds that may not have been quiet
"""

from klinestream.market.events import SECOND_MS, Kline, Origin, Trade
from klinestream.market.second_sums import SecondSums, quiet_second

QUIET_MOST = 3600
"""Quiet seconds that are given at once; a pause in which neither a trade nor the clock was heard for longer leaves a hole."""


class SecondBuilder:
    """One symbol's open second, and what is carried on from the one before. It has no clock: it is told the time."""

    __slots__ = ("_close", "_closed_ms", "_grace_ms", "_last_trade_id", "_sums", "_symbol", "_whole")

    def __init__(self, symbol: str, grace_ms: int, *, closed_ms: int = 0, whole: bool = True) -> None:
        """`closed_ms`: seconds that opened before are closed; not `whole`: trades may be missing before the first one, as after a break."""
        self._symbol = symbol
        self._grace_ms = grace_ms
        self._closed_ms = closed_ms
        self._whole = whole
        self._sums: SecondSums | None = None  # of the second that opened at _closed_ms
        self._close: int | None = None
        self._last_trade_id: int | None = None

    def is_late(self, time_ms: int) -> bool:
        """Whether the second of a trade made then is closed."""
        return time_ms < self._closed_ms

    def add(self, trade: Trade) -> list[Kline]:
        """The klines that a trade closes. Raises ValueError for one that is late."""
        if self.is_late(trade.time_ms):
            raise ValueError(f"expected a trade from {self._closed_ms} on, got one of {trade.time_ms}")
        klines = self._close_before(trade.time_ms)
        if self._sums is None:
            self._sums = SecondSums(trade.price, trade.first_id)
        self._sums.add(trade.price, trade.quantity, trade.first_id, trade.last_id, buyer_is_maker=trade.buyer_is_maker)
        return klines

    def tick(self, now_ms: int) -> list[Kline]:
        """The klines that the clock closes."""
        return self._close_before(now_ms - self._grace_ms)

    def break_off(self) -> None:
        """Trades may be missing from now on, up to the next one that comes."""
        self._sums = self._close = self._last_trade_id = None
        self._whole = False

    def _close_before(self, time_ms: int) -> list[Kline]:
        """Close each second before the one that holds this time."""
        opened, begin = self._closed_ms, time_ms // SECOND_MS * SECOND_MS
        if begin <= opened:
            return []
        self._closed_ms = begin
        klines: list[Kline] = []
        if self._sums is not None:
            if self._whole:
                klines.append(self._sums.kline(self._symbol, opened, Origin.BUILT))
            self._whole = True
            self._close, self._last_trade_id, self._sums = self._sums.close, self._sums.last_trade_id, None
            opened += SECOND_MS
        if (begin - opened) // SECOND_MS > QUIET_MOST:
            self._close = self._last_trade_id = None
        elif self._close is not None:
            klines += [
                quiet_second(self._symbol, at, self._close, self._last_trade_id, Origin.BUILT) for at in range(opened, begin, SECOND_MS)
            ]
        return klines
