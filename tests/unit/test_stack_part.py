"""A supervised part: started when it may, started again with growing waits, and loud when it can't live. Time is ours here."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from klinestream.stack.part import MANY_DEATHS, Part, Plan, State, wait_before_restart
from klinestream.stack.process import Command
from tests.eventually import eventually

DIES = "import sys; print('out of luck'); sys.exit(3)"
LIVES = "import time; time.sleep(600)"


class Supervised:
    """A part of Python code, with what it told, under a clock that the test moves."""

    def __init__(self, code: str, folder: Path, **settings: bool) -> None:
        """Starts nothing yet."""
        self.told: list[str] = []
        self.now = 1000.0
        plan = Plan("part", lambda: Command("part", (sys.executable, "-c", code)), lambda: True, once=settings.get("once", False))
        self.part = Part(plan, folder, f"{folder}#1", self.told.append)

    def until(self, state: State) -> None:
        """Tick without moving the clock until the part is in this state."""

        def reached() -> bool:
            self.part.tick(self.now, may_start=True)
            return self.part.state is state

        eventually(reached, 20, f"the part is {state.value}")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[list[Supervised]]:
    """Parts to end after the test."""
    made: list[Supervised] = []
    yield made
    for supervised in made:
        supervised.part.kill()
    assert tmp_path.is_dir()


def test_a_part_waits_until_it_may_start(parts: list[Supervised], tmp_path: Path) -> None:
    """Nothing is started before what it needs is there."""
    parts.append(waiting := Supervised(LIVES, tmp_path))
    waiting.part.tick(0.0, may_start=False)
    assert waiting.part.state is State.WAITING
    waiting.until(State.UP)
    assert waiting.part.pid is not None


def test_the_first_restart_is_immediate_and_later_ones_wait(parts: list[Supervised], tmp_path: Path) -> None:
    """A part that dies at once is started again at once, then after growing waits, and says how it died."""
    parts.append(dying := Supervised(DIES, tmp_path))
    dying.until(State.STARTING)
    dying.until(State.BACKING_OFF)
    dying.until(State.STARTING)
    dying.until(State.BACKING_OFF)
    assert dying.part.restarts == 2
    dying.part.tick(dying.now, may_start=True)
    assert dying.part.pid is None, "the second restart must wait"
    dying.now += wait_before_restart(2)
    dying.until(State.STARTING)
    assert "exit code 3" in dying.told[0]
    assert "out of luck" in dying.told[0]


def test_many_deaths_are_said_with_advice(parts: list[Supervised], tmp_path: Path) -> None:
    """After many deaths in a row the person is told to look, and the part is tried on."""
    parts.append(dying := Supervised(DIES, tmp_path))
    for _ in range(MANY_DEATHS):
        dying.until(State.BACKING_OFF)
        dying.now += 60
        dying.until(State.STARTING)
    assert "klinestream doctor" in "\n".join(dying.told)


def test_a_part_that_runs_once_is_done(parts: list[Supervised], tmp_path: Path) -> None:
    """A part that runs once and ends well is done, and stays so."""
    parts.append(once := Supervised("print('made')", tmp_path, once=True))
    once.until(State.DONE)
    once.part.tick(once.now + 100, may_start=True)
    assert once.part.state is State.DONE
    assert once.told == []


def test_waits_grow_to_a_bound() -> None:
    """Waits are 0 first, never shrink, and end at a bound."""
    waits = [wait_before_restart(deaths) for deaths in range(1, 40)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == waits[-2] == 15
