"""The supervisor's guardian: when the supervisor is gone, however it went, nothing of its stack stays.

It holds the reading end of a pipe whose writing end the supervisor holds. Nothing is ever written: the end of the pipe is the
message, and the kernel sends it even after `kill -9`. If the guardian dies instead, the supervisor starts another one.
"""

import subprocess
import sys

from klinestream.stack.process import sweep


class Guardian:
    """The guardian's process, as the supervisor sees it."""

    def __init__(self, mark: str) -> None:
        """Start it for all processes with this mark."""
        self._mark = mark
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ensure(self) -> None:
        """Start another one if it has died."""
        if self._process.poll() is not None:
            self._close()
            self._process = self._start()

    def dismiss(self) -> None:
        """Let it do its duty and end: whatever still carries the mark is killed."""
        self._close()
        self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        # A session of its own: Ctrl-C in the terminal is the supervisor's to handle.
        return subprocess.Popen([sys.executable, "-m", __name__, self._mark], stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def _close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()


if __name__ == "__main__":
    sys.stdin.buffer.read()
    sweep(sys.argv[1])
