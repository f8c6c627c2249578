"""Results as columns, their digest, and how two sides of them compare: what was published, and what a replay gives.

    a record ─► identity: symbol, interval, time, since, revision ┐
                values: 64 bits each, null has its own            ┴─► mixed to 64 bits ─► summed: the digest of a symbol

A sum doesn't depend on order, nor on how records stand in files. A record that is there twice counts once; one identity with two
values is a fault. Where digests differ, the two sides are joined by identity, and every field that differs is found.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from klinestream.market.decimals import Ints

Bits = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

NULL = np.uint64(0x7FF8_6E75_6C6C_0000)
"""The bits of null: a nan that no computation gives."""
KEYS = ("symbol", "interval", "time", "since", "revision")
SYMBOL, INTERVAL, TIME, SINCE, REVISION = range(len(KEYS))


class Symbols(dict[str, int]):
    """Symbol → its number, and back."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__()
        self.names: list[str] = []

    def number(self, name: str) -> int:
        """A known one's, or the next one."""
        if name not in self:
            self[name] = len(self.names)
            self.names.append(name)
        return self[name]

    def numbers(self, names: Iterable[str]) -> Ints:
        """The numbers of many."""
        return np.array([self.number(name) for name in names], np.int64)

    def hashes(self) -> Bits:
        """A stable hash of each name."""
        found = [int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in self.names]
        return np.array(found, np.uint64)


@dataclass(frozen=True, slots=True)
class Results:
    """Records of one topic."""

    fields: tuple[str, ...]
    keys: Ints  # (5, records), in the order of KEYS
    values: Bits  # (fields, records)

    def __len__(self) -> int:
        return int(self.keys.shape[1])

    @classmethod
    def none(cls, fields: tuple[str, ...]) -> "Results":
        """No records."""
        return cls(fields, np.zeros((len(KEYS), 0), np.int64), np.zeros((len(fields), 0), np.uint64))

    @classmethod
    def joined(cls, parts: Sequence["Results"], fields: tuple[str, ...]) -> "Results":
        """Several as one."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.none(fields)
        return cls(fields, np.concatenate([part.keys for part in parts], axis=1), np.concatenate([part.values for part in parts], axis=1))

    def take(self, rows: Ints | Bools) -> "Results":
        """Some of the records."""
        return Results(self.fields, self.keys[:, rows], self.values[:, rows])

    def digests(self, symbols: Symbols) -> Bits:
        """Of each record.

        Mixed as in splitmix64 (Steele, Lea and Flood, 2014): two different records share a digest by accident once in 2**64.
        """
        digest = symbols.hashes()[self.keys[SYMBOL]] if len(self) else np.zeros(0, np.uint64)
        for column in (*self.keys[1:].view(np.uint64), *self.values):
            digest = (digest ^ column) + np.uint64(0x9E3779B97F4A7C15)
            digest = (digest ^ (digest >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            digest = (digest ^ (digest >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            digest ^= digest >> np.uint64(31)
        return digest


def floats(column: npt.NDArray[np.float64]) -> Bits:
    """The bits of floats; nan is null."""
    found = np.ascontiguousarray(column, np.float64)
    return np.where(np.isnan(found), NULL, found.view(np.uint64))


def whole(column: npt.NDArray[np.int64] | Bools) -> Bits:
    """The bits of integers and flags."""
    return np.ascontiguousarray(column, np.int64).view(np.uint64)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one record that isn't what a replay gives; `field` is empty where a whole record is missing."""

    topic: str
    symbol: str
    interval: str
    time_ms: int
    since_ms: int
    revision: int
    field: str
    published: str
    replayed: str


@dataclass(slots=True)
class Compared:
    """What came of it, for one topic. Records; `differences` are the first ones."""

    symbols: set[str] = field(default_factory=set)
    equal: int = 0
    different: int = 0
    repeats: int = 0
    uncompared: dict[str, int] = field(default_factory=dict)
    """Why → how many."""
    digests: dict[str, int] = field(default_factory=dict)
    """Symbol → digest of what was published and compared."""
    differences: list[Difference] = field(default_factory=list)

    def leave(self, why: str, count: int) -> None:
        """Say of some that they can't be compared."""
        if count:
            self.uncompared[why] = self.uncompared.get(why, 0) + count

    def add(self, other: "Compared") -> None:
        """Add what came of other symbols or records."""
        self.symbols |= other.symbols
        self.equal, self.different, self.repeats = self.equal + other.equal, self.different + other.different, self.repeats + other.repeats
        for why, count in other.uncompared.items():
            self.leave(why, count)
        for symbol, value in other.digests.items():
            self.digests[symbol] = (self.digests.get(symbol, 0) + value) % 2**64
        self.differences += other.differences[: max(0, SHOWN_MOST - len(self.differences))]


