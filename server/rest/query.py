"""Parameters of the REST routes, every one bounded, and what they choose of a series. Pure."""

import enum
from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from klinestream.market.codec import TIME_MOST_MS
from klinestream.market.decimals import Ints
from klinestream.market.events import GapState
from server.protocol import SYMBOL_MOST_CHARS
from server.rest.errors import RestError

DEFAULT_LIMIT, LIMIT_MOST = 500, 1000


class Format(enum.StrEnum):
    """How an answer is written."""

    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"

    @property
    def media_type(self) -> str:
        """Its media type."""
        return MEDIA_TYPES[self]


MEDIA_TYPES = {Format.JSON: "application/json", Format.CSV: "text/csv", Format.ARROW: "application/vnd.apache.arrow.stream"}

Symbol = Annotated[
    str, Field(min_length=1, max_length=SYMBOL_MOST_CHARS, pattern=r"^[\w\-.:]+$", description="In upper case.", examples=["BTCUSDT"])
]
Interval = Literal["1m", "5m", "15m", "30m", "1h", "4h", "1d"]
TimeMs = Annotated[int, Field(ge=0, lt=TIME_MOST_MS)]


class Written(BaseModel):
    """How an answer is written."""

    model_config = ConfigDict(extra="forbid")

    format: Format | None = Field(None, description="`json`, `csv` or `arrow` (an IPC stream); without it the header Accept decides.")

    def written_as(self, accept: str | None) -> Format:
        """The format that is asked for, by parameter, else by the header Accept; JSON if neither names one."""
        if self.format is not None:
            return self.format
        return next((form for form in (Format.CSV, Format.ARROW) if form.media_type in (accept or "")), Format.JSON)


class Span(Written):
    """A span of time, and how much of it."""

    from_ms: TimeMs | None = Field(None, alias="from", description="From this time on, ms since 1970 UTC: the oldest of them.")
    to_ms: TimeMs | None = Field(None, alias="to", description="Before this time, ms since 1970 UTC; without `from` the newest of them.")
    limit: int = Field(DEFAULT_LIMIT, ge=1, le=LIMIT_MOST, description="At most so many.")

    def checked(self) -> Self:
        """The same, if it can be. Raises RestError."""
        if self.from_ms is not None and self.to_ms is not None and self.from_ms > self.to_ms:
            raise RestError(400, "from not after to", f"from={self.from_ms} and to={self.to_ms}", "swap them")
        return self


class WindowsQuery(Span):
    """Windows of a symbol, by their end."""

    symbol: Symbol


class SeriesQuery(Span):
    """Candles or indicators of a symbol and interval, by open time."""

    symbol: Symbol
    interval: Interval


class SignalsQuery(Span):
    """Signals of a symbol, of one interval or all, by open time of their candle."""

    symbol: Symbol
    interval: Interval | None = None


class GapsQuery(Span):
    """Gaps of the feed that overlap a span."""

    symbol: Symbol | None = None
    state: GapState | None = None


def chosen(times: Sequence[int] | Ints, span: Span) -> tuple[slice, bool]:
    """Which of these times, which are in order, a span asks for; and whether its limit leaves out some.

    >>> chosen([1, 2, 3, 4], Span(limit=2)), chosen([1, 2, 3, 4], Span(**{"from": 2, "limit": 2}))
    ((slice(2, 4, None), True), (slice(1, 3, None), True))
    """
    first = 0 if span.from_ms is None else int(np.searchsorted(times, span.from_ms))
    last = len(times) if span.to_ms is None else int(np.searchsorted(times, span.to_ms))
    more = last - first > span.limit
    if span.from_ms is None:
        return slice(max(first, last - span.limit), last), more
    return slice(first, min(last, first + span.limit)), more
