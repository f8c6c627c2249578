"""Klines of the archive as columns: what Arrow holds as decimals the engine takes as int64, exact beyond 64 bits too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from klinestream.archive.columns import OFFSET, PUBLISHED, TIMESTAMP
from klinestream.market import decimals
from klinestream.market.batch import PROOFS, UNKNOWN_ID, Codes, KlineBatch, Names, binance_proofs, sound
from klinestream.market.codec import is_source
from klinestream.market.decimals import UNIT, Ints
from klinestream.market.events import BINANCE, Origin, Proof

NO_OFFSET = -1
"""The offset of an imported kline."""
SYMBOL, OPENED, CLOSED, TRADES, ORIGIN = "symbol", "open_time_ms", "close_time_ms", "trades", "origin"
PRICES = ("open", "high", "low", "close")
VOLUMES = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
IDS = ("first_trade_id", "last_trade_id_within", "last_trade_id")
SOURCE, PROOF = "source", "proof"

Bools = npt.NDArray[np.bool_]

_NONE = -1  # among codes
_ORIGINS = tuple(origin.value for origin in Origin)
_PROOFS = tuple(proof.value for proof in PROOFS)
# 2**64 in units and a remainder: what the upper half of a decimal counts.
_UPPER_WHOLE, _UPPER_REST = divmod(2**64, UNIT)
_WHOLE_MOST = 10**decimals.WHOLE_DIGITS
_UPPER_MOST = 10 ** (decimals.WHOLE_DIGITS + decimals.PLACES) // 2**64


@dataclass(frozen=True, slots=True)
class ArchivedKlines:
    """Klines as columns, of any number of symbols, each symbol's own rows in the order of the topic."""

    names: tuple[str, ...]
    codes: Ints  # of each row the place of its symbol in `names`
    open_times: Ints
    prices: Ints  # (4, rows): open, high, low, close, in 1e-8
    volumes: Ints  # (4, rows): whole units of base, quote, taker base, taker quote
    remainders: Ints  # (4, rows): their remainders, 1e-8
    trades: Ints
    ids: Ints  # (3, rows): first, last within, last so far; UNKNOWN_ID where unknown, or not asked for
    origins: Ints
    sources: Names  # binance where not asked for
    proofs: Codes  # places in PROOFS; that of none where not asked for
    published_ms: Ints  # an imported one's is its close time
    offsets: Ints  # NO_OFFSET of imported ones

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def batch(self) -> KlineBatch:
        """As the engine takes them."""
        symbols = tuple(map(self.names.__getitem__, self.codes.tolist()))
        columns = self.open_times, self.prices, self.volumes, self.remainders, self.trades, self.ids, self.origins
        return KlineBatch(symbols, *columns, self.sources, self.proofs)

    def take(self, rows: Ints | Bools) -> "ArchivedKlines":
        """Some of the rows."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        return ArchivedKlines(self.names, *(getattr(self, each.name)[..., rows] for each in fields(self) if each.name != "names"))

    def of(self, symbol: str) -> "ArchivedKlines":
        """The rows of one symbol."""
        code = self.names.index(symbol) if symbol in self.names else _NONE
        return self.take(self.codes == code)

    def renamed(self, places: Mapping[str, int], names: tuple[str, ...]) -> "ArchivedKlines":
        """The same rows, with the codes of other names, which hold all of these."""
        codes = np.array([places[name] for name in self.names], np.int64)[self.codes] if len(self.codes) else self.codes
        return ArchivedKlines(names, codes, *(getattr(self, each.name) for each in fields(ArchivedKlines)[2:]))


def joined(parts: Sequence[ArchivedKlines], names: tuple[str, ...] | None = None) -> ArchivedKlines:
    """Some klines, one after the other; `names` where they are to be in a certain order."""
    known = names if names is not None else tuple(sorted({name for part in parts for name in part.names}))
    places = {name: place for place, name in enumerate(known)}
    alike = [part.renamed(places, known) for part in parts] or [_none(known)]
    if len(alike) == 1:
        return alike[0]
    columns = [np.concatenate([getattr(part, each.name) for part in alike], axis=-1) for each in fields(ArchivedKlines)[1:]]
    return ArchivedKlines(known, *columns)


def _none(names: tuple[str, ...]) -> ArchivedKlines:
    one, four, three = np.zeros(0, np.int64), np.zeros((4, 0), np.int64), np.zeros((3, 0), np.int64)
    return ArchivedKlines(names, one, one, four, four, four, one, three, one, np.zeros(0, object), np.zeros(0, np.int8), one, one)


def counting(klines: ArchivedKlines, newest: Ints | None = None) -> Bools:
    """Which klines count, as the engine has it: each symbol's own that are newer than all before.

    `newest`: of each of `names` the open time of the newest kline before these, -1 for none; carried on in place.
    """
    held = np.full(len(klines.names), -1, np.int64) if newest is None else newest
    if not len(klines):
        return np.zeros(0, np.bool_)
    order = np.argsort(klines.codes, kind="stable")
    codes, times = klines.codes[order], klines.open_times[order]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    # Times of one symbol lie far below those of the next: one maximum that runs through all of them is each one's own.
    step = int(times.max()) + 2
    shifted = codes * step + times
    before = np.append(-1, np.maximum.accumulate(shifted)[:-1])
    before[starts] = codes[starts] * step - 1
    before = np.maximum(before, codes * step + np.minimum(held[codes], step - 2))
    newer = shifted > before
    last = np.append(starts[1:], len(codes)) - 1
    held[codes[last]] = np.maximum(held[codes[last]], np.maximum(before, shifted)[last] - codes[last] * step)
    found = np.empty(len(codes), np.bool_)
    found[order] = newer
    return found


def filled(feed: ArchivedKlines, imported: ArchivedKlines) -> ArchivedKlines:
    """Klines of the feed that count, and imported ones of seconds that the feed lacks: each symbol's own in order of time."""
    both = joined([feed, imported])
    both = both.take(np.lexsort((both.offsets == NO_OFFSET, both.open_times, both.codes)))
    return both.take(counting(both))


def coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Ints]:
    """A dictionary column without nulls as sorted names, all of them used, and codes."""
    if not len(column):
        return (), np.zeros(0, np.int64)
    whole = pa.concat_arrays(column.chunks)
    values, codes = whole.dictionary.to_pylist(), whole.indices.to_numpy().astype(np.int64)
    names = sorted({values[code] for code in np.unique(codes).tolist()})
    places = {name: place for place, name in enumerate(names)}
    return tuple(names), np.array([places.get(value, _NONE) for value in values], np.int64)[codes]


def converted(table: pa.Table, names: tuple[str, ...], codes: Ints, with_ids: bool) -> tuple[ArchivedKlines, Bools]:
    """Rows as columns, and which of them are klines as the jobs take them; `with_ids` those that only proofs need as well."""
    rows, narrow = len(table), np.ones(len(table), np.bool_)
    prices, units, rests = (np.empty((4, rows), np.int64) for _ in range(3))
    for place, name in enumerate(PRICES):
        pairs = _halves(table.column(name))
        prices[place] = pairs[:, 0]
        narrow &= (pairs[:, 1] == 0) & (prices[place] >= 0)
    for place, name in enumerate(VOLUMES):
        pairs = _halves(table.column(name))
        units[place], rests[place] = _split(pairs)
        narrow &= (pairs[:, 1] >= 0) & (pairs[:, 1] <= _UPPER_MOST) & (units[place] < _WHOLE_MOST)
    stamps = _ints(table.column(TIMESTAMP))
    ids, known = _ids(table) if with_ids else (np.full((3, len(table)), UNKNOWN_ID), np.True_)
    origins = _origins(table.column(ORIGIN))
    sources, proofs, told = _proved(table, ids[2], origins) if with_ids else _unproved(len(table))
    klines = ArchivedKlines(
        names,
        codes,
        _ints(table.column(OPENED)),
        prices,
        units,
        rests,
        _ints(table.column(TRADES)),
        ids,
        origins,
        sources,
        proofs,
        _ints(table.column(PUBLISHED), stamps),
        _ints(table.column(OFFSET)),
    )
    closes = _ints(table.column(CLOSED))
    return klines, sound(klines, closes) & (closes == stamps) & narrow & known & told & (klines.origins != _NONE)


