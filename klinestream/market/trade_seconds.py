"""Klines of one second from columns of trades: what `klinestream.market.reconcile` makes trade by trade, millions at once.

    trades   │·· ·│    │·  ····│       │   ids continue from one to the next: nothing is missing between them
    seconds  │ k  │ q  │   k   │ q     │   k from its trades, q quiet: the close is carried on, and the newest id

A price times a quantity has sixteen places, and up to 50 digits. It is taken apart in digits of base 1e8, so that sums of
any number of trades are exact; they are cut off after the eighth place once, at the end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import UNIT, Ints
from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS

Amounts = Ints
"""Whole units, and remainders of 1e-8: two rows."""

NO_ID = -1
_LIMBS = 5
_TOP_END = 100  # of the highest limb: 10^18 whole units fit an int64
_TRADES_AT_ONCE = 1 << 20  # their products take some 300 bytes each


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """Trades, or aggregated ones, of one symbol in order of time and id."""

    times_ms: Ints
    first_ids: Ints
    last_ids: Ints
    """For a trade the same as its first."""
    prices: Ints
    quantities: Amounts
    buyer_is_maker: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.times_ms)

    def part(self, begin: int, end: int) -> "TradeColumns":
        """Some of them."""
        columns = (self.times_ms, self.first_ids, self.last_ids, self.prices, self.quantities)
        times, first, last, prices, quantities = (column[..., begin:end] for column in columns)
        return TradeColumns(times, first, last, prices, quantities, self.buyer_is_maker[begin:end])


@dataclass(frozen=True, slots=True)
class SecondColumns:
    """Klines of one symbol, a second each, as in `klinestream.market.events.Kline`."""

    open_times: Ints
    opens: Ints
    highs: Ints
    lows: Ints
    closes: Ints
    base: Amounts
    quote: Amounts
    taker_base: Amounts
    taker_quote: Amounts
    trades: Ints
    first_ids: Ints
    last_ids_within: Ints
    last_ids: Ints
    """The newest up to the second's end."""

    def __len__(self) -> int:
        return len(self.open_times)

    def of(self, rows: Ints | npt.NDArray[np.bool_]) -> "SecondColumns":
        """Some of them."""
        return SecondColumns(*(getattr(self, field.name)[..., rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Before:
    """What was known of a symbol when a span began: the close, and the id of the newest trade."""

    close: int
    last_id: int


def traded_seconds(trades: TradeColumns) -> SecondColumns:
    """The seconds that have trades. Raises RecordError where a sum is beyond all reason."""
    parts = [_seconds(part) for part in _parts(trades)] or [_nothing()]
    return SecondColumns(*(np.concatenate([getattr(part, field.name) for part in parts], axis=-1) for field in fields(SecondColumns)))


def filled(traded: SecondColumns, from_ms: int, to_ms: int, before: Before | None) -> SecondColumns:
    """Every second of a span from those of it that have trades; the quiet ones carry on what was before.

    Without `before` it begins with the first second that has trades.
    """
    if before is None:
        from_ms = int(traded.open_times[0]) if len(traded) else to_ms
    open_times = np.arange(from_ms, to_ms, SECOND_MS, dtype=np.int64)
    newest = np.searchsorted(traded.open_times, open_times, "right") - 1  # the row whose close is carried, -1 for `before`
    there = np.isin(open_times, traded.open_times)

    def carried(column: Ints, first: int = 0) -> Ints:
        found: Ints = np.append(column, first)[newest]  # -1 takes the last
        return found

    def within(column: Ints, quiet: int = 0) -> Ints:
        return np.where(there, np.append(column, quiet)[newest], quiet)

    def amounts(column: Amounts) -> Amounts:
        return np.stack([within(column[0]), within(column[1])])

    closes = carried(traded.closes, before.close if before else 0)
    columns = [
        open_times,
        *(np.where(there, carried(column), closes) for column in (traded.opens, traded.highs, traded.lows)),
        closes,
        *(amounts(column) for column in (traded.base, traded.quote, traded.taker_base, traded.taker_quote)),
        within(traded.trades),
        within(traded.first_ids, NO_ID),
        within(traded.last_ids_within, NO_ID),
        carried(traded.last_ids, before.last_id if before else NO_ID),
    ]
    return SecondColumns(*columns)


def _seconds(trades: TradeColumns) -> SecondColumns:
    open_times = trades.times_ms - trades.times_ms % SECOND_MS
    starts = np.flatnonzero(np.concatenate([[True], open_times[1:] != open_times[:-1]]))
    ends = np.append(starts[1:], len(trades)) - 1
    taken = ~trades.buyer_is_maker
    whole, rest = trades.quantities
    limbs = products(trades.prices, whole, rest)
    last_ids = trades.last_ids[ends]
    return SecondColumns(
        open_times[starts],
        trades.prices[starts],
        np.maximum.reduceat(trades.prices, starts),
        np.minimum.reduceat(trades.prices, starts),
        trades.prices[ends],
        _base(whole, rest, starts),
        _quote(limbs, starts),
        _base(whole * taken, rest * taken, starts),
        _quote([limb * taken for limb in limbs], starts),
        np.add.reduceat(trades.last_ids - trades.first_ids + 1, starts),
        trades.first_ids[starts],
        last_ids,
        last_ids,
    )


def _nothing() -> SecondColumns:
    none, amounts = np.zeros(0, np.int64), np.zeros((2, 0), np.int64)
    return SecondColumns(none, none, none, none, none, amounts, amounts, amounts, amounts, none, none, none, none)


def id_gaps(trades: TradeColumns, from_ms: int, last_id: int | None) -> list[tuple[int, int]]:
    """The spans of seconds that may lack trades, since ids between them are missing; `last_id` is the newest before `from_ms`."""
    gone = np.flatnonzero(trades.first_ids[1:] != trades.last_ids[:-1] + 1)
    open_times = trades.times_ms - trades.times_ms % SECOND_MS
    spans = zip(open_times[gone].tolist(), (open_times[gone + 1] + SECOND_MS).tolist(), strict=True)
    if last_id is not None and len(trades) and int(trades.first_ids[0]) != last_id + 1:
        return [(from_ms, int(open_times[0]) + SECOND_MS), *spans]
    return list(spans)


def _parts(trades: TradeColumns) -> Iterator[TradeColumns]:
    """Whole seconds, some trades at a time."""
    begin = 0
    while begin < len(trades):
        newest = min(begin + _TRADES_AT_ONCE, len(trades)) - 1
        next_second = trades.times_ms[newest] // SECOND_MS * SECOND_MS + SECOND_MS
        end = int(np.searchsorted(trades.times_ms, next_second))
        yield trades.part(begin, end)
        begin = end


def _base(whole: Ints, rest: Ints, starts: Ints) -> Amounts:
    carry, rest = np.divmod(np.add.reduceat(rest, starts), UNIT)
    return np.stack([np.add.reduceat(whole, starts) + carry, rest])


def products(prices: Ints, whole: Ints, rest: Ints) -> list[Ints]:
    """Each price times its quantity, in digits of base 1e8, the lowest first: of 1e-16."""
    high, p0 = np.divmod(prices, UNIT)
    p2, p1 = np.divmod(high, UNIT)
    q2, q1 = np.divmod(whole, UNIT)
    q0 = rest
    return carried_over([p0 * q0, p0 * q1 + p1 * q0, p0 * q2 + p1 * q1 + p2 * q0, p1 * q2 + p2 * q1, p2 * q2])


def _quote(limbs: list[Ints], starts: Ints) -> Amounts:
    _, rest, *high, top = carried_over([np.add.reduceat(limb, starts) for limb in limbs])
    if (top >= _TOP_END).any():
        raise RecordError("expected a second's quote volume below 10**18")
    return np.stack([high[0] + high[1] * UNIT + top * UNIT**2, rest])


def carried_over(limbs: list[Ints]) -> list[Ints]:
    """The same sum with each digit but the highest below 1e8; changes the list."""
    for place in range(_LIMBS - 1):
        carry, limbs[place] = np.divmod(limbs[place], UNIT)
        limbs[place + 1] = limbs[place + 1] + carry
    return limbs
