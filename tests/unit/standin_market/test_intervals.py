"""Where candles open, and which ones a klines request asks for."""

import datetime as dt

import pytest

from klinestream.standin.intervals import INTERVALS, span


def ms(text: str) -> int:
    """A time in UTC as ms since 1970."""
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp() * 1000)


# As the exchange's own klines open.
OPENS = [
    ("1s", "2026-11-21 14:07:47.999", "2026-11-21 14:07:47"),
    ("1m", "2026-11-21 14:07:47", "2026-11-21 14:07:00"),
    ("3m", "2026-11-21 14:07:47", "2026-11-21 14:06:00"),
    ("30m", "2026-11-21 14:07:47", "2026-11-21 14:00:00"),
    ("8h", "2026-11-21 14:07:47", "2026-11-21 08:00:00"),
    ("12h", "2026-11-21 14:07:47", "2026-11-21 12:00:00"),
    ("1d", "2026-11-21 23:59:59.999", "2026-11-21 00:00:00"),
    ("3d", "2024-08-09 12:00:00", "2024-08-09 00:00:00"),
    ("3d", "2024-08-08 12:00:00", "2024-08-06 00:00:00"),
    ("1w", "2026-11-22 23:59:59", "2026-11-16 00:00:00"),
    ("1w", "2026-11-23 00:00:00", "2026-11-23 00:00:00"),
    ("1M", "2024-02-29 23:59:59", "2024-02-01 00:00:00"),
]


@pytest.mark.parametrize(("name", "time", "opened"), OPENS)
def test_a_candle_opens_where_the_exchange_opens_it(name: str, time: str, opened: str) -> None:
    """Weeks open on Mondays, months on the calendar, three days on the epoch, all others on UTC midnight and its parts."""
    assert INTERVALS[name].open_of(ms(time)) == ms(opened)


def test_all_intervals_are_there() -> None:
    """The exchange's sixteen intervals, by name."""
    assert " ".join(INTERVALS) == "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M"


@pytest.mark.parametrize("name", INTERVALS)
def test_candles_follow_each_other(name: str) -> None:
    """Each candle's close is one ms before the next one's open; opens, shift and open_of agree."""
    interval = INTERVALS[name]
    first = interval.open_of(ms("2023-12-30 05:06:07"))
    opens = interval.opens(first, interval.shift(first, 5))
    assert len(opens) == 5
    for number, opened in enumerate(opens):
        assert opened == interval.shift(first, number)
        assert interval.close_of(opened) + 1 == interval.shift(opened, 1)
        assert interval.open_of(interval.close_of(opened)) == interval.open_of(opened) == opened
        assert interval.shift(interval.shift(opened, 7), -7) == opened
    assert interval.opens(first + 1, interval.shift(first, 5)) == opens[1:]


LISTED_MS = ms("2026-01-01 00:00:00")
AT_MS = ms("2026-01-02 00:00:30")
REQUESTS = [
    # start, end, limit, first open, number
    (None, None, 3, "2026-01-01 23:58:00", 3),  # the newest, with the one in progress
    ("2026-01-01 10:00:00", None, 3, "2026-01-01 10:00:00", 3),  # the oldest from start
    ("2026-01-01 10:00:01", None, 3, "2026-01-01 10:01:00", 3),
    (None, "2026-01-01 10:00:00", 3, "2026-01-01 09:58:00", 3),  # the newest up to end, inclusive
    (None, "2026-01-01 09:59:59.999", 3, "2026-01-01 09:57:00", 3),
    ("2026-01-01 10:00:00", "2026-01-01 11:00:00", 3, "2026-01-01 10:00:00", 3),  # both: the oldest from start
    ("2026-01-01 10:00:00", "2026-01-01 10:01:00", 3, "2026-01-01 10:00:00", 2),  # not past end
    ("2026-01-01 10:00:00", "2026-01-01 10:00:00", 3, "2026-01-01 10:00:00", 1),  # start = end
    ("2025-01-01 00:00:00", None, 3, "2026-01-01 00:00:00", 3),  # nothing before the listing
    (None, "2026-01-01 00:01:00", 500, "2026-01-01 00:00:00", 2),
]


@pytest.mark.parametrize(("start", "end", "limit", "first", "count"), REQUESTS)
def test_a_request_asks_for_the_candles_the_exchange_gives(start: str | None, end: str | None, limit: int, first: str, count: int) -> None:
    """Each combination of startTime, endTime and limit gives the exchange's candles."""
    start_ms, end_ms = (ms(bound) if bound else None for bound in (start, end))
    from_ms, to_ms = span(INTERVALS["1m"], start_ms, end_ms, limit, listed_ms=LISTED_MS, at_ms=AT_MS)
    opens = INTERVALS["1m"].opens(from_ms, to_ms)
    assert opens[0] == ms(first)
    assert len(opens) == count


@pytest.mark.parametrize(("start", "end"), [("2027-01-01", None), (None, "2025-12-31"), ("2026-01-01 11:00", "2026-01-01 10:00")])
def test_a_request_for_nothing_gives_nothing(start: str | None, end: str | None) -> None:
    """Bounds in the future, before the listing, or the wrong way round hold no candle."""
    start_ms, end_ms = (ms(bound) if bound else None for bound in (start, end))
    assert INTERVALS["1M"].opens(*span(INTERVALS["1M"], start_ms, end_ms, 10, listed_ms=LISTED_MS, at_ms=AT_MS)) == []
