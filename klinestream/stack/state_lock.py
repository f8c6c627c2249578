"""One stack at a time over one state folder. The kernel frees the lock when its holder ends, however it ends."""

import fcntl
import os
from pathlib import Path

from klinestream.market.errors import StackError


class StateLock:
    """Held from its making until `release`."""

    def __init__(self, file: Path) -> None:
        """Take it. Raises StackError that names the process that has it."""
        self._file = file.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise StackError(
                f"another `klinestream up` (process {holder}) runs over {file.parent}: end it with Ctrl-C there or `kill {holder}`, "
                "or give this one a folder and ports of its own ([stack] in klinestream.toml)"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the next one in."""
        self._file.close()
