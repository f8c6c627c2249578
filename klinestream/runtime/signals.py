"""The end that somebody asks for: the first SIGTERM or SIGINT ends a block cleanly."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

log = structlog.get_logger()


class _Ended(BaseException):
    """A signal asked for the end."""


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the block cleanly at the first SIGTERM or SIGINT; further ones don't disturb its end."""
    signals = (signal.SIGTERM, signal.SIGINT)

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
