"""One bulk file into the archive, whole or not at all.

zip ─► checked ─► rows, a day at a time ─► tables, aside ─► all rows seen, nothing missing? ─► tables in their places ─► told
                                               └────────── else: removed, refused with the reason
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from klinestream.archive.bulk.names import BulkName
from klinestream.archive.bulk.rows import rows
from klinestream.archive.bulk.source import opened, sha256_of
from klinestream.archive.bulk.store import Source, Store, Told
from klinestream.archive.bulk.taking import seconds_place, taking_of
from klinestream.market.errors import ArchiveError, RecordError
from klinestream.market.intervals import DAY_MS

_MISMATCHES_TOLD_MOST = 20


@dataclass(frozen=True, slots=True)
class Terms:
    """What is let pass."""

    checksum: bool = True
    """Each file needs its CHECKSUM file."""
    allow_holes: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of a bulk file that was taken in, now or before."""

    told: Told
    passed_over: bool
    mismatches: list[str] = field(default_factory=list)
    """The first of them."""


def import_file(store: Store, path: Path, terms: Terms, now_ms: int, progress: Callable[[float], None] = lambda _: None) -> Outcome:
    """Take in a bulk file, unless it was before. Raises ArchiveError, and then nothing of it is there."""
    name = BulkName.of(path.name)
    sha256 = sha256_of(path, checksum=terms.checksum)
    told = store.told(name, sha256)
    if told is not None and not (told.unknown and store.exists(seconds_place(name.symbol, name.from_ms - DAY_MS))):
        return Outcome(told, passed_over=True)
    if name.to_ms > now_ms:
        raise ArchiveError(f"expected a day or a month that is over, got {name.date}")
    taking = taking_of(store, name, Source(path.name, sha256))
    try:
        with opened(path, name, progress) as member:
            taking.take(rows(member, name, allow_holes=terms.allow_holes))
        taking.check(allow_holes=terms.allow_holes)
    except BaseException as error:
        store.drop_aside(taking.aside)
        if isinstance(error, RecordError):
            raise ArchiveError(str(error)) from None
        raise
    store.settle(taking.aside)
    told = taking.told()
    store.tell(name, told)
    return Outcome(told, passed_over=False, mismatches=taking.mismatches[:_MISMATCHES_TOLD_MOST])
