"""What somebody asks of a process by signals: to end cleanly (SIGTERM, SIGINT), or to read its configuration again (SIGHUP)."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

import structlog

log = structlog.get_logger()

_STDIN = 0


class _Ended(BaseException):
    """A signal asked for the end."""


@contextmanager
def ended_by_signals(*further: signal.Signals) -> Iterator[None]:
    """End the block cleanly at the first SIGTERM, SIGINT or one of `further`; later ones don't disturb its end."""
    signals = (signal.SIGTERM, signal.SIGINT, *further)

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as `signal` calls it
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise _Ended

    previous = {one: signal.signal(one, end) for one in signals}
    try:
        yield
    except _Ended:
        log.info("stopped")
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)


@contextmanager
def told_to_end(*further: signal.Signals) -> Iterator[threading.Event]:
    """An event that is set by SIGTERM, SIGINT or one of `further`: for work that may not be broken off anywhere."""
    ending, told = threading.Event(), SimpleQueue[bool]()

    # A handler that set the event itself would wait for ever where it interrupts whoever holds the event's lock: the same thread,
    # which looks at the event, or which sets it for the signal before. A SimpleQueue bears being interrupted.
    def heed() -> None:
        if told.get():
            ending.set()

    heeding = threading.Thread(target=heed, name="told-to-end", daemon=True)
    heeding.start()
    previous = {one: signal.signal(one, lambda *_: told.put(True)) for one in (signal.SIGTERM, signal.SIGINT, *further)}
    try:
        yield ending
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
        told.put(False)
        heeding.join()


@contextmanager
def told_of_hangups() -> Iterator["SimpleQueue[bool]"]:
    """A queue that holds True from a SIGHUP on until that is taken out.

    Within `ended_by_signals` a SIGHUP that says that the terminal is gone is an end like SIGTERM, as it is for any program.
    """
    hangups: SimpleQueue[bool] = SimpleQueue()
    in_terminal = os.isatty(_STDIN)

    def tell(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as `signal` calls it
        if in_terminal and not os.isatty(_STDIN):
            signal.raise_signal(signal.SIGTERM)
        elif hangups.empty():  # several that nobody has taken yet are one
            hangups.put(True)

    previous = signal.signal(signal.SIGHUP, tell)
    try:
        yield hangups
    finally:
        signal.signal(signal.SIGHUP, previous)
