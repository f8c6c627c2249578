"""Processes that can be ended whole: by their group, and by a mark in their environment that all they start inherits."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil

from klinestream.market.errors import KlinestreamError

_LOOK_S = 0.02
_LOOKS_IN_VAIN = 2

Marked = Callable[[str], bool]
"""Whether a mark is one of those that are looked for."""


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, which may have ended."""
    # PermissionError: macOS says so of a group of zombies.
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def marked(variable: str, is_meant: Marked) -> Iterator[psutil.Process]:
    """Running processes with such a mark in that variable, wherever they hang in the tree; this one not among them."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE and is_meant(process.environ().get(variable, "")):
                yield process
        except (psutil.Error, OSError):
            continue  # it has ended, or belongs to somebody else


def sweep(variable: str, is_meant: Marked, within_s: float, failure: type[KlinestreamError]) -> int:
    """Kill all such processes and wait until they are gone; returns how many there were. Raises `failure` if some stay."""
    killed: set[int] = set()
    deadline_s = time.monotonic() + within_s
    looks_in_vain = 0
    # Twice: a process that has only just begun its program doesn't show its environment, and so its mark, for a moment.
    while looks_in_vain < _LOOKS_IN_VAIN:
        left = list(marked(variable, is_meant))
        looks_in_vain = 0 if left else looks_in_vain + 1
        if left and time.monotonic() > deadline_s:
            raise failure(f"expected to end processes {[each.pid for each in left]} of an earlier run, but they stay: end them by hand")
        for process in left:
            killed.add(process.pid)
            try:
                process.kill()
            except psutil.Error:
                continue
        time.sleep(_LOOK_S)
    return len(killed)
