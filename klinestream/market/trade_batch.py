"""Many trades at once: lines of `crypto_trades` as columns, bad lines apart.

    lines ─► one JSON parse ─► columns ─► checks ─► TradeBatch
                  │ any fault                          ▲
                  └─► halves, again … ─► one line ─► strict decoder: a trade, or why not

The same way that klines go (`klinestream.market.batch`), and both ways judge alike, which a property test holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from klinestream.market import decimals
from klinestream.market.batch import BadLine
from klinestream.market.codec import AGGREGATED_MOST, TIME_MOST_MS, TRADE_ORIGINS, decode_trade, is_symbol
from klinestream.market.decimals import Ints
from klinestream.market.errors import RecordError
from klinestream.market.events import Proof, Trade, wire_fields

NO_AGGREGATE = -1
BUYER_TOOK, SELLER_TOOK, NOBODY_KNOWS = 0, 1, -1
"""Sides in a column: `m` false, true and null on the wire."""
PROOFS = tuple(Proof)
"""A proof's code in a column is its place here; the greater, the weaker."""

_PROOF_CODES: dict[str, int] = {proof.value: code for code, proof in enumerate(PROOFS)}
_ORIGIN_CODES: dict[str, int] = {origin.value: code for code, origin in enumerate(TRADE_ORIGINS)}
_SIDE_CODES = {False: BUYER_TOOK, True: SELLER_TOOK, None: NOBODY_KNOWS}
_SIDES = {code: side for side, code in _SIDE_CODES.items()}
_FIELDS = itemgetter(*wire_fields(Trade))
# Between two lines: neither a string, an object nor an array that one line opens can be closed by the next.
_SEPARATOR = b",\n0,\n"


@dataclass(frozen=True, slots=True)
class TradeBatch:
    """Columns of trades, in the order of their lines. Prices in 1e-8; quantities as whole units and 1e-8 remainders."""

    symbols: tuple[str, ...]
    sources: tuple[str, ...]
    conditions: tuple[tuple[str, ...] | None, ...] | None
    """None where no trade has any."""
    aggregates: Ints  # NO_AGGREGATE for a single trade
    ids: Ints  # (2, rows): first, last
    prices: Ints
    quantities: Ints  # (2, rows): whole units, remainders
    times: Ints
    sides: Ints
    origins: Ints
    proofs: Ints

    def __len__(self) -> int:
        return len(self.symbols)

    def trade(self, row: int) -> Trade:
        """One row as an event."""
        whole, rest = self.quantities[:, row].tolist()
        first, last = self.ids[:, row].tolist()
        aggregate = int(self.aggregates[row])
        return Trade(
            symbol=self.symbols[row],
            aggregate_id=None if aggregate == NO_AGGREGATE else aggregate,
            first_id=first,
            last_id=last,
            price=int(self.prices[row]),
            quantity=whole * decimals.UNIT + rest,
            time_ms=int(self.times[row]),
            buyer_is_maker=_SIDES[int(self.sides[row])],
            conditions=self.conditions[row] if self.conditions else None,
            origin=TRADE_ORIGINS[self.origins[row]],
            source=self.sources[row],
            proof=PROOFS[self.proofs[row]],
        )

    def take(self, rows: Ints) -> "TradeBatch":
        """Some of the rows."""
        places = rows.tolist()
        symbols, sources = (tuple(column[row] for row in places) for column in (self.symbols, self.sources))
        conditions = tuple(self.conditions[row] for row in places) if self.conditions else None
        return TradeBatch(symbols, sources, conditions, **{name: getattr(self, name)[..., rows] for name in _ARRAYS})


_ARRAYS = tuple(field.name for field in fields(TradeBatch))[3:]


def decode(lines: Sequence[bytes], timestamps: Sequence[int] | Ints | None = None) -> tuple[TradeBatch, Ints, list[BadLine]]:
    """Lines of `crypto_trades` as columns.

    `timestamps` are the records' own, in ms; a line whose `T` isn't its record's timestamp is bad. Returns the columns, the
    place in `lines` of each of their rows, and the bad lines.
    """
    batches: list[TradeBatch] = []
    places: list[Ints] = []
    bad: list[BadLine] = []
    stamps = None if timestamps is None else np.asarray(timestamps, np.int64)

    def take(start: int, stop: int) -> None:
        try:
            batch = _whole(lines[start:stop], None if stamps is None else stamps[start:stop])
        except (ValueError, TypeError, KeyError, OverflowError):
            if stop - start > 1:
                middle = (start + stop) // 2
                take(start, middle)
                take(middle, stop)
                return
            try:
                batch = from_trades([_one(lines[start], None if stamps is None else int(stamps[start]))])
            except RecordError as error:
                bad.append(BadLine(start, str(error)))
                return
        batches.append(batch)
        places.append(np.arange(start, stop))

    if lines:
        take(0, len(lines))
    return join(batches), np.concatenate([np.zeros(0, np.int64), *places]), bad


