"""A workflow's run comes to the same, wherever and however often it is interrupted: killed, stopped, or failed by a step."""

import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.errors import WorkflowError
from klinestream.market.workflows import ENDED, FINISHED, Happened, State
from klinestream.workflow.definition import read
from klinestream.workflow.process import StoppedError
from klinestream.workflow.runner import Runner, begin
from klinestream.workflow.state import Folder, Run

TEXT = """
about = "Tiny steps"
[parameters.word]
about = "What it is made of"
default = "a"
[[steps]]
name = "load"
run = ["load", "{word}"]
backoff_s = 0.0001
[[steps]]
name = "make"
run = ["make", "{out}", "{word}"]
backoff_s = 0.0001
[[steps]]
name = "train"
run = ["train", "{make.out}", "{out}"]
backoff_s = 0.0001
[[steps]]
name = "publish"
run = ["publish", "{train.out}"]
backoff_s = 0.0001
"""
STEPS = ("load", "make", "train", "publish")
DEFINITION = read(TEXT, "tiny.toml", "tiny")
ATTEMPTS = 3


class Killed(BaseException):
    """As by kill -9: nothing of ours runs after it."""


@dataclass
class World:
    """What lasts when a process is killed; `breath` is where it may be."""

    root: Path
    kills: list[int] = field(default_factory=list)
    """After so many breaths each."""
    disk: dict[str, bytes] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    published: str = ""
    finished: Counter[str] = field(default_factory=Counter)
    """How often a step's command came to its end."""
    told: list[tuple[Happened, str]] = field(default_factory=list)

    def breath(self) -> None:
        """Go on, or be killed here."""
        if self.kills:
            self.kills[0] -= 1
            if self.kills[0] < 0:
                self.kills.pop(0)
                raise Killed

    def put(self, place: str, content: bytes) -> None:
        """A file that is there as a whole or not at all."""
        self.breath()
        self.disk[place] = content
        self.breath()

    def read(self, place: str) -> bytes | None:
        """All of a file."""
        return self.disk.get(place)

    def folder(self) -> Folder:
        """The workflow's state, as a process that starts finds it."""
        folder = Folder(self.root, "tiny")
        folder._files = self  # type: ignore[assignment]  # it has what a state needs of files
        return folder

    def reached(self) -> Run | None:
        """What the state says."""
        return self.folder().run()


@dataclass
class Program:
    """Tiny commands, each idempotent as klinestream's are: what it makes is there as a whole or not at all."""

    world: World
    fails: Counter[str]
    stops: Counter[str] = field(default_factory=Counter)

    def run(self, argv: Sequence[str], log: Path, timeout_s: float, stop: threading.Event) -> None:  # noqa: ARG002  # as a runner calls it
        world, name = self.world, argv[0]
        held = world.reached()
        assert held is not None
        assert held.steps[STEPS.index(name)].state is State.RUNNING, "a step runs only where the state says so"
        assert all(step.state in FINISHED for step in held.steps[: STEPS.index(name)]), "and after all before it"
        world.breath()
        if self.stops[name]:
            self.stops[name] -= 1
            stop.set()
            raise StoppedError
        if self.fails[name]:
            self.fails[name] -= 1
            raise WorkflowError("not now")
        if name == "load":
            world.loaded = sorted({*world.loaded, argv[1]})
        elif name == "publish":
            world.published = (Path(argv[1]) / "model").read_text()
        else:
            source = argv[2] if name == "make" else (Path(argv[1]) / "model").read_text() + "!"
            out = Path(argv[1] if name == "make" else argv[2])
            out.mkdir(parents=True, exist_ok=True)
            world.breath()
            (out / "model").write_text(source)
        world.finished[name] += 1
        world.breath()


def start(world: World, program: Program, asked: dict[str, str]) -> Run:
    """What a process does, until it is done or killed."""

    def tell(happened: Happened, run: Run, text: str, place: int | None = None, **fields: object) -> None:  # noqa: ARG001
        world.told.append((happened, "" if place is None else run.steps[place].planned.name))

    folder = world.folder()
    runner = Runner(folder, program, tell, lambda: 1000, threading.Event())
    return runner.take_on(begin(folder, DEFINITION, asked, 1000))


def to_the_end(world: World, program: Program, asked: dict[str, str]) -> Run:
    """Start it again and again, until it is done."""
    while True:
        try:
            ended = start(world, program, asked)
        except Killed:
            held = world.reached()
            if held is None or held.state is not State.DONE:
                continue
            ended = held
        assert ended == world.reached()
        assert ended.state in ENDED
        if ended.state is State.DONE:
            return ended