SHOWN_MOST = 20
"""Differences that are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """Records without repeats, in order of identity."""

    results: Results
    digests: Bits
    repeats: int
    conflicts: Ints
    """Rows whose identity has a further value."""


def distinct(results: Results, symbols: Symbols) -> Side:
    """Each identity once, with each of its values."""
    digests = results.digests(symbols)
    order = np.lexsort((digests, *results.keys[::-1]))
    ordered, digests = results.take(order), digests[order]
    same = np.append(False, (ordered.keys[:, 1:] == ordered.keys[:, :-1]).all(axis=0)) if len(ordered) else np.zeros(0, np.bool_)
    again = same & np.append(False, digests[1:] == digests[:-1]) if len(ordered) else same
    kept = ordered.take(~again)
    return Side(kept, digests[~again], int(np.count_nonzero(again)), np.flatnonzero(same[~again]))


def sums(results: Results, digests: Bits, symbols: Symbols) -> dict[str, int]:
    """Symbol → digest."""
    found = np.zeros(len(symbols.names), np.uint64)
    np.add.at(found, results.keys[SYMBOL], digests)
    return {symbols.names[number]: int(found[number]) for number in np.unique(results.keys[SYMBOL]).tolist()}


def compare(topic: str, published: Results, replayed: Results, symbols: Symbols, names: Sequence[str] = ("",)) -> Compared:
    """Two sides, record by record; `names`: those of the intervals."""
    mine, other = distinct(published, symbols), distinct(replayed, symbols)
    told = sums(mine.results, mine.digests, symbols)
    compared = Compared(set(told), repeats=mine.repeats, digests=told)
    if told == sums(other.results, other.digests, symbols) and not len(mine.conflicts):
        compared.equal = len(mine.results)
        return compared
    compared.symbols |= {symbols.names[number] for number in np.unique(other.results.keys[SYMBOL]).tolist()}
    _join(topic, (mine, other), compared, (symbols.names, names))
    return compared


def _join(topic: str, sides: tuple[Side, Side], compared: Compared, names: tuple[Sequence[str], Sequence[str]]) -> None:
    """Find what differs. Of one identity with two values both stand here, so that one of them is alone, or both differ."""
    mine, other = sides
    fields = mine.results.fields
    both = Results.joined([mine.results, other.results], fields)
    digests = np.concatenate([mine.digests, other.digests])
    is_other = np.arange(len(both)) >= len(mine.results)
    order = np.lexsort((is_other, *both.keys[::-1]))
    starts = np.flatnonzero(np.append(True, (np.diff(both.keys[:, order], axis=1) != 0).any(axis=0)))
    for rows in np.split(order, starts[1:]) if _differ(digests, order, starts, compared) else ():
        if len(rows) == 2 and is_other[rows[1]] and not is_other[rows[0]] and digests[rows[0]] == digests[rows[1]]:  # one of each
            continue
        compared.differences += _named(topic, both, [rows[~is_other[rows]], rows[is_other[rows]]], names)
        if len(compared.differences) >= SHOWN_MOST:
            del compared.differences[SHOWN_MOST:]
            return


def _differ(digests: Bits, order: Ints, starts: Ints, compared: Compared) -> bool:
    """Count identities; whether any is not alike."""
    lengths = np.diff(np.append(starts, len(order)))
    pairs = starts[lengths == 2]  # one of each side; two of one side have other digests
    compared.equal = int(np.count_nonzero(digests[order[pairs]] == digests[order[pairs + 1]]))
    compared.different = len(starts) - compared.equal
    return compared.different > 0


def _named(topic: str, both: Results, sides: Sequence[Ints], names: tuple[Sequence[str], Sequence[str]]) -> list[Difference]:
    mine, other = sides
    symbol, interval, time, since, revision = both.keys[:, (mine if len(mine) else other)[0]].tolist()
    identity = topic, names[0][symbol], names[1][interval], time, since, revision
    if not len(mine) or not len(other):
        return [Difference(*identity, "", "a record" if len(mine) else "nothing", "a record" if len(other) else "nothing")]
    found = []
    for place, name in enumerate(both.fields):
        values = [shown(name, int(both.values[place, row])) for row in mine]
        right = shown(name, int(both.values[place, other[0]]))
        if any(value != right for value in values):
            found.append(Difference(*identity, name, " and ".join(dict.fromkeys(values)), right))
    return found


def shown(name: str, bits: int) -> str:
    """A value for a person to read, to the last bit.

    >>> shown("rsi", int(floats(np.array([0.1]))[0])), shown("rsi", int(NULL)), shown("#points", 3)
    ('0.1', 'null', '3')
    """
    if bits == int(NULL):
        return "null"
    if name.startswith("#"):
        return str(int(np.uint64(bits).view(np.int64)))
    return repr(float(np.uint64(bits).view(np.float64)))


def expected(replayed: Results, published: Results, needed: Set[tuple[int, ...]] | None = None) -> Bools:
    """Which replayed records have to be there: of each run those from its first to its last one, and else one where there is none at all.

    A job that started without its state ends one run's records and begins another's. `needed`: symbol, interval and time of those that
    have to be there, where not all have.
    """
    runs: dict[tuple[int, ...], tuple[int, int]] = {}
    for symbol, interval, time, since, _ in published.keys.T.tolist():
        first, last = runs.get((symbol, interval, since), (time, time))
        runs[symbol, interval, since] = min(first, time), max(last, time)
    covered = {(symbol, interval, time) for symbol, interval, time, _, _ in published.keys.T.tolist()}
    found = np.zeros(len(replayed), np.bool_)
    for row, (symbol, interval, time, since, _) in enumerate(replayed.keys.T.tolist()):
        first, last = runs.get((symbol, interval, since), (1, 0))
        found[row] = first <= time <= last
        identity = symbol, interval, time
        if not found[row] and identity not in covered and (needed is None or identity in needed):
            found[row] = True
            covered.add(identity)
    return found
