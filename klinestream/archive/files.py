"""Where the archive's files are, and how they come to be there: written aside, then renamed.

    ROOT/crypto_kline_data/date=2026-11-22/kafka_partition=3/3-00000000000000000000-00000000000000021000.parquet
         topic             day of publishing                 partition, first offset, offset after the last

A name says what its file holds, so that a restart needs nothing but the names. `date` is the day, in UTC, on which the records were
published, and never goes back within a partition: so a file has one, and the offsets of a partition go on from file to file, and
from day to day.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from klinestream.market.errors import ArchiveError
from klinestream.runtime.lock import FileLock, LockedError

MANIFEST = "_manifest.json"
_ASIDE = ".aside"
_LOCK = "_lock"
_NAME = re.compile(
    r"(?P<topic>[\w.\-]+)/date=(?P<date>\d{4}-\d\d-\d\d)/kafka_partition=(?P<folder>\d+)/"
    r"(?P<partition>\d+)-(?P<first>\d{20})-(?P<end>\d{20})\.parquet"
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """What a file holds: the records of a partition from offset `first` to before `end`."""

    topic: str
    partition: int
    first: int
    end: int
    date: str

    @property
    def path(self) -> str:
        """Its place below the root."""
        folder = f"{self.topic}/date={self.date}/kafka_partition={self.partition}"
        return f"{folder}/{self.partition}-{self.first:020d}-{self.end:020d}.parquet"

    @classmethod
    def of(cls, path: str) -> "Span | None":
        """What a path below the root says; None if it isn't one of ours.

        >>> Span.of(Span("crypto_candles", 1, 5, 9, "2026-11-22").path)
        Span(topic='crypto_candles', partition=1, first=5, end=9, date='2026-11-22')
        """
        found = _NAME.fullmatch(path)
        if found is None or found["folder"] != found["partition"]:
            return None
        return cls(found["topic"], int(found["partition"]), int(found["first"]), int(found["end"]), found["date"])

    def covers(self, other: "Span") -> bool:
        """Whether all that the other holds is in this one too."""
        place = self.topic, self.partition
        return self != other and place == (other.topic, other.partition) and self.first <= other.first and other.end <= self.end


def current(spans: Iterable[Span]) -> list[Span]:
    """Those that count, in order of topic, partition and offset: one that another covers was compacted into it."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.topic, each.partition, each.first, -each.end)):
        if not found or not found[-1].covers(span):
            found.append(span)
    return found


