"""A bulk file from outside to inside: its checksum, the zip around it, the one CSV within. Nothing is trusted.

BTCUSDT-1s-2024-01-02.zip            sha256 ── equals ──┐
BTCUSDT-1s-2024-01-02.zip.CHECKSUM   a line of sha256sum ┘
  └─ BTCUSDT-1s-2024-01-02.csv       the only member, no larger than its span can be, its CRC checked as it is read
"""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from klinestream.archive.bulk.names import KLINES, BulkName
from klinestream.market.errors import ArchiveError
from klinestream.market.intervals import DAY_MS

_CHECKSUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)\s*", re.ASCII)
_CHECKSUM_BYTES_MOST = 4096
_KLINE_BYTES_MOST = 512  # twelve numbers
_TRADE_BYTES_A_DAY_MOST = 8 << 30  # the busiest symbol's busiest day has about a fifth of it
_HEADER_BYTES_MOST = 512
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def sha256_of(path: Path, *, checksum: bool) -> str:
    """The file's digest; with `checksum` it has to be what the file beside it says. Raises ArchiveError."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum and found != _told(path):
            raise ArchiveError("its sha256 is not the one in its CHECKSUM file: it is damaged; get both again")
    except OSError as error:
        raise ArchiveError(f"can't be read: {error}") from None
    return found


@contextmanager
def opened(path: Path, name: BulkName, progress: Callable[[float], None]) -> Iterator["Member"]:
    """The CSV in a bulk file, while the block lasts. Raises ArchiveError, also for what goes wrong in the block with the zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.infolist()
            if [each.filename for each in inside] != [name.member]:
                raise ArchiveError(f"expected {name.member} in it and nothing else, got {_listed([each.filename for each in inside])}")
            if inside[0].file_size > (most := _bytes_most(name)):
                raise ArchiveError(f"expected at most {most:,} bytes in it, got {inside[0].file_size:,}: that is no {name.kind} file")
            with archive.open(inside[0]) as member:
                yield Member(member, inside[0].file_size, progress)
    except _BROKEN as error:
        raise ArchiveError(f"the zip is damaged ({error}): get it again") from None
    except OSError as error:
        raise ArchiveError(f"can't be read: {error}") from None


class Member(BufferedIOBase):
    """Read once, from its start; tells how far it has been read, from 0 to 1."""

    def __init__(self, member: IO[bytes], size: int, progress: Callable[[float], None]) -> None:
        self._member = member
        self._size = max(size, 1)
        self._read = 0
        self._progress = progress
        self._begin = b""

    def first_line(self) -> bytes:
        """Without moving on; at most some hundred bytes."""
        self._begin = self._begin or self._member.read(_HEADER_BYTES_MOST)
        return self._begin.partition(b"\n")[0]

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; all that are left where no size is given."""
        found, self._begin = self._begin, b""
        if not found:
            found = self._member.read(-1 if size is None else size)
        self._read += len(found)
        self._progress(self._read / self._size)
        return found


def _told(path: Path) -> str:
    beside = path.with_name(f"{path.name}.CHECKSUM")
    if not beside.is_file():
        raise ArchiveError(f"expected {beside.name} beside it: get it, or say --without-checksum")
    with beside.open("rb") as file:
        text = file.read(_CHECKSUM_BYTES_MOST).decode("ascii", "replace")
    found = _CHECKSUM.fullmatch(text)
    if found is None or found[2] != path.name:
        raise ArchiveError(f"{beside.name}: expected a line of sha256sum for {path.name}, got {text[:80]!r}")
    return found[1]


def _bytes_most(name: BulkName) -> int:
    if name.kind == KLINES:
        return name.rows * _KLINE_BYTES_MOST + _HEADER_BYTES_MOST
    return (name.to_ms - name.from_ms) // DAY_MS * _TRADE_BYTES_A_DAY_MOST


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "nothing"
