"""Runs of workflows and their runner, where something is wrong with what it is told or with what is there."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from klinestream.market.codec import decode_event, encode_event
from klinestream.market.errors import BrokerError, WorkflowError
from klinestream.market.events import Order, PipelineEvent, WorkflowCommand
from klinestream.market.topics import CONTROL
from klinestream.market.workflows import Happened, State
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.workflow import serving as serving_module
from klinestream.workflow.definition import definition, read
from klinestream.workflow.local import run_step
from klinestream.workflow.metrics import WorkflowMetrics
from klinestream.workflow.process import Programs, StoppedError
from klinestream.workflow.runner import Runner, begin, locked
from klinestream.workflow.serving import Serving, _keep
from klinestream.workflow.state import Folder
from klinestream.workflow.telling import Teller

NOW_MS = 1_790_000_000_000
TINY = """
about = "Tiny steps"
[parameters.word]
about = "Anything"
default = "a"
[[steps]]
name = "one"
run = ["topics", "list"]
[[steps]]
name = "two"
run = ["topics", "list"]
"""
TINY_DEFINITION = read(TINY, "tiny.toml", "tiny")


class Held(Teller):
    """Keeps what is told: no broker is there."""

    def _work(self) -> None:
        pass

    def told(self) -> list[tuple[str, str]]:
        """What happened, and what was said of it."""
        events = [decode_event(PipelineEvent, record.value or b"") for record in self._waiting]
        return [(event.event, event.detail) for event in events]


class Holding:
    """Steps that take until they are ended."""

    def __init__(self, *_: object) -> None:
        """As `Programs`."""

    def run(self, argv: Sequence[str], log: Path, timeout_s: float, stop: threading.Event) -> None:  # noqa: ARG002  # as a runner calls it
        """Until the end."""
        stop.wait(60)
        raise StoppedError


class Served:
    """A runner that is told without a broker; `now_ms` is the time."""

    def __init__(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = NOW_MS
        self._config = config
        self._told = 0
        monkeypatch.setattr(serving_module, "_now_ms", lambda: self.now_ms)
        monkeypatch.setattr(serving_module, "Programs", Holding)
        monkeypatch.setattr(serving_module, "sweep", lambda _: 0)
        Path("workflows").mkdir(exist_ok=True)
        Path("workflows/tiny.toml").write_text(TINY)
        self.metrics = WorkflowMetrics()
        self.teller = Held(config.kafka, lambda: self.now_ms)
        self.teller.also(self.metrics.hear)
        self.serving = self.restarted()

    def restarted(self) -> Serving:
        """Another one, over the same state."""
        self.serving = Serving(self._config, lambda _: "", self.teller, self.metrics)
        return self.serving

    def record(self, order: Order, *parameters: str, name: str = "tiny") -> Record:
        """A command, said now."""
        self._told += 1
        told = WorkflowCommand(f"workflow:{name}", order, parameters, f"id{self._told}", self.now_ms, "test")
        return Record(CONTROL.name, told.workflow.encode(), encode_event(told), told.time_ms, partition=0, offset=self._told)

    def say(self, order: Order, *parameters: str, name: str = "tiny") -> list[tuple[str, str]]:
        """Tell it; what it says."""
        before = len(self.teller.told())
        self.serving.take([self.record(order, *parameters, name=name)])
        return self.teller.told()[before:]

    def state(self, name: str = "tiny") -> Folder:
        """What stands in the files."""
        return Folder(self._config.workflow.state_dir, name)

    def count(self, name: str, **labels: str) -> float:
        """A metric of it."""
        return self.metrics.registry.get_sample_value(f"klinestream_workflow_{name}", labels) or 0.0


@pytest.fixture
def served(configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Any:
    opened = Served(configured(), monkeypatch)
    yield opened
    opened.serving.end()


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("train", ("from=999999999d", "to=0s"), "from: expected a time between the years 1 and 9999"),
        ("train", ("from=1h", "to=0s", f"files={'x' * 300}"), "File name too long"),
        ("broken", (), "broken.toml: expected UTF-8"),
    ],
)
def test_a_command_that_can_t_be_obeyed_is_refused_and_the_runner_stays(
    served: Served, name: str, parameters: tuple[str, ...], said: str
) -> None:
    """With the reason, once; and the next command is obeyed."""
    Path("workflows/broken.toml").write_bytes(b'about = "\xff"')
    [(event, detail)] = served.say(Order.START, *parameters, name=name)
    assert event == Happened.REFUSED
    assert said in detail
    assert served.state(name).run() is None
    assert served.say(Order.PING)[0][0] == Happened.PONG


def test_a_command_is_refused_whatever_is_wrong(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody thought of it: one record must not end all runs, again after each restart."""
    for error in (OSError("no such device"), ValueError("embedded null byte")):

        def wrong(*_: object, told: Exception = error, **__: object) -> None:
            raise told

        monkeypatch.setattr(serving_module, "begin", wrong)
        [(event, detail)] = served.say(Order.START)
        assert (event, str(error) in detail) == (Happened.REFUSED, True)
    assert served.count("commands_total", command="start", fate="refused") == 2


