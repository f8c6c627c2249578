"""One attempt of a step: a process group of its own, with a log, a time by which it must have ended, and no descendants that stay.

runner ─► python -m klinestream.cli.main replay features …     marked by its environment, as all that it starts
   ✗ kill -9
runner ─► ends what carries the mark ─► the step again         the lock was freed by the kernel, so nobody else is at it
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from klinestream.market.errors import WorkflowError
from klinestream.runtime import processes
from klinestream.runtime.processes import signal_group

MARK = "_KLINESTREAM_WORKFLOW"
LOG_BYTES = 4 << 20
_POLL_S = 0.1
_WORDS_MOST = 400


class StoppedError(Exception):
    """Somebody asked for the end."""


class Programs:
    """Runs commands of klinestream, each with this mark, and with the configuration that this process has."""

    def __init__(self, mark: str, stop_s: float, file: Path | None = None) -> None:
        """`file` is the configuration's."""
        self._mark = mark
        self._stop_s = stop_s
        self._head = (sys.executable, "-m", "klinestream.cli.main", *(("--config", str(file)) if file is not None else ()))

    def run(self, argv: Sequence[str], log: Path, timeout_s: float, stop: threading.Event) -> None:
        """Run one to its end. Raises WorkflowError if it fails or takes too long, StoppedError once `stop` is set."""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            began = log.stat().st_size if log.exists() else 0
            code = self._code(argv, log, time.monotonic() + timeout_s, stop)
        except (OSError, ValueError) as error:  # no room, no process to be had, words that can't be passed
            raise WorkflowError(f"it could not be run: {error}") from None
        if code is None and stop.is_set():
            raise StoppedError
        if code is None:
            raise WorkflowError(f"it took longer than {timeout_s:g} s, which is timeout_s of this step")
        if code:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkflowError(f"{how}: {_last_words(log, began) or 'it printed nothing'}")

    def _code(self, argv: Sequence[str], log: Path, deadline_s: float, stop: threading.Event) -> int | None:
        """The exit code; None where it had to be ended."""
        with log.open("ab") as output:
            child = subprocess.Popen(  # noqa: S603  # a definition names commands of ours
                [*self._head, *argv],
                env={**os.environ, MARK: self._mark, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return _waited(child, log, deadline_s, stop)
        finally:
            self._end(child)

    def _end(self, child: "subprocess.Popen[bytes]") -> None:
        """SIGTERM for the whole group, and SIGKILL for what is left of it."""
        if child.poll() is None:
            signal_group(child.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                child.wait(self._stop_s)
        signal_group(child.pid, signal.SIGKILL)
        child.wait()


def _waited(child: "subprocess.Popen[bytes]", log: Path, deadline_s: float, stop: threading.Event) -> int | None:
    """The exit code; None where it has to be ended."""
    while not stop.is_set() and time.monotonic() < deadline_s:
        try:
            return child.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if log.stat().st_size > LOG_BYTES:
                os.truncate(log, 0)  # it writes on at the end of the file, wherever that is
    return None


def _last_words(log: Path, began: int) -> str:
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(min(began, end), end - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return " ".join(lines[-3:])[-_WORDS_MOST:]


def sweep(mark: str, within_s: float = 10.0) -> int:
    """Kill what an earlier runner has left running, and wait until it is gone; how many there were. Raises WorkflowError."""
    return processes.sweep(MARK, lambda found: found == mark, within_s, WorkflowError)