def day_before(date: str, days: int) -> str:
    """The day so many days before.

    >>> day_before("2026-03-01", 2)
    '2026-02-27'
    """
    return (datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


def date_of(time_ms: int) -> str:
    """The day of a time, UTC.

    >>> date_of(1_790_000_000_000)
    '2026-09-21'
    """
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d")


class Lock(Protocol):
    """Kept until it is released."""

    def release(self) -> None:
        """Let the next one in."""


class _Unlocked:
    def release(self) -> None:
        """Nothing was kept."""


class Files:
    """The files below one address: a folder, or what fsspec knows by another (`s3://bucket/folder`, with its package installed)."""

    def __init__(self, url: str) -> None:
        """Raises ArchiveError where the address can't be used."""
        try:
            self.system, self.root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise ArchiveError(f"archive.url: expected a folder, or an address that fsspec knows, got {url!r} ({error})") from None
        self._is_local = isinstance(self.system, LocalFileSystem)

    def lock(self) -> "Lock":
        """Keep others from writing, where the files are on this machine; elsewhere only one may be started. Raises ArchiveError."""
        if not self._is_local:
            return _Unlocked()
        folder = Path(self.root)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return FileLock(folder / _LOCK)
        except LockedError as error:
            raise ArchiveError(
                f"another `klinestream archive` (process {error.holder}) writes to {folder}: end it, or let it go on"
            ) from None
        except OSError as error:
            raise ArchiveError(f"expected to write to {folder}: {error}; give room or permission, or set archive.url") from None

    def path(self, place: str) -> str:
        """The whole path of a place below the root."""
        return f"{self.root}/{place}"

    def spans(self, topic: str, date: str = "*") -> list[Span]:
        """What the files of a topic, or of one of its days, hold; superseded ones too."""
        found = self.system.glob(self.path(f"{topic}/date={date}/kafka_partition=*/*.parquet"))
        return sorted(span for path in found if (span := Span.of(str(path)[len(self.root) + 1 :])) is not None)

    def dates(self, topic: str) -> list[str]:
        """The days of a topic, in order."""
        folders = self.system.glob(self.path(f"{topic}/date=*"))
        return sorted(str(folder).rpartition("date=")[2] for folder in folders)

    def topics(self) -> list[str]:
        """All topics of which there are files."""
        return sorted({str(folder).split("/")[-2] for folder in self.system.glob(self.path("*/date=*"))})

    def put(self, place: str, content: bytes) -> None:
        """Write a file, whole or not at all, on disk when this returns. Raises ArchiveError."""
        self.put_aside(place, content)
        self.settle(place)

    def put_aside(self, place: str, content: bytes) -> None:
        """Write a file that isn't there before `settle`. Raises ArchiveError."""
        path = self.path(place)
        with _writing(path):
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._is_local:
                _put_aside_locally(Path(path + _ASIDE), content)
            else:
                self.system.pipe_file(path + _ASIDE, content)

    def settle(self, place: str) -> None:
        """Let a file that was written aside take its place. Raises ArchiveError."""
        path = self.path(place)
        with _writing(path):
            if self._is_local:
                _settle_locally(Path(path + _ASIDE), Path(path))
            else:
                self.system.mv(path + _ASIDE, path)

    def drop_aside(self, place: str) -> None:
        """Remove a file that was written aside, if it is there."""
        if self.system.exists(aside := self.path(place) + _ASIDE):
            self.system.rm_file(aside)

    def sweep_aside(self) -> None:
        """Remove what was written aside anywhere and never settled."""
        for path in self.system.find(self.root):
            if str(path).endswith(_ASIDE):
                self.system.rm_file(path)

    def open(self, place: str) -> Any:
        """A file to read from."""
        return self.system.open(self.path(place), "rb")

    def read(self, place: str) -> bytes | None:
        """All of a small file; None if there is none."""
        try:
            found: bytes = self.system.cat_file(self.path(place))
        except FileNotFoundError:
            return None
        return found

    def size(self, place: str) -> int:
        """Bytes of a file."""
        return int(self.system.size(self.path(place)))

    def remove(self, span: Span) -> None:
        """Remove a file that another one covers."""
        self.system.rm_file(self.path(span.path))

    def remove_day(self, topic: str, date: str) -> None:
        """Remove all that there is of a day."""
        self.system.rm(self.path(f"{topic}/date={date}"), recursive=True)

    def sweep(self, days: int | None = None) -> Iterator[str]:
        """Remove what a killed archive left half done: files aside, and files that were compacted into others. Yields their places.

        With `days` only in the newest days of each topic: a year of files takes a while to list.
        """
        for topic in self.topics():
            dates = self.dates(topic)
            for date in dates if days is None else dates[-days:]:
                folder = f"{topic}/date={date}"
                for aside in (*self.system.glob(self.path(f"{folder}/*/*{_ASIDE}")), *self.system.glob(self.path(f"{folder}/*{_ASIDE}"))):
                    self.system.rm_file(aside)
                    yield str(aside)[len(self.root) + 1 :]
                spans = self.spans(topic, date)
                for span in set(spans) - set(current(spans)):
                    self.remove(span)
                    yield span.path


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{path} can't be written ({error}): check that there is room, and that the folder may be written to") from None


def _put_aside_locally(aside: Path, content: bytes) -> None:
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _settle_locally(aside: Path, path: Path) -> None:
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename too is on disk now
    finally:
        os.close(folder)
