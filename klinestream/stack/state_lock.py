"""One stack at a time over one state folder."""

from pathlib import Path

from klinestream.market.errors import StackError
from klinestream.runtime.lock import FileLock, LockedError


def lock_state(file: Path) -> FileLock:
    """Take the lock of a state folder. Raises StackError that names the process that has it, or says why it can't be had."""
    try:
        return FileLock(file)
    except LockedError as error:
        holder = error.holder
        raise StackError(
            f"another `klinestream up` (process {holder}) runs over {file.parent}: end it with Ctrl-C there or `kill {holder}`, "
            "or give this one a folder and ports of its own ([stack] in klinestream.toml)"
        ) from None
    except OSError as error:
        raise StackError(f"expected to write to {file}: {error}; give permission, or set stack.state_dir to a folder of your own") from None


def holder_of(file: Path) -> str:
    """The process that holds the lock of a state folder, as its number; empty if nobody does."""
    if not file.exists():
        return ""
    try:
        FileLock(file).release()
    except LockedError as error:
        return error.holder
    return ""
