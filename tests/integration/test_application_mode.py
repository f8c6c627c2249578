"""A job as the chart's FlinkDeployment starts it: Flink's application mode, with its own command line, settings and memory.

A job manager of the kind that Kubernetes' operator starts differs from this one in where it asks for task managers, and in what
keeps its leadership. What it runs is the same: PythonDriver, with these arguments.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from klinestream.market.batch import from_klines
from klinestream.market.codec import encode_event
from klinestream.market.errors import StackError
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.topics import WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.stack import flink, jars, jobs
from klinestream.stack.java import python
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command, Process, sweep
from tests import chart
from tests.eventually import eventually
from tests.klines import kline
from tests.ports import free_ports
from tests.stack import TestBroker
from tests.topics import Topic, publish, record_of, windows_by_identity

WITHIN_S = 120.0
STOP_S = 15.0
OF_KUBERNETES = ("high-availability.", "kubernetes.", "metrics.reporter.")
HERE = (
    *("rest.address", "rest.bind", "rest.port", "jobmanager.rpc.", "jobmanager.bind", "taskmanager.host", "taskmanager.bind"),
    *("execution.checkpointing.dir", "execution.checkpointing.savepoint-dir", "python.executable", "python.client.executable"),
)
"""What a machine alone knows: addresses, folders and its Python."""


def deployment(job: str) -> Mapping[str, Any]:
    """The FlinkDeployment of a job, as the chart renders it."""
    found = (each for each in chart.rendered(chart.values("small")) if each["kind"] == "FlinkDeployment")
    spec: Mapping[str, Any] = next(each["spec"] for each in found if each["metadata"]["labels"]["klinestream.io/job"] == job)
    return spec


class Application:
    """One job and its cluster, both managers on this machine, in a folder of their own."""

    def __init__(self, folder: Path, job: str, bootstrap_servers: str) -> None:
        """Put down configuration and paths as the pods would have them."""
        self._layout, self._spec = Layout.of(folder), deployment(job)
        jars.fetch(self._layout.jars)
        rest, rpc = free_ports(2)
        ports = flink.Ports(rest, rpc)
        flink.prepare(self._layout, ports, 1)
        self._settings(yaml.safe_load((self._layout.flink_conf / "config.yaml").read_text()))
        self._toml = folder / "klinestream.toml"
        self._toml.write_text(f'[kafka]\nbootstrap_servers = "{bootstrap_servers}"\n')
        self.cluster = jobs.Cluster(flink.rest_url(ports))

    def _settings(self, here: Mapping[str, Any]) -> None:
        """The deployment's, less what asks Kubernetes, with what this machine knows."""
        theirs = {key: value for key, value in self._spec["flinkConfiguration"].items() if not key.startswith(OF_KUBERNETES)}
        own = {key: here[key] for key in here if key.startswith(HERE)}
        own |= {f"{name.lower()}.memory.process.size": self._spec[name]["resource"]["memory"] for name in ("jobManager", "taskManager")}
        own["pipeline.classpaths"] = jars.connector(self._layout.jars).as_uri()
        (self._layout.flink_conf / "config.yaml").write_text(yaml.safe_dump(theirs | own, width=10_000))

    @contextmanager
    def running(self, restore_from: str = "") -> Iterator[str]:
        """Start both managers; gives the job's id once all of it runs."""
        job = self._spec["job"]
        here = {"/opt/klinestream/bin/python": str(python()), "/etc/klinestream/config/klinestream.toml": str(self._toml)}
        arguments = [here.get(each, each) for each in job["args"]]
        assert (flink.home() / "opt" / Path(job["jarURI"]).name).is_file()
        restore = ("--fromSavepoint", restore_from) if restore_from else ()
        manager = (str(flink.home() / "bin" / "standalone-job.sh"), "start-foreground", *restore)
        started = [
            self._start("job-manager", (*manager, "--job-classname", job["entryClass"], *arguments)),
            self._start("task-manager", (str(flink.home() / "bin" / "taskmanager.sh"), "start-foreground")),
        ]
        try:
            eventually(lambda: self._flows(started), WITHIN_S, "the job runs")
            [found] = self.cluster.jobs()
            yield found.id
        finally:
            for process in started:
                process.stop(STOP_S)
            sweep(self._mark)

    @property
    def _mark(self) -> str:
        return f"{self._layout.root}#application"

    def _start(self, name: str, argv: tuple[str, ...]) -> Process:
        return Process(Command(name, argv, flink.environment(self._layout)), self._layout.logs / f"{name}.log", self._mark)

    def _flows(self, started: list[Process]) -> bool:
        for process in started:
            assert process.poll() is None, process.last_words()
        try:
            return any(job.flows for job in self.cluster.jobs())
        except StackError:
            return False


def series(seconds: range, start_ms: int) -> list[Kline]:
    """A kline of each of three symbols each second."""
    return [
        kline(symbol, price=10**8 * (50 + (7 * second) % 29), open_time_ms=time_ms, close_time_ms=time_ms + 999)
        for second in seconds
        for symbol in ("AAAUSDT", "BBBUSDT", "CCCUSDT")
        for time_ms in (start_ms + second * SECOND_MS,)
    ]


def expected(klines: list[Kline]) -> dict[tuple[str, int], bytes]:
    """What the engine makes of all of them in one go."""
    rows = WindowEngine(WindowSettings()).step(from_klines(klines)).windows
    return {(window.symbol, window.end_ms): encode_event(window) for row in rows for window in row.events()}


@pytest.mark.soak
def test_a_job_runs_as_the_chart_starts_it_and_goes_on_from_the_savepoint_of_an_upgrade(tmp_path: Path, job_broker: TestBroker) -> None:
    """Stopped with a savepoint and started from it, as the operator does for a new revision, its windows are those of one run."""
    start = (int(time.time()) - 120) * SECOND_MS
    first, second = series(range(40), start), series(range(40, 80), start)
    application = Application(tmp_path, "windows", job_broker.bootstrap_servers)
    with closing(Topic(job_broker.bootstrap_servers, WINDOWS.name)) as windows, closing(application.cluster):
        publish(job_broker.bootstrap_servers, map(record_of, first))
        with application.running() as job:
            eventually(lambda: len(windows.read()) >= len(expected(first)), WITHIN_S, "the windows of the first half")
            savepoint = application.cluster.stop(job, None)
        publish(job_broker.bootstrap_servers, map(record_of, second))
        with application.running(savepoint):
            eventually(lambda: len(windows.read()) >= len(expected([*first, *second])), WITHIN_S, "all windows")
        assert windows_by_identity(windows.read()) == expected([*first, *second])
        assert len(windows.records) == len(expected([*first, *second]))
