"""What comes next of each symbol: a kline not newer than the last one is a repeat, one that skips seconds leaves a gap.

Pure. It knows what this process has published, no more.
"""

from dataclasses import dataclass

from klinestream.market.events import SECOND_MS
from producer.frames import ClosedKline


@dataclass(frozen=True, slots=True)
class Next:
    """A kline to publish: the seconds missing before it, and the newest trade's id up to its close, None if unknown."""

    missing_s: int
    last_trade_id: int | None


@dataclass(slots=True)
class _Newest:
    open_time_ms: int
    last_trade_id: int | None


class Sequence:
    """The newest kline of each symbol of one connection: as many entries as it has symbols, for one thread."""

    def __init__(self) -> None:
        """Nothing is published yet."""
        self._newest: dict[str, _Newest] = {}

    def admit(self, kline: ClosedKline) -> Next | None:
        """What to publish with this kline, or None if it is a repeat."""
        last_trade_id = kline.last_trade_id_within if kline.last_trade_id_within >= 0 else None
        newest = self._newest.get(kline.symbol)
        if newest is None:
            self._newest[kline.symbol] = _Newest(kline.open_time_ms, last_trade_id)
            return Next(0, last_trade_id)
        ahead_ms = kline.open_time_ms - newest.open_time_ms
        if ahead_ms <= 0:
            return None
        missing_s = ahead_ms // SECOND_MS - 1
        if last_trade_id is None and not missing_s:
            # No trade in this second: the newest is still the one before. After a gap nobody knows.
            last_trade_id = newest.last_trade_id
        newest.open_time_ms, newest.last_trade_id = kline.open_time_ms, last_trade_id
        return Next(missing_s, last_trade_id)