def from_trades(trades: Sequence[Trade]) -> TradeBatch:
    """Trades as columns."""

    def column(values: Sequence[int]) -> Ints:
        return np.array(values, np.int64)

    split = np.array([divmod(trade.quantity, decimals.UNIT) for trade in trades], np.int64).reshape(-1, 2)
    conditions = tuple(trade.conditions for trade in trades)
    return TradeBatch(
        symbols=tuple(trade.symbol for trade in trades),
        sources=tuple(trade.source for trade in trades),
        conditions=conditions if any(each is not None for each in conditions) else None,
        aggregates=column([NO_AGGREGATE if trade.aggregate_id is None else trade.aggregate_id for trade in trades]),
        ids=np.array([[trade.first_id, trade.last_id] for trade in trades], np.int64).reshape(-1, 2).T,
        prices=column([trade.price for trade in trades]),
        quantities=split.T,
        times=column([trade.time_ms for trade in trades]),
        sides=column([_SIDE_CODES[trade.buyer_is_maker] for trade in trades]),
        origins=column([_ORIGIN_CODES[trade.origin] for trade in trades]),
        proofs=column([_PROOF_CODES[trade.proof] for trade in trades]),
    )


def join(batches: Sequence[TradeBatch]) -> TradeBatch:
    """Batches one after the other, as one."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return from_trades([])
    conditions = None
    if any(batch.conditions for batch in batches):
        conditions = tuple(chain.from_iterable(batch.conditions or (None,) * len(batch) for batch in batches))
    symbols, sources = (tuple(chain.from_iterable(getattr(batch, name) for batch in batches)) for name in ("symbols", "sources"))
    arrays = {name: np.concatenate([getattr(batch, name) for batch in batches], axis=-1) for name in _ARRAYS}
    return TradeBatch(symbols, sources, conditions, **arrays)


def _whole(lines: Sequence[bytes], stamps: Ints | None) -> TradeBatch:
    """All lines at once. Raises ValueError, TypeError, KeyError or OverflowError if any of them is not as it should be."""
    parsed = orjson.loads(b"[" + _SEPARATOR.join(lines) + b"]")
    records = parsed[::2]
    if len(records) != len(lines) or len(parsed) != 2 * len(lines) - 1 or any(parsed[1::2]):
        raise ValueError("a line is not one record")
    symbols, aggregates, firsts, lasts, prices, quantities, times, makers, conditions, origins, sources, proofs = zip(
        *map(_FIELDS, records), strict=True
    )
    _require(set(map(type, symbols)) == {str} and all(map(is_symbol, set(symbols))))
    _require(set(map(type, sources)) == {str} and all(set(sources)))
    _require(set(map(type, makers)) <= {bool, type(None)})
    whole, rest = decimals.columns([*prices, *quantities], 2)
    ids = np.stack([_integers(firsts), _integers(lasts)])
    batch = TradeBatch(
        symbols,
        sources,
        _conditions(conditions),
        _integers([NO_AGGREGATE if each is None else each for each in aggregates]),
        ids,
        whole[0] * decimals.UNIT + rest[0],
        np.stack([whole[1], rest[1]]),
        _integers(times),
        np.array([_SIDE_CODES[maker] for maker in makers], np.int64),
        np.array([_ORIGIN_CODES[origin] for origin in origins], np.int64),
        np.array([_PROOF_CODES[proof] for proof in proofs], np.int64),
    )
    _require(NO_AGGREGATE not in aggregates)
    _require(np.all(whole[0] < decimals.PRICE_MOST // decimals.UNIT))
    _require(_sound(batch) and (stamps is None or np.array_equal(batch.times, stamps)))
    return batch


def _sound(batch: TradeBatch) -> bool:
    """The same checks as `codec.trade_from`, on all rows at once."""
    first, last = batch.ids
    ids = (first >= 0) & (last >= first) & (last - first < AGGREGATED_MOST) & (batch.aggregates >= NO_AGGREGATE)
    ids &= (batch.aggregates != NO_AGGREGATE) | (last == first)
    return bool(np.all(ids & (batch.prices > 0) & (batch.times >= 0) & (batch.times < TIME_MOST_MS)))


def _conditions(column: Sequence[Any]) -> tuple[tuple[str, ...] | None, ...] | None:
    if all(each is None for each in column):
        return None
    _require(all(each is None or (type(each) is list and all(type(code) is str for code in each)) for each in column))
    return tuple(None if each is None else tuple(each) for each in column)


def _one(line: bytes, stamp: int | None) -> Trade:
    trade = decode_trade(line)
    if stamp is not None and trade.time_ms != stamp:
        raise RecordError("T: not the record's timestamp")
    return trade


def _require(holds: Any) -> None:
    if not holds:
        raise ValueError("a line is not as it should be")


def _integers(column: Sequence[Any]) -> Ints:
    # The types first: numpy would take 1.5 and True for integers.
    _require(set(map(type, column)) == {int})
    return np.array(column, np.int64)
