"""Many klines at once: lines of `crypto_kline_data` as columns, bad lines apart.

    lines ─► one JSON parse ─► columns ─► checks ─► KlineBatch
                  │ any fault                          ▲
                  └─► halves, again … ─► one line ─► strict decoder: a kline, or why not

A batch without faults, which is nearly every one, is parsed and checked as a whole; one bad line among a thousand costs
some ten parses more, and it alone goes through `codec.decode_kline`, which knows the reason. Both ways give the same
columns, which a property test holds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from klinestream.market import decimals
from klinestream.market.codec import TIME_MOST_MS, decode_kline, is_source, is_symbol, with_proof
from klinestream.market.decimals import Ints
from klinestream.market.errors import RecordError
from klinestream.market.events import BINANCE, KLINE_INTERVAL, SECOND_MS, Kline, Origin, Proof, binance_proof

UNKNOWN_ID = -2
"""An unknown trade id in a column; -1 is the exchange's own mark of a second without trades."""

_ORIGINS = tuple(Origin)
_ORIGIN_CODES: dict[str, int] = {origin.value: code for code, origin in enumerate(_ORIGINS)}
PROOFS = tuple(Proof)
_PROOF_CODES: dict[str, int] = {proof.value: code for code, proof in enumerate(PROOFS)}
# Of an older kline, by whether its newest trade id is known, and by its origin.
_BINANCE_PROOFS = np.array([[_PROOF_CODES[binance_proof(known, origin)] for origin in _ORIGINS] for known in (None, 0)], np.int8)
_PRICES_AND_VOLUMES = ("o", "h", "l", "c", "v", "q", "V", "Q")
_FIELDS = ("s", "i", "t", "T", *_PRICES_AND_VOLUMES, "n", "f", "L", "last_trade_id", "origin")
_FIELDS_TOLD = itemgetter(*_FIELDS, "source", "proof")
_FIELDS_USUAL = itemgetter(*_FIELDS)
# How nearly all lines end. Cut off and known, it costs a fourth of what parsing it would.
_USUAL = b',"source":"%b","proof":"%b"}' % (BINANCE.encode(), Proof.IDS.encode())
# Between two lines: neither a string, an object nor an array that one line opens can be closed by the next.
_SEPARATOR = b",\n0,\n"

