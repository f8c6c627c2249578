"""What becomes of a table where the archive has one already: of the same rows, or of the same seconds made otherwise.

there      │ a b c d │         │ a b c d │         klines  │ a b c d │
imported     │ b c d e │         │ b X d e │       trades  │ a b X d │
then       │ a b c d e │       refused: X          klines stay; X is told of
"""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from klinestream.archive.bulk.amounts import amounts
from klinestream.archive.bulk.names import KLINES, TRADES
from klinestream.archive.bulk.rows import array, ints
from klinestream.archive.bulk.store import FOLDER, Kept
from klinestream.archive.bulk.tables import common_rows, first_difference
from klinestream.market.decimals import Ints
from klinestream.market.errors import ArchiveError
from klinestream.market.events import SECOND_MS, Kline, wire_fields
from klinestream.market.reconcile import MARKET_FIELDS

_COMPARED = {wire: wire_fields(Kline)[wire].name for wire in MARKET_FIELDS}
_ROUNDED = frozenset({"q", "Q"})


def joined(place: str, there: Kept | None, new: Kept, key: str) -> Kept:
    """The rows of both, in order of their key. Raises ArchiveError where rows of one key differ, naming the first difference."""
    if there is None:
        return new
    mine, others = common_rows(ints(there.table, key), ints(new.table, key))
    show = show_time if key == "open_time_ms" else str
    difference = first_difference(there.table.take(mine), new.table.take(others), key, show)
    if difference is not None:
        came = ", ".join(source.file for source in there.about.sources)
        raise ArchiveError(f"tells other than {came}, from which {FOLDER}/{place} came: {difference}")
    about = there.about.and_of(new.about)
    lacking = np.ones(len(new.table), np.bool_)
    lacking[others] = False
    if not lacking.any():
        return Kept(there.table, about)
    table = pa.concat_tables([there.table, new.table.filter(pa.array(lacking))])
    return Kept(table.sort_by(key).combine_chunks(), about)


def best_seconds(place: str, there: Kept | None, new: Kept) -> tuple[Kept, list[str]]:
    """The 1 s klines that the archive is to have, and where klines and trades contradict each other.

    The exchange's own klines stay, or take the place of those made from trades. Raises ArchiveError, as `joined` does.
    """
    if there is None or there.about.made_from == new.about.made_from:
        return joined(place, there, new, "open_time_ms"), []
    klines, made = (there, new) if there.about.made_from == KLINES else (new, there)
    return klines, contradictions(klines.table, made.table)


def contradictions(klines: pa.Table, made: pa.Table) -> list[str]:
    """Fields of the exchange's klines that those made from its trades tell otherwise; q and Q may be off by 1e-8 a trade."""
    mine, others = common_rows(ints(klines, "open_time_ms"), ints(made, "open_time_ms"))
    klines, made = klines.take(mine), made.take(others)
    slack = ints(made, "trades")
    found = []
    for wire, name in _COMPARED.items():
        ours, theirs = array(klines, name), array(made, name)
        for row in np.flatnonzero(_differ(ours, theirs, slack if wire in _ROUNDED else np.zeros_like(slack))).tolist():
            when = ints(klines, "open_time_ms")[row]
            found.append((when, f"{show_time(when)}: {wire} is {ours[row]} in klines, {theirs[row]} from {TRADES}"))
    return [text for _, text in sorted(found, key=lambda each: each[0])]


def show_time(time_ms: int) -> str:
    """A second, for a person to read.

    >>> show_time(1_704_067_200_000)
    '2024-01-01 00:00:00'
    """
    return datetime.fromtimestamp(int(time_ms) // SECOND_MS, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _differ(ours: pa.Array, theirs: pa.Array, slack: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if pa.types.is_integer(ours.type):
        return np.asarray(ours.to_numpy() != theirs.to_numpy())
    (whole, rest), (other_whole, other_rest) = amounts(ours), amounts(theirs)
    apart = whole - other_whole
    near = np.clip(apart, -1000, 1000) * 10**8 + (rest - other_rest)  # further apart than a thousand units no slack reaches
    return np.asarray(np.abs(near) > slack)
