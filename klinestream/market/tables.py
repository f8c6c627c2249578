"""Which topics become tables of a database, and how: made from the one definition of each event.

    topic ─► records, repeated and corrected ─► one row an identity: the highest revision, then the earliest since or the most klines

Names and kinds of columns are the events' own: a field's name, but a time is called `…_time`, for it is one there and no number.
What a kind is called in SQL says each database's own module.
"""

import enum
from dataclasses import dataclass
from functools import cached_property

from klinestream.market.events import Kind, wire_fields
from klinestream.market.topics import (
    AGGREGATES,
    CANDLES,
    FEED_GAPS,
    ID_GAPS,
    INDICATORS,
    PIPELINE_EVENTS,
    PREDICTIONS,
    SIGNALS,
    TRADE_WINDOWS,
    WINDOWS,
    Topic,
)

_RENAMED = {"values": "readings", "limit": "threshold"}  # reserved in SQL


class Better(enum.StrEnum):
    """Which of two records of an identity counts, by one column."""

    GREATER = "greater"
    LESS = "less"


class Span(enum.StrEnum):
    """How much time a partition of a table holds."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Column:
    """A field of an event as a column."""

    name: str
    wire: str
    kind: Kind
    nullable: bool


@dataclass(frozen=True)
class Table:
    """A topic as a table. `identity`, `time` and `rank` are names of columns.

    `rank`: of two records of one identity the better one counts, by the first column in which they differ. `time` is part of the
    identity: tables are partitioned by it.
    """

    name: str
    topic: Topic
    identity: tuple[str, ...]
    time: str
    rank: tuple[tuple[str, Better], ...]
    span: Span = Span.MONTH
    keep_days: int = 400

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The event's fields in order."""
        return tuple(
            Column(column_name(field.name), wire, field.metadata["kind"], field.metadata["nullable"])
            for wire, field in wire_fields(self.topic.event).items()
        )


def column_name(field: str) -> str:
    """What a field of an event is called in a table.

    >>> column_name("open_time_ms"), column_name("since_ms"), column_name("close")
    ('open_time', 'since_time', 'close')
    """
    if not field.endswith("_ms"):
        return _RENAMED.get(field, field)
    stem = field.removesuffix("_ms")
    return stem if stem.endswith("time") else f"{stem}_time"


_REVISED = (("revision", Better.GREATER), ("since_time", Better.LESS))
# A job that starts without its state tells the candle that it begins in once more, of fewer klines.
_BUILT = (("revision", Better.GREATER), ("klines", Better.GREATER))
_LEDGER = (("time", Better.GREATER),)  # how far an open gap is, tells the newest

TABLES = (
    Table("windows", WINDOWS, ("symbol", "end_time"), "end_time", _REVISED, Span.DAY, 7),
    Table(
        "trade_windows",
        TRADE_WINDOWS,
        ("symbol", "end_time"),
        "end_time",
        (*_REVISED, ("since_id", Better.LESS)),
        Span.DAY,
        7,
    ),
    Table("candles", CANDLES, ("symbol", "interval", "open_time"), "open_time", _BUILT),
    Table("indicators", INDICATORS, ("symbol", "interval", "open_time"), "open_time", _REVISED),
    Table("signals", SIGNALS, ("id", "open_time"), "open_time", _REVISED),
    Table("aggregates", AGGREGATES, ("symbol", "open_time"), "open_time", _REVISED, Span.DAY, 7),
    Table(
        "predictions",
        PREDICTIONS,
        ("symbol", "interval", "open_time", "model"),
        "open_time",
        (*_REVISED, ("inputs", Better.GREATER)),
    ),
    Table("gaps", FEED_GAPS, ("gap", "state", "producer", "from_time"), "from_time", (*_LEDGER, ("klines", Better.GREATER))),
    Table("id_gaps", ID_GAPS, ("gap", "state", "producer", "before_time"), "before_time", (*_LEDGER, ("obtained", Better.GREATER))),
    Table("events", PIPELINE_EVENTS, ("component", "event", "time"), "time", (("detail", Better.GREATER),)),
)
BY_NAME = {table.name: table for table in TABLES}
