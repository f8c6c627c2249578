"""One process at a time. The kernel frees the lock when its holder ends, however it ends."""

import fcntl
import os
from pathlib import Path


class LockedError(Exception):
    """Another process has the lock."""

    def __init__(self, holder: str) -> None:
        """`holder` is its number, or `unknown`."""
        super().__init__(holder)
        self.holder = holder


class FileLock:
    """Held from its making until `release`."""

    def __init__(self, file: Path) -> None:
        """Take it. Raises LockedError."""
        self._file = file.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise LockedError(holder) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next one in."""
        self._file.close()
