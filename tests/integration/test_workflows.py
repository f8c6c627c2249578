"""Workflows for real: a runner that is told by Kafka what to do, and history to a model with a kill in the middle."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest

from klinestream.market.errors import WorkflowError
from klinestream.market.events import Order, PipelineEvent, SymbolChoice
from klinestream.market.topics import PIPELINE_EVENTS
from klinestream.market.workflows import Happened, Runs, State
from klinestream.runtime.config import PREFIX
from klinestream.runtime.control import ControlLog
from klinestream.standin.bulk import Wanted, make
from klinestream.workflow.commanding import Answer, command
from klinestream.workflow.definition import definition
from klinestream.workflow.kubernetes import Cluster, jobs
from klinestream.workflow.process import MARK
from klinestream.workflow.state import Folder, Run
from tests.bulk import SYMBOL, market
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker
from tests.topics import Topic, kafka

SOON_S = 60.0
RUN_S = 300.0
HOLDING = """
about = "A step that takes until it is ended, between two that take no time"
[[steps]]
name = "first"
run = ["topics", "list"]
[[steps]]
name = "hold"
run = ["standin"]
[[steps]]
name = "last"
run = ["topics", "list"]
"""


SMALL = """
about = "Steps that take no time"
[parameters.word]
about = "Anything"
[[steps]]
name = "first"
run = ["topics", "list"]
[[steps]]
name = "next"
run = ["standin", "bulk", "--symbols", "BTCUSDT", "--from", "2024-05-06", "--to", "2024-05-06", "--interval", "1h", "--out", "{out}"]
[[steps]]
name = "last"
run = ["topics", "list"]
"""


class Workflows:
    """The command `klinestream workflow` in a folder of its own; what it starts can be killed."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        """With this configuration."""
        self.folder = folder
        [port] = free_ports(1)
        own = {"STACK__STANDIN_PORT": port, "WORKFLOW__METRICS_PORT": 0, "STANDIN__SYMBOLS": 20, **settings}
        passed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self._environment = passed | {f"{PREFIX}{name}": str(value) for name, value in own.items()}
        self._running: list[subprocess.Popen[bytes]] = []

    def begin(self, *arguments: str, group: str = "workflow") -> "subprocess.Popen[bytes]":
        """Start a command; its output goes to a file."""
        line = [sys.executable, "-m", "klinestream.cli.main", group, *arguments]
        with (self.folder / "said.log").open("ab") as output:
            self._running.append(subprocess.Popen(line, cwd=self.folder, env=self._environment, stdout=output, stderr=output))
        return self._running[-1]

    def state(self, name: str) -> Run | None:
        """What the state's files say."""
        return Folder(self.folder / ".klinestream" / "workflows", name).run()

    def reached(self, name: str) -> dict[str, State]:
        """Step → state."""
        found = self.state(name)
        return {} if found is None else {step.planned.name: step.state for step in found.steps}

    def programs(self, name: str) -> list[int]:
        """Processes of steps that run."""
        mark = str(self.folder / ".klinestream" / "workflows" / name)
        return [each.pid for each in psutil.process_iter() if _mark(each) == mark]

    def said(self) -> str:
        """All that was printed."""
        return (self.folder / "said.log").read_text()

    def close(self) -> None:
        """Leave nothing running."""
        for process in self._running:
            process.kill()
            process.wait()
        for name in (path.name for path in (self.folder / ".klinestream" / "workflows").glob("*")):
            for pid in self.programs(name):
                os.kill(pid, signal.SIGKILL)


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get(MARK, "")
    except psutil.Error:
        return ""


@pytest.fixture
def workflows(module_broker: TestBroker, tmp_path: Path) -> Iterator[Workflows]:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "holding.toml").write_text(HOLDING)
    opened = Workflows(tmp_path, KAFKA__BOOTSTRAP_SERVERS=module_broker.bootstrap_servers, KAFKA__CLIENT="confluent-kafka")
    yield opened
    opened.close()


def test_a_runner_obeys_answers_and_goes_on_after_a_kill(workflows: Workflows, module_broker: TestBroker) -> None:
    """ping, start, status and stop travel by Kafka; a runner that is killed with -9 goes on at the step where it was, what it had
    left running is ended first, and no step runs twice; who follows symbols never notices."""
    connection = kafka(module_broker.bootstrap_servers)

    def say(order: Order) -> Answer:
        return command(connection, "holding", order, wait_s=SOON_S)

    with ControlLog(connection) as control:
        control.say("AUSDT", True, "test")
    serving = workflows.begin("serve")
    assert workflows.begin("ping", "holding").wait(SOON_S) == 0
    assert "runs nothing of it" in workflows.said()
    with pytest.raises(WorkflowError, match="expected a run of holding, but there was none yet"):
        say(Order.STATUS)
    started = say(Order.START)
    holding = {"first": State.DONE, "hold": State.RUNNING, "last": State.WAITING}
    eventually(lambda: workflows.reached("holding") == holding and len(workflows.programs("holding")) == 1, SOON_S, "it holds")
    assert "at step hold, 2 of 3" in say(Order.STATUS).text
    with pytest.raises(WorkflowError, match="under way already"):
        say(Order.START)

    [left] = workflows.programs("holding")
    serving.kill()
    serving.wait()
    assert psutil.pid_exists(left)
    serving = workflows.begin("serve")
    eventually(lambda: len(found := workflows.programs("holding")) == 1 and found != [left], SOON_S, "the step runs again, alone")
    stopped = say(Order.STOP)
    assert (stopped.fields["run"], stopped.fields["state"]) == (started.fields["run"], "stopped")
    assert workflows.programs("holding") == []
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(SOON_S) == 0, workflows.said()

    told, runs = [], Runs()
    with closing(Topic(module_broker.bootstrap_servers, PIPELINE_EVENTS.name)) as topic:
        for value in topic.values():
            event = PipelineEvent(value["component"], value["event"], value["time"], value["detail"])
            told.append(event.event)
            runs.take(event)
    assert told.count(Happened.RUN_STARTED) == told.count(Happened.RUN_RESUMED) == told.count(Happened.RUN_ENDED) == 1
    assert told.count(Happened.STEP_ENDED) == 1
    [run] = runs.newest()
    assert (run.workflow, run.state, run.steps["hold"].state, run.steps["hold"].attempt) == ("holding", "stopped", "stopped", 2)
    with ControlLog(connection) as control:
        assert control.read().keys() == {"AUSDT"}
        assert isinstance(control.names()["AUSDT"], SymbolChoice)
        assert control.passed_over == 0


