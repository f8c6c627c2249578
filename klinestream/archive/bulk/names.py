"""What a bulk file's name says of its content.

BTCUSDT-1s-2024-01-02.zip         klines of a day
BTCUSDT-1m-2024-01.zip            … of a month
BTCUSDT-trades-2024-01-02.zip     trades; aggTrades alike
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from klinestream.market.codec import is_symbol
from klinestream.market.errors import ArchiveError
from klinestream.market.events import KLINE_INTERVAL, SECOND_MS
from klinestream.market.intervals import DAY_MS, INTERVALS

KLINES, TRADES, AGG_TRADES = "klines", "trades", "aggTrades"
LENGTHS = {KLINE_INTERVAL: SECOND_MS, **INTERVALS}
"""The intervals that are imported → length in ms."""

_NAME = re.compile(r"(?P<symbol>\S+?)-(?P<what>\d+(?:s|m|h|d|w|mo|M)|trades|aggTrades)-(?P<date>\d{4}-\d\d(?:-\d\d)?)\.zip")
_EXAMPLES = "a name such as BTCUSDT-1s-2024-01-02.zip, BTCUSDT-1m-2024-01.zip or BTCUSDT-trades-2024-01-02.zip"


@dataclass(frozen=True, slots=True)
class BulkName:
    """A symbol, what is told of it, and of which day or month."""

    symbol: str
    kind: str
    """klines, trades or aggTrades."""
    interval: str
    """That of klines; empty for trades."""
    date: str
    """A day, or a month, as the name has it."""
    from_ms: int
    to_ms: int
    """Exclusive."""

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return f"{self.symbol}-{self.interval or self.kind}-{self.date}"

    @property
    def member(self) -> str:
        """The one file within."""
        return f"{self.stem}.csv"

    @property
    def length_ms(self) -> int:
        """Of a kline."""
        return LENGTHS[self.interval]

    @property
    def rows(self) -> int:
        """How many klines the span has."""
        return (self.to_ms - self.from_ms) // self.length_ms

    @classmethod
    def of(cls, name: str) -> "BulkName":
        """What a file's name says. Raises ArchiveError.

        >>> BulkName.of("BTCUSDT-1m-2024-02.zip").rows
        41760
        """
        found = _NAME.fullmatch(name)
        if found is None or not is_symbol(found["symbol"]):
            raise ArchiveError(f"expected {_EXAMPLES}, got {name!r}")
        kind = found["what"] if found["what"] in {TRADES, AGG_TRADES} else KLINES
        interval = found["what"] if kind == KLINES else ""
        if interval and interval not in LENGTHS:
            raise ArchiveError(f"expected klines of {', '.join(LENGTHS)}, got {interval}: klinestream has no candles of that interval")
        try:
            from_ms, to_ms = _span(found["date"])
        except ValueError:
            raise ArchiveError(f"expected a day or a month of the calendar, got {found['date']}") from None
        return cls(found["symbol"], kind, interval, found["date"], from_ms, to_ms)


def _span(date: str) -> tuple[int, int]:
    is_day = len(date) == len("2024-01-02")
    first = datetime.strptime(date, "%Y-%m-%d" if is_day else "%Y-%m").replace(tzinfo=UTC)
    from_ms = int(first.timestamp()) * SECOND_MS
    if is_day:
        return from_ms, from_ms + DAY_MS
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return from_ms, int(after.timestamp()) * SECOND_MS
