"""Which of two rows of an identity ReplacingMergeTree keeps: `Table.rank` as one number, the greater the better.

    revision GREATER, since_time LESS   ─►   |  revision  |  2^63 - 1 - since  |   UInt128, 64 bits a column

A text has no such number. It may stand last in a rank: then it joins the sorting key, so that rows which differ in it all stay,
and the view chooses among them.
"""

from dataclasses import dataclass

from klinestream.market.events import Kind
from klinestream.market.tables import Better, Column, Table
from klinestream.stores.clickhouse.columns import quoted

_TYPES = {1: "UInt64", 2: "UInt128", 3: "UInt256", 4: "UInt256"}
_SLOT_BITS = 64
_MOST = 2**63 - 1  # of a count and of a time in ms


@dataclass(frozen=True, slots=True)
class Version:
    """A table's rank as ClickHouse takes it. `type` is empty where nothing but a text ranks, `text` where none does."""

    type: str
    expression: str
    text: str


def version_of(table: Table) -> Version:
    """The version of a table's rows.

    >>> from klinestream.market.tables import BY_NAME
    >>> version_of(BY_NAME["candles"])
    Version(type='UInt128', expression='bitShiftLeft(toUInt128(`revision`), 64) + toUInt128(`klines`)', text='')
    >>> version_of(BY_NAME["events"])
    Version(type='', expression='', text='detail')
    """
    kinds = {column.name: column for column in table.columns}
    *numbers, last = table.rank
    texts = [last[0]] if kinds[last[0]].kind in (Kind.TEXT, Kind.NOTE) else []
    if not texts:
        numbers.append(last)
    elif last[1] is not Better.GREATER:
        raise ValueError(f"{table.name}: of a text the greater is the better, expected no other rank")
    parts = [_slot(kinds[name], better) for name, better in numbers]
    if not parts:
        return Version("", "", texts[0])
    kind = _TYPES[len(parts)]
    shifted = [_shifted(f"to{kind}({part})", len(parts) - 1 - place) for place, part in enumerate(parts)]
    return Version(kind, " + ".join(shifted), texts[0] if texts else "")


def _slot(column: Column, better: Better) -> str:
    if column.nullable or column.kind not in (Kind.COUNT, Kind.TIME_MS):
        raise ValueError(f"{column.name}: expected a count or a time that is never null to rank by, got {column.kind}")
    name = quoted(column.name)
    number = f"toUnixTimestamp64Milli({name})" if column.kind is Kind.TIME_MS else name
    return number if better is Better.GREATER else f"{_MOST} - {number}"


def _shifted(number: str, slots: int) -> str:
    return f"bitShiftLeft({number}, {slots * _SLOT_BITS})" if slots else number
