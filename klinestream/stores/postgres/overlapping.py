"""One batch is written while the next one is gathered: reading and writing wait for different machines."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def overlapped(gather: Callable[[], T | None], store: Callable[[T], None], between: Callable[[], None], ending: threading.Event) -> None:
    """Gather and store until the end is asked for, then store what was gathered.

    Stored in the order in which it was gathered, by one other thread, each only when the one before is stored; `between` runs while nothing
    is. So never more than two are held. Raises what any of them raises, and stores nothing after a failure.
    """
    with ThreadPoolExecutor(1, "store") as thread:
        storing: Future[None] | None = None
        while not ending.is_set():
            gathered = gather()
            if storing is not None:
                storing.result()
            between()
            storing = thread.submit(store, gathered) if gathered is not None else None
        if storing is not None:
            storing.result()
