"""Work in daemon threads: all of it is done, the first error ends it, and nobody waits for what hangs."""

import subprocess
import sys
import threading

import pytest

from klinestream.stack import daemons

HANGS = """
import time
from klinestream.stack import daemons
for _ in daemons.each(lambda item: item and time.sleep(600), [0, 1, 1], 2):
    raise SystemExit(7)
"""


def test_all_is_done_so_many_at_a_time() -> None:
    """Every item is worked on once, as many at a time as is said, and each is told."""
    together = threading.Barrier(3)
    worked: list[int] = []

    def work(item: int) -> None:
        together.wait(60)
        worked.append(item)

    assert sum(1 for _ in daemons.each(work, range(6), 3)) == 6
    assert sorted(worked) == list(range(6))
    assert list(daemons.each(work, [], 3)) == []


def test_the_first_error_is_raised_and_nothing_more_begun() -> None:
    """An error ends the iteration; what waits is not begun."""
    worked: list[int] = []

    def work(item: int) -> None:
        worked.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(daemons.each(work, [0], 1))
    hold = threading.Event()
    with pytest.raises(ValueError, match="0"):
        list(daemons.each(lambda item: hold.wait() and None if item else work(item), range(50), 2))
    hold.set()
    assert worked == [0, 0]


def test_what_hangs_does_not_hold_up_the_end() -> None:
    """A program ends though some of its work hangs."""
    done = subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False)
    assert done.returncode == 7
