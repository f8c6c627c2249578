"""The intervals of candles: fixed lengths, aligned to midnight UTC as the exchange's are."""

from klinestream.market.events import SECOND_MS

MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

INTERVALS: dict[str, int] = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "1d": DAY_MS,
}
"""Name → length in ms, ascending; each is a whole multiple of the one before."""


def opened(time_ms: int, length_ms: int) -> int:
    """Open time of the candle that holds a time.

    >>> opened(1_700_000_123_456, INTERVALS["1h"]) % HOUR_MS
    0
    """
    return time_ms - time_ms % length_ms
