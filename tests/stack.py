"""A real broker and a real Flink cluster for tests, whose parts can be killed and started again."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from klinestream.market.errors import StackError
from klinestream.market.intervals import DAY_MS
from klinestream.stack import broker, flink, jars, jobs
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command, Process, sweep
from tests.eventually import eventually
from tests.ports import free_ports
from tests.topics import create_all

_START_S = 90.0
_STOP_S = 30.0
_WATCH_S = 0.5


class TestBroker:
    """A Kafka broker of its own, on free ports."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """Format it; `start` starts it."""
        self.layout = Layout.of(folder)
        self.port, controller_port = free_ports(2)
        jars.fetch(self.layout.jars)
        broker.prepare(self.layout, self.port, controller_port)
        _keep_all(self.layout)
        formatting = _started(broker.format_command(self.layout), self.layout)
        eventually(lambda: formatting.poll() is not None, _START_S, "the data folder is formatted")
        assert formatting.poll() == 0, formatting.last_words()
        self._process: Process | None = None

    @property
    def bootstrap_servers(self) -> str:
        """For `kafka.bootstrap_servers`."""
        return broker.bootstrap(self.port)

    @property
    def pid(self) -> int:
        """Process id of the broker that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the same port and data; returns when it takes requests."""
        self._process = _started(broker.command(self.layout), self.layout)
        eventually(self._answers, _START_S, "the broker takes requests")

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()

    def stop(self) -> None:
        """End it cleanly."""
        if self._process is not None:
            self._process.stop(_STOP_S)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.last_words()
        try:
            # A refused connection would make the client back off for long.
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            with closing(KafkaAdminClient(bootstrap_servers=self.bootstrap_servers, request_timeout_ms=5000)) as admin:
                admin.list_topics()
        except (OSError, KafkaError):
            return False
        return True


def _keep_all(layout: Layout) -> None:
    """Keep a broker from looking after retention: times in tests are long past, and it would take their records from under them."""
    properties = layout.kafka / "server.properties"
    properties.write_text(f"{properties.read_text()}log.initial.task.delay.ms={DAY_MS}\n")


class TestFlink:
    """A Flink cluster of its own, on free ports: a job manager and a task manager, both in the foreground.

    A task manager that ends by itself is started again, as the stack's supervisor does: Flink lets it end after some faults, for
    example when a job is cancelled while its Python workers start. One that a test has killed stays away until the test wants it.
    """

    __test__ = False

    def __init__(self, folder: Path, task_slots: int = 8) -> None:
        """Write its configuration; `start` starts it."""
        self.layout = Layout.of(folder)
        jars.fetch(self.layout.jars)
        rest, rpc = free_ports(2)
        ports = flink.Ports(rest, rpc)
        flink.prepare(self.layout, ports, task_slots)
        self.rest_url = flink.rest_url(ports)
        self.cluster = jobs.Cluster(self.rest_url)
        self._job_manager: Process | None = None
        self._task_manager: Process | None = None
        self._changing = threading.Lock()
        self._stopped = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="watch-task-manager", daemon=True)

    def start(self) -> None:
        """Start both; returns when the task manager has registered."""
        self._job_manager = _started(flink.job_manager(self.layout), self.layout)
        self._task_manager = _started(flink.task_manager(self.layout, 1), self.layout)
        self.wait_until_up()
        self._watching.start()

    def _watch(self) -> None:
        while not self._stopped.wait(_WATCH_S):
            with self._changing:
                if self._task_manager is not None and self._task_manager.poll() is not None:
                    self._task_manager = _started(flink.task_manager(self.layout, 1), self.layout)

    def wait_until_up(self) -> None:
        """Return when the job manager answers and the task manager has registered."""
        eventually(self._up, _START_S, "Flink is up with its task manager")

    def start_job_manager(self) -> None:
        """After `kill_job_manager`: start another one on the same ports; it knows no jobs."""
        self._job_manager = _started(flink.job_manager(self.layout), self.layout)
        self.wait_until_up()

    def start_task_manager(self) -> None:
        """After `kill_task_manager`: start another one."""
        with self._changing:
            self._task_manager = _started(flink.task_manager(self.layout, 1), self.layout)
        self.wait_until_up()

    def kill_job_manager(self) -> None:
        """Kill it with -9."""
        assert self._job_manager is not None
        self._job_manager.kill()

    def kill_task_manager(self) -> None:
        """Kill it with -9, its Python workers with it."""
        with self._changing:
            assert self._task_manager is not None
            self._task_manager.kill()
            self._task_manager = None

    @property
    def job_manager_pid(self) -> int:
        """Process id of the job manager."""
        assert self._job_manager is not None
        return self._job_manager.pid

    @property
    def task_manager_pid(self) -> int:
        """Process id of the task manager."""
        assert self._task_manager is not None
        return self._task_manager.pid

    def submit(self, script: Path, arguments: Sequence[str] = (), restore_from: str = "", env: dict[str, str] | None = None) -> str:
        """Submit a PyFlink script as a user would, and return the job's id when it runs.

        `env` is added to what the script sees on the client. `restore_from` is a checkpoint's or a savepoint's address.
        """
        command = jobs.submit_command(
            script,
            arguments,
            rest_url=self.rest_url,
            connector=jars.connector(self.layout.jars),
            environment=flink.environment(self.layout) | (env or {}),
            restore_from=restore_from,
        )
        job_id = jobs.run(command)
        eventually(lambda: self.cluster.job(job_id).flows, _START_S, f"job {job_id} runs")
        return job_id

    def newest_checkpoint(self) -> str:
        """Address of the newest complete checkpoint of any job; empty if there is none."""
        folder = jobs.newest_checkpoint(self.layout.checkpoints)
        return folder.as_uri() if folder else ""

    def cancel(self, job_id: str) -> None:
        """Cancel a job and wait until it has ended."""
        self.cluster.cancel(job_id)
        eventually(lambda: self.cluster.job(job_id).ended, _START_S, f"job {job_id} ends")

    def stop(self) -> None:
        """End everything."""
        self._stopped.set()
        if self._watching.ident is not None:
            self._watching.join()
        for process in (self._task_manager, self._job_manager):
            if process is not None:
                process.ask_to_end()
        for process in (self._task_manager, self._job_manager):
            if process is not None:
                process.stop(_STOP_S)
        self.cluster.close()
        sweep(_mark(self.layout))

    def _up(self) -> bool:
        for process in (self._job_manager, self._task_manager):
            assert process is not None
            assert process.poll() is None, process.last_words()
        try:
            return self.cluster.task_managers() > 0
        except StackError:
            return False


Part = TypeVar("Part", TestBroker, TestFlink)


@contextmanager
def running(part: Part) -> Iterator[Part]:
    """Start it, and end it whatever happens."""
    try:
        part.start()
        yield part
    finally:
        part.stop()


@contextmanager
def broker_with_topics(folder: Path) -> Iterator[TestBroker]:
    """A broker that runs and has every topic."""
    with running(TestBroker(folder)) as broker:
        create_all(broker.bootstrap_servers)
        yield broker


def _mark(layout: Layout) -> str:
    return f"{layout.root}#test"


def _started(command: Command, layout: Layout) -> Process:
    flink.empty_scratch(layout, command.name)
    return Process(command, layout.logs / f"{command.name}.log", _mark(layout))
