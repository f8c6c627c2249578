"""The rows of a bulk file, some at a time: each column of its type, times within the span that the name tells, in order.

Times are ms, and µs from 2025 on; the first row tells which. Real files have no header on Spot; one is passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from klinestream.archive.bulk.amounts import amounts, prices
from klinestream.archive.bulk.names import AGG_TRADES, KLINES, TRADES, BulkName
from klinestream.archive.bulk.source import Member
from klinestream.archive.columns import PRICE, VOLUME
from klinestream.market.decimals import Ints
from klinestream.market.errors import ArchiveError
from klinestream.market.intervals import DAY_MS

MS_US = 1000
_US_FROM = 10**14  # as ms the year 5138, as µs 1973
_BLOCK_BYTES = 8 << 20
_INT, _FLAG = pa.int64(), pa.bool_()
COLUMNS: dict[str, dict[str, pa.DataType]] = {
    KLINES: {
        "time": _INT,
        "open": PRICE,
        "high": PRICE,
        "low": PRICE,
        "close": PRICE,
        "base_volume": VOLUME,
        "close_time": _INT,
        "quote_volume": VOLUME,
        "trades": _INT,
        "taker_base_volume": VOLUME,
        "taker_quote_volume": VOLUME,
        "ignore": pa.string(),
    },
    TRADES: {
        "id": _INT,
        "price": PRICE,
        "quantity": VOLUME,
        "quote_quantity": VOLUME,
        "time": _INT,
        "buyer_is_maker": _FLAG,
        "is_best_match": _FLAG,
    },
    AGG_TRADES: {
        "id": _INT,
        "price": PRICE,
        "quantity": VOLUME,
        "first_trade_id": _INT,
        "last_trade_id": _INT,
        "time": _INT,
        "buyer_is_maker": _FLAG,
        "is_best_match": _FLAG,
    },
}
"""Kind → the CSV's columns in order."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows that follow those before."""

    times_us: Ints
    """Open times of klines, times of trades."""
    columns: pa.RecordBatch

    def part(self, begin: int, end: int) -> "Rows":
        """Some of them."""
        return Rows(self.times_us[begin:end], self.columns.slice(begin, end - begin))


def rows(member: Member, name: BulkName, *, allow_holes: bool = False) -> Iterator[Rows]:
    """All rows of a file. Raises ArchiveError at the first that isn't as it should be.

    With `allow_holes` klines that don't begin or end with their interval are left out, as those that are missing are.
    """
    check = _Check(name, allow_holes)
    found = 0
    try:
        for batch in _batches(member, name.kind):
            checked = check(batch)
            found += len(batch)
            if len(checked.times_us):
                yield checked
    except (pa.ArrowException, ValueError) as error:
        raise ArchiveError(f"after row {found:,}: {error}") from None
    if not found:
        raise ArchiveError(f"expected rows in {name.member}, got none")


def by_day(found: Iterator[Rows], name: BulkName) -> Iterator[tuple[int, list[Rows]]]:
    """Open time of each day of the span → its rows, one day at a time; days without rows too."""
    day, held = name.from_ms, list[Rows]()
    for each in found:
        days = each.times_us // (DAY_MS * MS_US)
        begin = 0
        for end in [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]:
            of = int(days[begin]) * DAY_MS if end > begin else day
            while day < of:
                yield day, held
                day, held = day + DAY_MS, []
            held.append(each.part(begin, end))
            begin = end
    while day < name.to_ms:
        yield day, held
        day, held = day + DAY_MS, []


def table(held: list[Rows], kind: str) -> pa.Table:
    """Rows together, each column in one piece."""
    schema = pa.schema(list(COLUMNS[kind].items()))
    return pa.Table.from_batches([each.columns for each in held], schema).combine_chunks()


def times_us(held: list[Rows]) -> Ints:
    """The times of rows together."""
    return np.concatenate([np.zeros(0, np.int64), *(each.times_us for each in held)])


def array(of: Any, name: str) -> pa.Array:
    """A column of a table or batch, in one piece."""
    column = of.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) and column.num_chunks != 1 else _piece(column)


def ints(of: Any, name: str) -> Ints:
    """A column of integers."""
    found: Ints = array(of, name).to_numpy(zero_copy_only=False)
    return found


