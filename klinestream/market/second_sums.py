"""What the trades of one second add up to: a kline made trade by trade. For columns of trades: `trade_seconds`.

A price times a quantity has sixteen decimals, a kline's q and Q have eight: the products are added up as they are, and
the sum is cut off after the eighth decimal once, at the end.
"""

from klinestream.market import decimals
from klinestream.market.events import SECOND_MS, Kline, Origin, Proof

_NO_ID = -1


class SecondSums:
    """The trades of one second, in order."""

    __slots__ = (
        "_base",
        "_first_id",
        "_high",
        "_low",
        "_open",
        "_quote",
        "_taker_base",
        "_taker_quote",
        "_trades",
        "close",
        "last_trade_id",
    )

    def __init__(self, price: int, first_id: int) -> None:
        """Of its first trade, which is to be added like the others."""
        self._open = self._high = self._low = self.close = price
        self._first_id = self.last_trade_id = first_id
        self._trades = self._base = self._quote = self._taker_base = self._taker_quote = 0

    def add(self, price: int, quantity: int, first_id: int, last_id: int, *, buyer_is_maker: bool | None) -> None:
        """The next trade, or trades of one price and side as one. Where nobody knows whose it was, it is no taker's."""
        self._high, self._low, self.close = max(self._high, price), min(self._low, price), price
        self._trades += last_id - first_id + 1
        self._base += quantity
        self._quote += price * quantity
        if buyer_is_maker is False:
            self._taker_base += quantity
            self._taker_quote += price * quantity
        self.last_trade_id = last_id

    def kline(self, symbol: str, opened: int, origin: Origin) -> Kline:
        """All of them as the kline of the second that opened then."""
        return Kline(
            symbol=symbol,
            open_time_ms=opened,
            close_time_ms=opened + SECOND_MS - 1,
            open=self._open,
            high=self._high,
            low=self._low,
            close=self.close,
            base_volume=self._base,
            quote_volume=self._quote // decimals.UNIT,
            taker_base_volume=self._taker_base,
            taker_quote_volume=self._taker_quote // decimals.UNIT,
            trades=self._trades,
            first_trade_id=self._first_id,
            last_trade_id_within=self.last_trade_id,
            last_trade_id=self.last_trade_id,
            origin=origin,
        )


def quiet_second(symbol: str, opened: int, close: int, last_trade_id: int | None, origin: Origin) -> Kline:
    """The kline of a second without trades: the close before it is carried on, and the newest trade's id."""
    return Kline(
        symbol=symbol,
        open_time_ms=opened,
        close_time_ms=opened + SECOND_MS - 1,
        open=close,
        high=close,
        low=close,
        close=close,
        base_volume=0,
        quote_volume=0,
        taker_base_volume=0,
        taker_quote_volume=0,
        trades=0,
        first_trade_id=_NO_ID,
        last_trade_id_within=_NO_ID,
        last_trade_id=last_trade_id,
        origin=origin,
        proof=Proof.NONE if last_trade_id is None else Proof.IDS,
    )