def test_starts_and_stops_are_obeyed_once_however_many_pings_come_between(served: Served) -> None:
    """They are remembered by their ids until they are too old to be obeyed, also by the next runner; pings push none of them out."""
    records = [served.record(Order.START), served.record(Order.STOP)]
    served.serving.take(records)
    run = served.state().run()
    assert run is not None
    assert run.state is State.STOPPED
    served.serving.take([served.record(Order.PING) for _ in range(serving_module.OBEYED_MOST + 1)])
    for serving in (served.serving, served.restarted()):
        serving.take(records)
        assert served.state().run() == run
    remembered = served.state().root.parent / serving_module._OBEYED
    assert orjson.loads(remembered.read_bytes()).keys() == {"id1", "id2"}
    served.now_ms += 3_601_000
    served.serving.take([*records, served.record(Order.STOP)])
    assert served.state().run() == run
    assert len(orjson.loads(remembered.read_bytes())) == 1


def test_after_trouble_it_reads_on_where_it_was(served: Served, configured: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """And from the beginning where the topic is another one, which has fewer records."""
    monkeypatch.setattr(serving_module, "_BACKOFF_FIRST_S", 0.001)
    ending, assigned = threading.Event(), list[Mapping[tuple[str, int], int]]()
    polls = iter([[Record(CONTROL.name, b"AUSDT", b"{}", 0, partition=0, offset=6)], None, None, []])
    ends = iter([7, 7, 3])

    class Away:
        def bounds(self, _topic: str) -> Mapping[int, tuple[int, int]]:
            return {0: (0, next(ends))}

        def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
            assigned.append(positions)

        def poll(self, _timeout_s: float) -> Sequence[Record]:
            found = next(polls)
            if found is None:
                raise BrokerError("away")
            if not found:
                ending.set()
            return found

        def close(self) -> None:
            pass

    monkeypatch.setattr(serving_module, "open_reader", lambda *_: Away())
    _keep(served.serving, configured(), served.metrics, ending)
    assert [positions[CONTROL.name, 0] for positions in assigned] == [0, 7, 0]


@pytest.mark.parametrize(("argv", "log"), [(("topics", "a\0b"), "step.log"), (("topics", "list"), "no folder/step.log")])
def test_a_step_that_can_t_be_begun_has_failed(tmp_path: Path, argv: tuple[str, ...], log: str) -> None:
    """As one that ended badly: it is tried again, and its run fails with the reason."""
    (tmp_path / "no folder").touch()
    with pytest.raises(WorkflowError, match=r"it could not be run: (embedded null byte|.*File exists)"):
        Programs(str(tmp_path), 1.0).run(argv, tmp_path / log, 5, threading.Event())


def test_a_run_whose_thread_is_gone_is_told_of_by_healthz(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended it: otherwise it would be called running for ever, and all be well."""

    def wrong(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(Holding, "run", wrong)
    served.say(Order.START)
    served.serving._active["tiny"].join()
    served.serving.fault = ""
    [fault] = served.serving.faults()
    assert "nobody thought of this" in fault


def test_a_run_that_another_one_replaces_is_told_of(served: Served) -> None:
    """That it has ended so, before the other one starts: /status and metrics know nothing else of it."""
    served.say(Order.START)
    served.say(Order.STOP)
    first = served.state().run()
    assert first is not None
    before = len(served.teller.told())
    served.say(Order.START, "word=b")
    served.say(Order.STOP)
    told = [(event, detail) for event, detail in served.teller.told()[before:] if event in (Happened.RUN_STARTED, Happened.RUN_ENDED)]
    assert [event for event, _ in told] == [Happened.RUN_ENDED, Happened.RUN_STARTED, Happened.RUN_ENDED]
    assert f"run={first.id} state=replaced" in told[0][1]
    assert served.count("runs_total", workflow="tiny", state="replaced") == 1


def test_what_was_not_told_is_counted(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events that no broker takes the oldest are left out."""
    monkeypatch.setattr("klinestream.workflow.telling.WAITING_MOST", 3)
    served.metrics.watch(served.teller)
    for _ in range(5):
        served.say(Order.PING)
    assert (served.count("events_waiting"), served.count("events_left_out")) == (3, 2)


def test_a_run_is_gone_on_with_as_it_is_when_nobody_else_has_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may end it just before its lock is free."""
    folder = served.state()
    run = begin(folder, TINY_DEFINITION, {}, NOW_MS).run

    def ended_meanwhile(at: Folder) -> Any:
        taken = locked(at)
        runner = Runner(at, Holding(), served.teller, lambda: NOW_MS, threading.Event())
        runner._ended(run, State.FAILED, "by itself")
        return taken

    monkeypatch.setattr(serving_module, "locked", ended_meanwhile)
    served.serving.go_on()
    assert "tiny" not in served.serving._active
    locked(folder).release()


def step(config: Config, name: str, *, run_id: str = "r1", parameters: Sequence[str] = ()) -> None:
    run_step(config, lambda _: "", "tiny", name, run_id=run_id, parameters=parameters, show=lambda _run, _text: None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("one", "r1", "word=b"), "asked for with other parameters"),
        (("two", "r1", "word=b"), "asked for with other parameters"),
        (("two", "r2"), "expected all steps before two to be done in run r2, but one isn't"),
        (("two", "r1"), "expected all steps before two to be done in run r1, but one isn't"),
    ],
)
def test_a_step_of_a_run_that_was_not_meant_changes_nothing(
    served: Served, configured: Callable[..., Config], asked: tuple[str, ...], said: str
) -> None:
    """Asked for otherwise, misspelt, or too early: it is refused before anything is written."""
    folder = served.state()
    run = begin(folder, TINY_DEFINITION, {}, NOW_MS, run_id="r1").run
    folder.put(replace(run, state=State.FAILED, ended_ms=NOW_MS))
    before = {path: path.read_bytes() for path in folder.root.rglob("*.json")}
    with pytest.raises(WorkflowError, match=said):
        step(configured(), asked[0], run_id=asked[1], parameters=asked[2:])
    assert {path: path.read_bytes() for path in folder.root.rglob("*.json")} == before


def test_a_step_by_another_definition_is_refused(served: Served, configured: Callable[..., Config]) -> None:
    """The run's commands were made from the former one."""
    begin(served.state(), TINY_DEFINITION, {}, NOW_MS, run_id="r1")
    Path("workflows/tiny.toml").write_text(TINY.replace("Tiny steps", "Other steps"))
    with pytest.raises(WorkflowError, match="or by another definition"):
        step(configured(), "one")


def test_anew_leaves_what_failed_and_goes_on_with_what_was_interrupted(empty_folder: Path) -> None:
    """One bad night must not be tried again each night; but a pod that is replaced goes on, as often as its step has attempts."""
    folder = Folder(empty_folder, "tiny")

    def begun(**changes: Any) -> Any:
        return begin(folder, TINY_DEFINITION, {}, NOW_MS, anew=True, **changes)

    first = begun().run
    for attempts, goes_on in ((1, True), (2, True), (3, False)):
        folder.put(first.with_step(0, state=State.RUNNING, attempts=attempts))
        assert begun().goes_on is goes_on
    for state in (State.FAILED, State.STOPPED):
        held = begin(folder, TINY_DEFINITION, {}, NOW_MS).run
        Runner(folder, Holding(), lambda *_, **__: None, lambda: NOW_MS, threading.Event())._ended(held, state, "badly")
        found = begun()
        assert (found.goes_on, found.run.id == held.id, found.replaced.id) == (False, False, held.id)


def test_runs_are_forgotten_by_their_age_whatever_their_names(empty_folder: Path) -> None:
    """Somebody may name them; the oldest goes first."""
    folder = Folder(empty_folder, "tiny")
    runner = Runner(folder, Holding(), lambda *_, **__: None, lambda: NOW_MS, threading.Event())
    for age, name in enumerate(("zoe", "max", "ann")):
        begun = begin(folder, TINY_DEFINITION, {}, NOW_MS + age, run_id=name)
        runner._ended(begun.run, State.DONE, "done")
    assert [run.id for run in folder.former()] == ["ann", "max", "zoe"]
    folder.forget(1)
    assert [run.id for run in folder.former()] == ["ann"]


def test_who_finds_another_at_work_is_told_what_ends_it(empty_folder: Path) -> None:
    """A run in a terminal hears no `stop`; its process can be ended."""
    folder = Folder(empty_folder, "tiny")
    lock = locked(folder)
    with pytest.raises(WorkflowError, match=r"by process \d+: wait for it, or end that process"):
        locked(folder)
    lock.release()


def test_a_definition_that_is_no_text_is_named(empty_folder: Path) -> None:
    """With its place."""
    (empty_folder / "odd.toml").write_bytes(b"\xff")
    with pytest.raises(Exception, match=r"odd.toml: expected UTF-8"):
        definition(empty_folder, "odd")