def _piece(column: Any) -> pa.Array:
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def _batches(member: Member, kind: str) -> Iterator[pa.RecordBatch]:
    first = member.first_line()
    is_header = first[:1].isalpha()
    columns = COLUMNS[kind]
    if is_header and first.count(b",") != len(columns) - 1:
        raise ArchiveError(f"expected {len(columns)} columns, got the header {first[:200].decode('ascii', 'replace')!r}")
    yield from csv.open_csv(
        member,
        csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(columns), skip_rows=int(is_header)),
        csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types=columns, null_values=[], true_values=["True", "true", "TRUE"], false_values=["False", "false", "FALSE"]
        ),
    )


class _Check:
    """Rows of one file, batch after batch. Raises ValueError."""

    def __init__(self, name: BulkName, allow_holes: bool) -> None:
        self._name = name
        self._allow_holes = allow_holes
        self._to_us = 0
        self._time_us = -1
        self._id = -1
        self._last_trade = -1

    def __call__(self, batch: pa.RecordBatch) -> Rows:
        """Those that count, with their times in µs."""
        times = self._times(ints(batch, "time"))
        self._time_us = int(times[-1]) if len(times) else self._time_us
        if self._name.kind == KLINES:
            return self._klines(Rows(times, batch))
        self._trades(batch)
        return Rows(times, batch)

    def _times(self, told: Ints) -> Ints:
        if len(told) and not self._to_us:
            self._to_us = 1 if told[0] >= _US_FROM else MS_US
        times = told * self._to_us
        outside = (told < 0) | (told // (MS_US // (self._to_us or 1)) < self._name.from_ms)
        outside |= told // (MS_US // (self._to_us or 1)) >= self._name.to_ms
        if outside.any():
            unit = "µs" if self._to_us == 1 else "ms"
            raise ValueError(f"expected times within {self._name.date}, got {told[outside][0]} {unit}")
        steps = np.diff(times, prepend=self._time_us)
        if self._name.kind == KLINES and (steps == 0).any():
            raise ValueError(f"the kline of {times[steps == 0][0] // MS_US} is there twice")
        if (steps < 0).any():
            raise ValueError(f"expected rows in order of time, got {told[steps < 0][0]} after a later one")
        return times

    def _klines(self, found: Rows) -> Rows:
        times, batch = found.times_us, found.columns
        length_us = self._name.length_ms * MS_US
        closes = ints(batch, "close_time") * self._to_us + (self._to_us - 1)  # 999 ms are 999,999 µs
        opens_right, closes_right = times % length_us == 0, closes == times + length_us - 1
        if not self._allow_holes:
            _expect(opens_right, f"open times that are whole {self._name.interval}", times)
            _expect(closes_right, "close times of an interval less the last fraction", times)
        right = opens_right & closes_right
        if not right.all():
            times, batch = times[right], batch.filter(pa.array(right))
        self._values(batch, times)
        return Rows(times, batch)

    @staticmethod
    def _values(batch: pa.RecordBatch, times: Ints) -> None:
        opened, high, low, close = (prices(array(batch, name)) for name in ("open", "high", "low", "close"))
        _expect((low <= np.minimum(opened, close)) & (high >= np.maximum(opened, close)), "opens and closes between low and high", times)
        (base, base_rest), (quote, quote_rest) = (amounts(array(batch, name)) for name in ("base_volume", "quote_volume"))
        for whole, rest, name in ((base, base_rest, "taker_base_volume"), (quote, quote_rest, "taker_quote_volume")):
            taker, taker_rest = amounts(array(batch, name))
            _expect((taker < whole) | ((taker == whole) & (taker_rest <= rest)), f"{name} not above the whole volume", times)
        trades = ints(batch, "trades")
        _expect(trades >= 0, "a number of trades", times)
        _expect((trades > 0) | ((base == 0) & (base_rest == 0)), "no volume where there are no trades", times)

    def _trades(self, batch: pa.RecordBatch) -> None:
        ids = ints(batch, "id")
        _expect(np.diff(ids, prepend=self._id) > 0, "ids that ascend, each once", ids)
        prices(array(batch, "price"))
        amounts(array(batch, "quantity"))
        if self._name.kind == AGG_TRADES:
            first, last = ints(batch, "first_trade_id"), ints(batch, "last_trade_id")
            before = np.concatenate([[self._last_trade], last[:-1]])
            _expect((first > before) & (first <= last), "first and last trade ids that ascend", ids)
            self._last_trade = int(last[-1]) if len(ids) else self._last_trade
        self._id = int(ids[-1]) if len(ids) else self._id


def _expect(holds: np.ndarray[Any, np.dtype[np.bool_]], what: str, places: Ints) -> None:
    if not holds.all():
        raise ValueError(f"expected {what}, got others, the first at {places[~holds][0]}")
