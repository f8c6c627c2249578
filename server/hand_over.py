"""From a reading thread to the event loop, with a bound: a busy loop slows the reading down and doesn't grow a queue."""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec

from server.reading import POLL_S

CALLS_WAITING_MOST = 8

Arguments = ParamSpec("Arguments")


class HandOver:
    """Calls functions in the event loop's thread, in order."""

    def __init__(self, stopping: threading.Event) -> None:
        """Once `stopping` is set nothing waits any more, and calls may be left out."""
        self._stopping = stopping
        self._waiting = threading.Semaphore(CALLS_WAITING_MOST)
        self._loop: asyncio.AbstractEventLoop | None = None

    def to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where calls go; before the first one."""
        self._loop = loop

    def call(self, receive: Callable[Arguments, None], *what: Arguments.args, **named: Arguments.kwargs) -> None:
        """Call `receive` in the loop; waits while too much waits there."""
        while not self._waiting.acquire(timeout=POLL_S):
            if self._stopping.is_set():
                return

        def received() -> None:
            self._waiting.release()
            receive(*what, **named)

        assert self._loop is not None, "to() gives the loop"  # noqa: S101  # a fault in the program
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(received)
