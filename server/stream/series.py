"""What version 2 of the websocket speaks of: kinds of records, series of them, and single records as they were read. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from klinestream.market.kinds import RecordKind

Positions = Mapping[str, Mapping[int, int]]
"""Topic → partition → offset of the first record that the holder has not seen."""


class Series(NamedTuple):
    """The records of one kind, symbol and interval; windows and candles in progress have no interval."""

    kind: RecordKind
    symbol: str
    interval: str = ""

    def named(self) -> dict[str, str]:
        """Its parts by name, as messages have them.

        >>> Series(RecordKind.WINDOWS, "BTCUSDT").named()
        {'kind': 'windows', 'symbol': 'BTCUSDT'}
        """
        names = {"kind": self.kind.value, "symbol": self.symbol}
        return names | {"interval": self.interval} if self.interval else names


class Item(NamedTuple):
    """One record of a series as it was read; `value` is its JSON, passed on as it is.

    Several records may claim one identity (series, time and `detail`): the highest revision counts, then the most
    klines, then the earliest `since`.
    """

    series: Series
    time_ms: int
    revision: int
    since_ms: int
    partition: int
    offset: int
    value: bytes
    detail: str = ""
    """Of a signal its rule and side."""
    klines: int = 0
    """Of a candle how many it was built from."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """The greatest rank among records of one identity counts."""
        return self.revision, self.klines, -self.since_ms

    @property
    def identity(self) -> tuple[Series, int, str]:
        """What it is known by."""
        return self.series, self.time_ms, self.detail