Names = npt.NDArray[np.object_]
"""Texts of which most are the same one: a reference a row."""
Codes = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class KlineBatch:
    """Columns of klines, in the order of their lines. Prices in 1e-8; volumes as whole units and 1e-8 remainders."""

    symbols: tuple[str, ...]
    open_times: Ints
    prices: Ints  # (4, rows): open, high, low, close
    volumes: Ints  # (4, rows): whole units of base, quote, taker base, taker quote
    remainders: Ints  # (4, rows): their remainders, 1e-8
    trades: Ints
    ids: Ints  # (3, rows): first, last within, last so far; UNKNOWN_ID where unknown
    origins: Ints
    sources: Names
    proofs: Codes  # places in PROOFS

    def __len__(self) -> int:
        return len(self.symbols)

    def kline(self, row: int) -> Kline:
        """One row as an event."""
        volumes = [int(w) * decimals.UNIT + int(r) for w, r in zip(self.volumes[:, row], self.remainders[:, row], strict=True)]
        ids = [None if i == UNKNOWN_ID else int(i) for i in self.ids[:, row]]
        opened = int(self.open_times[row])
        values = (opened, opened + SECOND_MS - 1, *self.prices[:, row].tolist(), *volumes, int(self.trades[row]), *ids)
        names = (field.name for field in fields(Kline))
        told = _ORIGINS[self.origins[row]], self.sources[row], PROOFS[self.proofs[row]]
        return Kline(**dict(zip(names, (self.symbols[row], *values, *told), strict=True)))

    def take(self, rows: Ints) -> "KlineBatch":
        """Some of the rows."""
        arrays = {field.name: getattr(self, field.name)[..., rows] for field in fields(self) if field.name != "symbols"}
        return KlineBatch(symbols=tuple(self.symbols[row] for row in rows.tolist()), **arrays)

    def content(self) -> npt.NDArray[np.uint64]:
        """A digest of each row's market fields: two klines of a second differ if their digests do.

        Origin, trade ids, source and proof are left out. Mixed as in splitmix64 (Steele, Lea and Flood, 2014): two different klines
        share a digest by accident once in 2**64.
        """
        digest = np.zeros(len(self), np.uint64)
        for column in (*self.prices, *self.volumes, *self.remainders, self.trades):
            digest = (digest ^ column.view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            digest = (digest ^ (digest >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            digest = (digest ^ (digest >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            digest ^= digest >> np.uint64(31)
        return digest


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no kline: its place in the batch, and why."""

    row: int
    reason: str


def decode(lines: Sequence[bytes], timestamps: Sequence[int] | Ints | None = None) -> tuple[KlineBatch, Ints, list[BadLine]]:
    """Lines of `crypto_kline_data` as columns.

    `timestamps` are the records' own, in ms; a line whose close time isn't its record's timestamp is bad. Returns the
    columns, the place in `lines` of each of their rows, and the bad lines.
    """
    batches: list[KlineBatch] = []
    places: list[Ints] = []
    bad: list[BadLine] = []
    stamps = None if timestamps is None else np.asarray(timestamps, np.int64)

    def take(start: int, stop: int) -> None:
        try:
            batch = _whole(lines[start:stop], None if stamps is None else stamps[start:stop])
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            if stop - start > 1:
                middle = (start + stop) // 2
                take(start, middle)
                take(middle, stop)
                return
            try:
                batch = from_klines([_one(lines[start], None if stamps is None else int(stamps[start]))])
            except RecordError as error:
                bad.append(BadLine(start, str(error)))
                return
        batches.append(batch)
        places.append(np.arange(start, stop))

    if lines:
        take(0, len(lines))
    return join(batches), np.concatenate([np.zeros(0, np.int64), *places]), bad


def from_klines(klines: Sequence[Kline]) -> KlineBatch:
    """Klines as columns."""

    def column(*names: str) -> Ints:
        return np.array([[getattr(kline, name) for kline in klines] for name in names], np.int64).reshape(len(names), -1)

    columns = ("base_volume", "quote_volume", "taker_base_volume", "taker_quote_volume")
    volumes = [[getattr(k, name) for k in klines] for name in columns]
    split = np.array([[divmod(v, decimals.UNIT) for v in column] for column in volumes], np.int64).reshape(4, -1, 2)
    ids = [[getattr(k, name) for k in klines] for name in ("first_trade_id", "last_trade_id_within", "last_trade_id")]
    return KlineBatch(
        symbols=tuple(kline.symbol for kline in klines),
        open_times=column("open_time_ms")[0],
        prices=column("open", "high", "low", "close"),
        volumes=split[:, :, 0],
        remainders=split[:, :, 1],
        trades=column("trades")[0],
        ids=np.array([[UNKNOWN_ID if i is None else i for i in row] for row in ids], np.int64).reshape(3, -1),
        origins=np.array([_ORIGIN_CODES[kline.origin] for kline in klines], np.int64),
        sources=names_of([kline.source for kline in klines]),
        proofs=np.array([_PROOF_CODES[kline.proof] for kline in klines], np.int8),
    )


def names_of(told: Sequence[str]) -> Names:
    """Texts as a column; equal ones are one object."""
    one: dict[str, str] = {}
    found = np.empty(len(told), object)
    found[:] = [one.setdefault(name, name) for name in told]
    return found


def binance_proofs(newest_ids: Ints, origins: Ints) -> Codes:
    """Of each kline what proves it, where it doesn't say so itself; of those without an origin nothing does."""
    found: Codes = _BINANCE_PROOFS[(newest_ids != UNKNOWN_ID).astype(np.int8), origins]
    return found


def join(batches: Sequence[KlineBatch]) -> KlineBatch:
    """Batches one after the other, as one."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return from_klines([])
    arrays = {
        field.name: np.concatenate([getattr(batch, field.name) for batch in batches], axis=-1)
        for field in fields(KlineBatch)
        if field.name != "symbols"
    }
    return KlineBatch(symbols=tuple(chain.from_iterable(batch.symbols for batch in batches)), **arrays)


def _whole(lines: Sequence[bytes], stamps: Ints | None) -> KlineBatch:
    """All lines at once. Raises ValueError, TypeError, KeyError or OverflowError if any of them is not as it should be."""
    rows, sources, proofs = _rows(lines)
    symbols, intervals, opens, closes, *texts_and_rest = zip(*rows, strict=True)
    texts, (trades, *ids, origins) = texts_and_rest[:8], texts_and_rest[8:]
    _require(set(map(type, symbols)) == {str} and all(map(is_symbol, set(symbols))))
    _require(set(intervals) == {KLINE_INTERVAL})
    open_times, close_times, counts = _integers(opens), _integers(closes), _integers(trades)
    whole, remainders = decimals.columns(list(chain.from_iterable(texts)), 8)
    prices = whole[:4] * decimals.UNIT + remainders[:4]
    known_ids = np.array([_integers([UNKNOWN_ID if i is None else i for i in column]) for column in ids])
    _require(not any(-2 in column for column in ids))
    batch = KlineBatch(
        symbols,
        open_times,
        prices,
        whole[4:],
        remainders[4:],
        counts,
        known_ids,
        np.array([_ORIGIN_CODES[origin] for origin in origins], np.int64),
        sources,
        proofs,
    )
    _check(batch, whole[:4], close_times, stamps)
    return batch


def _rows(lines: Sequence[bytes]) -> tuple[Iterable[tuple[Any, ...]], Names, Codes]:
    """The fields of each line up to its origin, its source and its proof. Raises as `_whole` does."""
    cut = [line.removesuffix(_USUAL) for line in lines]
    if sum(map(len, lines)) - sum(map(len, cut)) == len(lines) * len(_USUAL):
        # What is cut ends an object that the rest, closed, is as well; whatever it said of these two before, this is the last word.
        usual = map(_FIELDS_USUAL, _records(cut, b"}"))
        return usual, np.full(len(lines), BINANCE, object), np.full(len(lines), _PROOF_CODES[Proof.IDS], np.int8)
    records = _records(lines)
    try:
        told = list(map(_FIELDS_TOLD, records))
    except KeyError:  # older ones, most likely
        told = list(map(_FIELDS_TOLD, map(with_proof, records)))
    _require(all(map(is_source, {row[-2] for row in told})))
    proofs = np.array([_PROOF_CODES[row[-1]] for row in told], np.int8)
    return [row[:-2] for row in told], names_of([row[-2] for row in told]), proofs


def _records(lines: Sequence[bytes], end: bytes = b"") -> list[Any]:
    """What each line holds, with `end` after it. Raises ValueError."""
    parsed = orjson.loads(b"[" + (end + _SEPARATOR).join(lines) + end + b"]")
    if len(parsed) != 2 * len(lines) - 1 or any(parsed[1::2]):
        raise ValueError("a line is not one record")
    found: list[Any] = parsed[::2]
    return found


def _check(batch: KlineBatch, whole_prices: Ints, close_times: Ints, stamps: Ints | None) -> None:
    """The same checks as `codec.checked`, on all rows at once."""
    _require(np.all(whole_prices < decimals.PRICE_MOST // decimals.UNIT))
    _require(sound(batch, close_times).all())
    _require(stamps is None or np.array_equal(close_times, stamps))


class KlineColumns(Protocol):
    """Klines of whatever symbols, as columns like those of a `KlineBatch`."""

    @property
    def open_times(self) -> Ints: ...  # noqa: D102  # as there
    @property
    def prices(self) -> Ints: ...  # noqa: D102
    @property
    def trades(self) -> Ints: ...  # noqa: D102
    @property
    def ids(self) -> Ints: ...  # noqa: D102


def sound(klines: KlineColumns, close_times: Ints) -> npt.NDArray[np.bool_]:
    """Of each row whether its fields agree with each other, as `codec.checked` has it of one kline."""
    opened, high, low, closed = klines.prices
    prices = (low > 0) & (low <= opened) & (low <= closed) & (high >= opened) & (high >= closed)
    times = (klines.open_times % SECOND_MS == 0) & (klines.open_times >= 0) & (close_times < TIME_MOST_MS)
    counts = (klines.trades >= 0) & (klines.ids >= UNKNOWN_ID).all(axis=0)
    found: npt.NDArray[np.bool_] = prices & times & counts & (close_times == klines.open_times + SECOND_MS - 1)
    return found


def _one(line: bytes, stamp: int | None) -> Kline:
    kline = decode_kline(line)
    if stamp is not None and kline.close_time_ms != stamp:
        raise RecordError("T: not the record's timestamp")
    return kline


def _require(holds: Any) -> None:
    if not holds:
        raise ValueError("a line is not as it should be")


def _integers(column: Sequence[Any]) -> Ints:
    # The types first: numpy would take 1.5 and True for integers.
    _require(set(map(type, column)) == {int})
    return np.array(column, np.int64)
