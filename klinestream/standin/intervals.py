"""The exchange's kline intervals: where each candle opens and ends.

All lie on UTC: seconds to 12h and 1d on the epoch, 3d on the epoch in threes, weeks on Mondays, months on the calendar.

    1w:  Thursday 1970-01-01 ·|· Monday 1970-01-05 ·······|· Monday 1970-01-12 ···
"""

import datetime as dt
from dataclasses import dataclass

from klinestream.market.events import SECOND_MS

MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday since the epoch
EPOCH_YEAR = 1970


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval. `length_ms` is 0 for the calendar's months."""

    name: str
    length_ms: int
    phase_ms: int = 0

    def open_of(self, time_ms: int) -> int:
        """Open time of the candle that holds `time_ms`.

        >>> INTERVALS["5m"].open_of(1_723_161_999_999)
        1723161900000
        """
        if self.length_ms:
            return time_ms - (time_ms - self.phase_ms) % self.length_ms
        return _month_open(_month(time_ms))

    def shift(self, open_time_ms: int, candles: int) -> int:
        """Open time of the candle that many candles later; earlier where negative.

        >>> dt.datetime.fromtimestamp(INTERVALS["1M"].shift(0, 14) / 1000, dt.UTC).date()
        datetime.date(1971, 3, 1)
        """
        if self.length_ms:
            return open_time_ms + candles * self.length_ms
        return _month_open(_month(open_time_ms) + candles)

    def close_of(self, open_time_ms: int) -> int:
        """Last ms of the candle that opens then."""
        return self.shift(open_time_ms, 1) - 1

    def opens(self, from_ms: int, to_ms: int) -> list[int]:
        """Open times of the candles that open in `[from_ms, to_ms)`."""
        first = self.open_of(from_ms)
        if first < from_ms:
            first = self.shift(first, 1)
        if self.length_ms:
            return list(range(first, to_ms, self.length_ms))
        months = range(_month(first), _month(to_ms) + 1)
        return [opened for opened in map(_month_open, months) if first <= opened < to_ms]


INTERVALS = {
    interval.name: interval
    for interval in (
        Interval("1s", SECOND_MS),
        Interval("1m", MINUTE_MS),
        Interval("3m", 3 * MINUTE_MS),
        Interval("5m", 5 * MINUTE_MS),
        Interval("15m", 15 * MINUTE_MS),
        Interval("30m", 30 * MINUTE_MS),
        Interval("1h", HOUR_MS),
        Interval("2h", 2 * HOUR_MS),
        Interval("4h", 4 * HOUR_MS),
        Interval("6h", 6 * HOUR_MS),
        Interval("8h", 8 * HOUR_MS),
        Interval("12h", 12 * HOUR_MS),
        Interval("1d", DAY_MS),
        Interval("3d", 3 * DAY_MS),
        Interval("1w", WEEK_MS, MONDAY_MS),
        Interval("1M", 0),
    )
}


def span(interval: Interval, start_ms: int | None, end_ms: int | None, limit: int, *, listed_ms: int, at_ms: int) -> tuple[int, int]:
    """The span `[from_ms, to_ms)` of open times that a klines request asks for: at most `limit` candles.

    As the exchange does it: no bound, the newest that opened before `at_ms`; start only, the oldest from start; end only (inclusive),
    the newest up to end; both, the oldest from start, not past end. Nothing opens before the candle of the listing.
    """
    first_open = interval.open_of(listed_ms)
    last_ms = at_ms - 1 if end_ms is None else min(end_ms, at_ms - 1)
    if max(first_open, start_ms or 0) > last_ms:
        return first_open, first_open
    if start_ms is None:
        newest_open = interval.open_of(last_ms)
        return max(interval.shift(newest_open, 1 - limit), first_open), last_ms + 1
    from_ms = max(start_ms, first_open)
    oldest_open = interval.open_of(from_ms)
    if oldest_open < from_ms:
        oldest_open = interval.shift(oldest_open, 1)
    return from_ms, min(interval.shift(oldest_open, limit), last_ms + 1)


def _month(time_ms: int) -> int:
    """Months since 1970-01."""
    moment = dt.datetime.fromtimestamp(time_ms // SECOND_MS, dt.UTC)
    return (moment.year - EPOCH_YEAR) * 12 + moment.month - 1


def _month_open(month: int) -> int:
    moment = dt.datetime(EPOCH_YEAR + month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)
    return int(moment.timestamp()) * SECOND_MS
