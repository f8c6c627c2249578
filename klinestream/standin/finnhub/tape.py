"""What connections to Finnhub hear: each tenth of a second, the trades of all that they subscribed, in the order of their times.

market time   12:00:00.9 ········· 12:00:01.0 ········· 12:00:01.1
messages              └─ [AAPL, AAPL, TSLA]   └─ [EUR_USD, AAPL]        at most 100 trades in one
"""

from collections.abc import Iterable, Sequence

from klinestream.standin.finnhub import messages
from klinestream.standin.finnhub.listing import Listed, listing
from klinestream.standin.finnhub.session import PREFIX
from klinestream.standin.frames import Frame
from klinestream.standin.market import Market, Trade
from klinestream.standin.streams import Kind, Stream

EVERY_MS = 100
TRADES_MOST = 100
STREAM = Stream(PREFIX + "trade", Kind.FINNHUB)


class Tape:
    """Makes the messages, step by step. Times are the market's."""

    def __init__(self, market: Market, now_ms: int, catch_up_ms: int) -> None:
        """Nothing before `now_ms` is told; of a longer pause than `catch_up_ms` the end."""
        self.listed = listing(tuple(market.symbols))
        self._market = market
        self._catch_up_ms = catch_up_ms
        self._told_ms = now_ms

    def step(self, now_ms: int) -> tuple[int, int] | None:
        """The span that is due, None while it isn't."""
        to_ms = now_ms - now_ms % EVERY_MS
        if to_ms <= self._told_ms:
            return None
        from_ms, self._told_ms = max(self._told_ms, to_ms - self._catch_up_ms), to_ms
        return from_ms, to_ms

    def frames(self, names: Iterable[str], span: tuple[int, int]) -> list[Frame]:
        """All trades of these names in a span."""
        told = [(listed, trade) for listed in map(self.listed.__getitem__, names) for trade in self._market.trades(listed.symbol, *span)]
        told.sort(key=lambda one: one[1].time_ms)
        return [_frame(told[begin : begin + TRADES_MOST]) for begin in range(0, len(told), TRADES_MOST)]


def _frame(told: Sequence[tuple[Listed, Trade]]) -> Frame:
    return Frame(STREAM, lambda _unit: messages.trades(told))