SPAN = ("--set", "from=2024-05-06T00:00", "--set", "to=2024-05-06T13:00", "--set", "folds=1")


def published(folder: Path) -> dict[str, bytes]:
    """The model that `klinestream model serve` would take, file by file."""
    return {path.name: path.read_bytes() for path in (folder / "current").iterdir()}


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[Workflows]:
    """The workflow that comes along, over the stand-in's bulk files: killed with -9 while it computes features, then run to its end."""
    other = next(symbol for symbol in market().symbols if symbol != SYMBOL)
    list(make(market(), [SYMBOL, other], Wanted("klines", "1s", date(2024, 5, 6), date(2024, 5, 6)), tmp_path / "bulk"))
    # No broker is there: a run needs none.
    workflows = Workflows(tmp_path, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA__CLIENT="confluent-kafka")
    try:
        killed = workflows.begin("run", "train", *SPAN)
        eventually(lambda: workflows.reached("train").get("features") is State.RUNNING, SOON_S, "features are computed")
        eventually(lambda: workflows.programs("train"), SOON_S, "by a process")
        killed.kill()
        killed.wait()
        assert workflows.begin("run", "train", *SPAN).wait(RUN_S) == 0, workflows.said()
        yield workflows
    finally:
        workflows.close()


def test_history_becomes_a_model_through_a_kill(interrupted: Workflows) -> None:
    """It goes on at the step that was killed, runs no other twice, and publishes, byte for byte, the model that `klinestream model train`
    gives by itself from the features that it made."""
    found = interrupted.state("train")
    assert found is not None
    attempts = {step.planned.name: step.attempts for step in found.steps}
    assert attempts == {"load": 1, "features": 2, "graph": 1, "train": 1, "publish": 1}, interrupted.said()
    outs = {step.planned.name: Path(step.planned.out) for step in found.steps}
    by_itself = ("train", "--features", str(outs["features"]), "--kind", "linear", "--folds", "1", "--out", "own")
    assert interrupted.begin(*by_itself, group="model").wait(RUN_S) == 0, interrupted.said()
    own = {path.name: path.read_bytes() for path in (interrupted.folder / "own").iterdir()}
    assert published(interrupted.folder / "models" / "train") == own
    assert len(list(outs["graph"].glob("*/nodes.parquet"))) == 1
    # Once more, all is there: the same run's steps with folders of their own are kept.
    assert Folder(interrupted.folder / ".klinestream" / "workflows", "train").is_kept(found.steps[3].planned)


@pytest.mark.soak
def test_the_commands_of_the_jobs_run_it_in_order(tmp_path: Path) -> None:
    """What Kubernetes would run, begun all at once: each step waits for those before it, and runs once; begun again, none runs."""
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "small.toml").write_text(SMALL)
    workflows = Workflows(tmp_path, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA__CLIENT="confluent-kafka")
    try:
        for _ in range(2):
            known = definition(tmp_path / "workflows", "small")
            found = [job["spec"]["template"]["spec"] for job in jobs(known, {"word": "x"}, "r1", Cluster("image"))]
            waiting = [workflows.begin(*pod["initContainers"][0]["command"][2:]) for pod in found[1:]]
            for place, pod in enumerate(found):
                assert place == 0 or waiting[place - 1].wait(SOON_S) == 0, workflows.said()
                assert workflows.begin(*pod["containers"][0]["command"][2:]).wait(SOON_S) == 0, workflows.said()
        ended = workflows.state("small")
        assert ended is not None
        assert (ended.id, ended.state, [step.attempts for step in ended.steps]) == ("r1", State.DONE, [1, 1, 1])
    finally:
        workflows.close()


@pytest.mark.soak
def test_the_model_is_that_of_an_uninterrupted_run(interrupted: Workflows) -> None:
    """Byte for byte, from the bulk files on, in another state and another archive."""
    folder = interrupted.folder
    elsewhere = {"WORKFLOW__STATE_DIR": folder / "whole", "ARCHIVE__URL": folder / "archive"}
    whole = Workflows(folder, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1", **elsewhere)
    assert whole.begin("run", "train", *SPAN, "--set", "publish=published").wait(RUN_S) == 0, whole.said()
    assert published(folder / "models" / "train") == published(folder / "published")