def _proved(table: pa.Table, newest_ids: Ints, origins: Ints) -> tuple[Names, Codes, Bools]:
    """Sources, proofs, and which rows have both or neither: those of older klines, in whose files there may be no such columns."""
    by_rule = binance_proofs(newest_ids, np.maximum(origins, 0))
    if SOURCE not in table.column_names:
        return np.full(len(table), BINANCE, object), by_rule, np.ones(len(table), np.bool_)
    names, said = _dictionary(table.column(SOURCE)), _dictionary(table.column(PROOF))
    older = (names[1] == _NONE) & (said[1] == _NONE)
    known = np.array([*map(is_source, names[0]), False], np.bool_)[names[1]]
    sources = np.array([*names[0], BINANCE], object)[names[1]]
    codes = np.array([*(_PROOFS.index(name) if name in _PROOFS else _NONE for name in said[0]), _NONE], np.int8)[said[1]]
    return sources, np.where(older, by_rule, codes), older | (known & (codes != _NONE))


def _unproved(rows: int) -> tuple[Names, Codes, Bools]:
    return np.full(rows, BINANCE, object), np.full(rows, _PROOFS.index(Proof.NONE), np.int8), np.ones(rows, np.bool_)


def _dictionary(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """A column of texts as names and codes; null is -1."""
    whole = pa.concat_arrays([*column.chunks, pa.array([], column.type)])
    whole = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    return whole.dictionary.to_pylist(), whole.indices.fill_null(_NONE).to_numpy().astype(np.int64)


def _split(pairs: Ints) -> tuple[Ints, Ints]:
    """Decimals of 128 bits as whole units and remainders of 1e-8."""
    low, high = np.ascontiguousarray(pairs[:, 0]), pairs[:, 1]
    if not high.any() and not (low < 0).any():
        whole = low // UNIT
        return whole, low - whole * UNIT
    unsigned = low.view(np.uint64)
    whole_low = (unsigned // np.uint64(UNIT)).view(np.int64)
    rest = (unsigned % np.uint64(UNIT)).view(np.int64) + high * _UPPER_REST
    carried = rest // UNIT
    return high * _UPPER_WHOLE + whole_low + carried, rest - carried * UNIT


def _halves(column: pa.ChunkedArray) -> Ints:
    """The lower and the upper 64 bits of decimals, (rows, 2)."""
    parts = [
        np.frombuffer(chunk.buffers()[1], np.int64).reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in column.chunks
        if len(chunk)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros((0, 2), np.int64), *parts])


def _ints(column: pa.ChunkedArray, instead: Ints | None = None) -> Ints:
    """A column of integers; `instead` where there is null."""
    if column.null_count and instead is not None:
        there = column.is_valid().to_numpy()
        return np.where(there, column.fill_null(0).to_numpy(), instead)
    return np.asarray(column.to_numpy(), np.int64)


def _ids(table: pa.Table) -> tuple[Ints, Bools]:
    """Trade ids, and which rows have none that stands for something else."""
    columns = [table.column(name) for name in IDS]
    told = np.array([column.fill_null(0).to_numpy() for column in columns])
    there = np.array([column.is_valid().to_numpy() for column in columns])
    return np.where(there, told, UNKNOWN_ID), ((told > UNKNOWN_ID) | ~there).all(axis=0)


def _origins(column: pa.ChunkedArray) -> Ints:
    names, codes = coded(column)
    places = np.array([_ORIGINS.index(name) if name in _ORIGINS else _NONE for name in names], np.int64)
    return places[codes] if len(codes) else codes


def units(column: pa.ChunkedArray) -> Ints:
    """A column of prices as integers of 1e-8."""
    low: Ints = _halves(column)[:, 0]
    return low


def amounts(column: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """A column of volumes as whole units and remainders of 1e-8."""
    return _split(_halves(column))


def numbers(column: pa.ChunkedArray) -> Ints:
    """A column of integers without null."""
    return _ints(column)
