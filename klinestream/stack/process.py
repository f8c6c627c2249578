"""One process of the stack: in a session of its own, marked, with a bounded log, and never outlived by its own children."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from klinestream.market.errors import StackError
from klinestream.runtime import processes
from klinestream.runtime.processes import signal_group

# Inherited by everything that a stack starts, Flink's Python workers included, so that it can be found again whoever its parent is by then.
MARK = "_KLINESTREAM_STACK"
LOG_BYTES = 8 << 20
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: the program and its arguments, what is added to the environment, and the signal that asks it to end."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ends_by: signal.Signals = signal.SIGTERM


class Process:
    """A running command. Its whole process group ends with it."""

    def __init__(self, command: Command, log: Path, mark: str) -> None:
        """Start it; what it prints goes to `log`. Raises StackError if there is no such program or no room."""
        self.command = command
        self.log = log
        try:
            with log.open("ab") as output:
                self._child = subprocess.Popen(  # noqa: S603  # the commands are ours
                    command.argv,
                    env={**os.environ, **command.env, MARK: mark},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StackError(
                f"{command.name}: expected to start {command.argv[0]} with its output in {log}: {error}; run `klinestream doctor`"
            ) from None

    @property
    def pid(self) -> int:
        """Process id, and id of its group and session."""
        return self._child.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal) once it has ended; what was left of its group is then gone too."""
        code = self._child.poll()
        if code is not None:
            signal_group(self._child.pid, signal.SIGKILL)
        return code

    def ask_to_end(self) -> None:
        """SIGTERM, or what its command says."""
        if self._child.poll() is None:
            self._child.send_signal(self.command.ends_by)

    def kill(self) -> None:
        """SIGKILL for the whole group; returns when the process itself is gone."""
        signal_group(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self, within_s: float) -> None:
        """Ask it to end, then kill it if it has not after `within_s`."""
        self.ask_to_end()
        deadline = time.monotonic() + within_s
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.kill()

    def bound_log(self) -> None:
        """Keep the log below twice LOG_BYTES: what is over moves to `<log>.1`, or is lost where there is no room for it."""
        with suppress(OSError):  # somebody may have removed the log: the process goes on, and so does who watches it
            if self.log.stat().st_size > LOG_BYTES:
                with suppress(OSError):
                    shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
                # The process holds the file open to append, so it is emptied in place.
                os.truncate(self.log, 0)

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message; empty if that can't be read."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 4096))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def marked(prefix: str) -> Iterator[psutil.Process]:
    """Running processes whose mark starts with `prefix`, wherever they hang in the tree; this one not among them."""
    return processes.marked(MARK, lambda mark: mark.startswith(prefix))


def sweep(prefix: str, within_s: float = 5.0) -> int:
    """Kill all marked processes until none is left; returns how many there were. Raises StackError if some stay."""
    return processes.sweep(MARK, lambda mark: mark.startswith(prefix), within_s, StackError)
