"""One supervised part: started, watched, and started again with back-off when it dies. Clocks are passed in."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from klinestream.market.errors import StackError
from klinestream.stack.process import Command, Process

# The first restart is immediate: one death is an accident. From the second on the part waits, so that a part that can't live
# doesn't eat the machine.
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0
# A part that has been up for this long has recovered: its next death counts as the first.
_RECOVERED_S = 60.0
MANY_DEATHS = 5


class State(Enum):
    """Where a part stands."""

    WAITING = "waiting"
    STARTING = "starting"
    UP = "up"
    BACKING_OFF = "restarting"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a part is: how it is started, what it needs first, and when it is up."""

    name: str
    command: Callable[[], Command]
    is_up: Callable[[], bool]
    needs: tuple[str, ...] = ()
    port: int | None = None
    once: bool = False
    before_start: Callable[[], None] = lambda: None


def wait_before_restart(deaths: int) -> float:
    """Seconds to wait after this many deaths in a row, 1 and up."""
    return 0.0 if deaths <= 1 else min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(deaths - 2, 16))


class Part:
    """A plan and its process. `tick` moves it on; nothing here blocks for long."""

    def __init__(self, plan: Plan, logs: Path, mark: str, tell: Callable[[str], None]) -> None:
        """Starts nothing yet. `tell` takes one line for the person at the terminal."""
        self.plan = plan
        self.state = State.WAITING
        self.restarts = 0
        self._logs = logs
        self._mark = mark
        self._tell = tell
        self._process: Process | None = None
        self._deaths = 0
        self._since = 0.0
        self._start_at = 0.0

    @property
    def name(self) -> str:
        """Name of the part."""
        return self.plan.name

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def settled(self) -> bool:
        """Parts that need this one may start."""
        return self.state in {State.UP, State.DONE}

    def tick(self, now: float, may_start: bool) -> None:
        """Look at the process, and start it if it is time. `now` is monotonic, in seconds."""
        if self._process is not None:
            self._watch(self._process, now)
        elif now >= self._start_at and (self.state is State.BACKING_OFF or (self.state is State.WAITING and may_start)):
            self._start(now)

    def ask_to_end(self) -> None:
        """It shall end, and not be started again."""
        self.state = State.STOPPED
        if self._process is not None:
            self._process.ask_to_end()

    def has_ended(self) -> bool:
        """Nothing of it runs."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it now."""
        self.state = State.STOPPED
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _start(self, now: float) -> None:
        try:
            self.plan.before_start()
            self._process = Process(self.plan.command(), self._logs / f"{self.name}.log", self._mark)
        except (StackError, OSError) as error:
            self._died(now, str(error))
            return
        self.state = State.STARTING
        self._since = now

    def _watch(self, process: Process, now: float) -> None:
        code = process.poll()
        if code is None:
            process.bound_log()
            if self.state is State.STARTING and not self.plan.once and self.plan.is_up():
                self.state = State.UP
                self._since = now
            elif self.state is State.UP and now - self._since > _RECOVERED_S:
                self._deaths = 0
            return
        self._process = None
        if self.plan.once and code == 0:
            self.state = State.DONE
        else:
            self._died(now, f"{_ending(code)}; its last words:\n{process.last_words()}")

    def _died(self, now: float, how: str) -> None:
        self.state = State.BACKING_OFF
        self.restarts += 1
        self._deaths += 1
        wait_s = wait_before_restart(self._deaths)
        self._start_at = now + wait_s
        again = f"starting it again in {wait_s:g} s" if wait_s else "starting it again"
        if self._deaths == MANY_DEATHS:
            again += f", and so on: it has died {MANY_DEATHS} times in a row, so look at {self._logs}, or run `klinestream doctor`"
        self._tell(f"{self.name} {how}\n  {again}")


def _ending(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
