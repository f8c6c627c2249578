"""Bulk files for tests: of the seeded market, and made by hand."""

import functools
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

from klinestream.archive.bulk.importing import Outcome, Terms, import_file
from klinestream.archive.bulk.store import Store
from klinestream.market.intervals import DAY_MS, HOUR_MS
from klinestream.standin.bulk import Wanted, make, write
from klinestream.standin.seeded.market import SeededMarket

SYMBOL = "JUPUSDT"  # one of the quiet ones
LAST_OF_MS, FIRST_OF_US = date(2024, 12, 31), date(2025, 1, 1)
DAY = "2024-05-06"
DAY_START_MS = int(datetime(2024, 5, 6, tzinfo=UTC).timestamp()) * 1000


@functools.cache
def market() -> SeededMarket:
    return SeededMarket(7, 60)


def of_market(folder: Path, kind: str, interval: str = "", first: date = LAST_OF_MS, last: date = FIRST_OF_US) -> list[Path]:
    """A quiet symbol's files of some days."""
    return list(make(market(), [SYMBOL], Wanted(kind, interval, first, last), folder))


def hours(first_ms: int = DAY_START_MS, count: int = 24, unit: int = 1) -> list[str]:
    """Rows of 1h klines, each one unit dearer than the one before."""
    closes = (HOUR_MS * unit) - 1
    return [
        f"{opened * unit},{n}.10000000,{n}.30000000,{n}.00000000,{n}.20000000,5.00000000,{opened * unit + closes},6.50000000,3,"
        "2.00000000,2.60000000,0"
        for n, opened in enumerate(range(first_ms, first_ms + count * HOUR_MS, HOUR_MS), 1)
    ]


def trades(times_ms: Iterable[int], first_id: int = 100) -> list[str]:
    """Rows of trades at these times of the day."""
    return [f"{first_id + n},2.00000000,1.50000000,3.00000000,{DAY_START_MS + ms},False,True" for n, ms in enumerate(times_ms)]


def made(folder: Path, stem: str, rows: Iterable[str]) -> Path:
    return write(folder, stem, iter(rows))


def store() -> Store:
    """In memory, and empty."""
    return Store(f"memory://{uuid4()}")


def taken(into: Store, *paths: Path, checksum: bool = True, allow_holes: bool = False) -> list[Outcome]:
    """What became of files, one after the other. Raises ArchiveError."""
    return [import_file(into, path, Terms(checksum, allow_holes), time.time_ns() // 1_000_000) for path in paths]


def contents(of: Store) -> dict[str, bytes]:
    """All that there is, byte for byte."""
    found = {str(path)[len(of.files.root) + 1 :]: of.files.system.cat_file(path) for path in of.files.system.find(of.files.root)}
    return {place: content for place, content in found.items() if not place.endswith("_lock")}


def days(first: date, last: date) -> Iterator[int]:
    """Their beginnings, in ms."""
    start = int(datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()) * 1000
    yield from range(start, start + ((last - first).days + 1) * DAY_MS, DAY_MS)