kills = st.lists(st.integers(0, 40), max_size=8)
troubles = st.dictionaries(st.sampled_from(STEPS), st.integers(1, ATTEMPTS + 2), max_size=3).map(Counter)


@settings(max_examples=30)
@given(kills, troubles, troubles)
def test_wherever_it_is_interrupted_it_comes_to_the_same(kills: list[int], fails: Counter[str], stops: Counter[str]) -> None:
    """Killed anywhere, between and within steps and within writing where it is; stopped; failed: the results are those of an
    uninterrupted run, it is one and the same run, and a step that the state calls done never runs again."""
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root), list(kills))
        ended = to_the_end(world, Program(world, Counter(fails), Counter(stops)), {"word": "x"})
        assert (world.loaded, world.published) == (["x"], "x!")
        assert [step.state in FINISHED for step in ended.steps] == [True] * len(STEPS)
        assert len({place for place in world.disk if place.startswith("runs/")}) == 1
        # Only a kill between a command's end and its place in the state lets the command run again.
        assert all(world.finished[name] <= 1 + len(kills) for name in STEPS)
        if not kills:
            assert world.finished == dict.fromkeys(STEPS, 1)


@settings(max_examples=30)
@given(st.integers(0, 35), st.sampled_from(STEPS))
def test_what_is_done_is_not_done_again(kill: int, step: str) -> None:
    """Of a run that is killed once, each command comes to its end once, or twice where it was killed right after its end."""
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root), [kill])
        program = Program(world, Counter())
        with suppress(Killed):
            start(world, program, {})
        held = world.reached()
        if held is not None and held.state is State.DONE:
            return  # to start it now would be another run
        before = Counter(each.planned.name for each in held.steps if each.state in FINISHED) if held is not None else Counter()
        finished = Counter(world.finished)
        to_the_end(world, program, {})
        again = world.finished[step] - finished[step]
        assert again == (0 if before[step] else 1) or (again == 0 and Happened.STEP_KEPT in {told for told, of in world.told if of == step})


@settings(max_examples=20)
@given(st.lists(st.sampled_from("ab"), min_size=2, max_size=5))
def test_what_was_made_serves_all_who_ask_for_the_same(words: list[str]) -> None:
    """A step with a folder of its own runs once for each word, in whatever order runs ask; the others run each time, so that what
    is published is always what was asked for last."""
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root))
        program = Program(world, Counter())
        for word in words:
            to_the_end(world, program, {"word": word})
            assert world.published == f"{word}!"
        assert (world.finished["make"], world.finished["train"]) == (len(set(words)), len(set(words)))
        assert (world.finished["load"], world.finished["publish"]) == (len(words), len(words))


def test_attempts_are_bounded_and_each_failure_is_told() -> None:
    """After its last attempt the run has failed, and says why; asked for again, it goes on at that step."""
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root))
        program = Program(world, Counter({"make": ATTEMPTS}))
        ended = start(world, program, {})
        assert (ended.state, ended.steps[1].state, ended.steps[1].attempts) == (State.FAILED, State.FAILED, ATTEMPTS)
        assert "make failed: not now" in ended.reason
        assert [told for told, of in world.told if of == "make"] == [Happened.STEP_STARTED, Happened.STEP_FAILED] * ATTEMPTS
        again = start(world, program, {})
        assert (again.state, again.id, world.finished["load"]) == (State.DONE, ended.id, 1)


def test_what_is_asked_for_otherwise_is_another_run() -> None:
    """A run that was interrupted makes room for one with other parameters, and says so."""
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root), [12])
        with pytest.raises(Killed):
            start(world, Program(world, Counter()), {"word": "x"})
        held = world.reached()
        assert held is not None
        ended = to_the_end(world, Program(world, Counter()), {"word": "y"})
        assert ended.id != held.id
        ends = [told for told, _ in world.told if told in {Happened.RUN_STARTED, Happened.RUN_ENDED}]
        assert ends == [Happened.RUN_STARTED, Happened.RUN_ENDED, Happened.RUN_STARTED, Happened.RUN_ENDED], "the former one too"
        former = world.folder().run_named(held.id)
        assert former is not None
        assert (former.state, former.reason) == (State.REPLACED, f"run {ended.id} was asked for instead")
