"""`klinestream workflow serve`: obeys what is said in `crypto_control`, and goes on with the runs that it finds.

    crypto_control ─► commands ─► a thread a run ─► steps, a process each
                          └──────────┴─► crypto_pipeline_events

A command is noted as obeyed once what it asks for stands in the state's files; one that was read before a kill is read again.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

import orjson
import structlog

from klinestream import __version__
from klinestream.archive.files import Files
from klinestream.market.codec import decode_command
from klinestream.market.errors import BrokerError, ConfigError, KlinestreamError, RecordError, WorkflowError
from klinestream.market.events import WORKFLOW, Order, WorkflowCommand
from klinestream.market.topics import CONTROL
from klinestream.market.workflows import ENDED, Happened, State
from klinestream.runtime.config import Config, file_of
from klinestream.runtime.kafka import Record, open_reader
from klinestream.runtime.lock import FileLock, LockedError
from klinestream.runtime.metrics import MetricsServer
from klinestream.runtime.signals import told_to_end
from klinestream.workflow.definition import Known, definition, definitions
from klinestream.workflow.metrics import WorkflowMetrics
from klinestream.workflow.plan import asked
from klinestream.workflow.process import Programs, sweep
from klinestream.workflow.runner import Begun, Runner, begin, locked
from klinestream.workflow.state import Folder, Run
from klinestream.workflow.telling import Teller, of_run

log = structlog.get_logger()

CLIENT_ID = "klinestream-workflow"
OBEYED_MOST = 1000
"""Ids of that many starts and stops that are young enough to be obeyed; of more the oldest are forgotten."""
_OBEYED, _LOCK = "_obeyed_ids.json", "_runner"
_POLL_S = 0.2
_CONNECT_S = 3.0
_TELL_S = 10.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0


def run(config: Config, wrong: Known) -> None:
    """Obey until SIGTERM or SIGINT. Raises ConfigError where a definition can't be used, or there is a runner already."""
    metrics = WorkflowMetrics()
    definitions(config.workflow.definitions, wrong)  # a fault is told now, and not when somebody starts it
    with told_to_end() as ending, ExitStack() as stack:
        stack.callback(_only_runner(config).release)
        teller = Teller(config.kafka, _now_ms)
        stack.callback(teller.close, _TELL_S)
        metrics.watch(teller)
        serving = Serving(config, wrong, teller, metrics)
        stack.callback(serving.end)
        if config.workflow.metrics_port:
            server = MetricsServer(config.workflow.metrics_host, config.workflow.metrics_port, metrics.registry, serving.faults)
            stack.callback(server.close)
        serving.go_on()
        _keep(serving, config, metrics, ending)
    log.info("stopped")


def _only_runner(config: Config) -> FileLock:
    folder = config.workflow.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / _LOCK)
    except LockedError as error:
        raise ConfigError(f"process {error.holder} is the runner of {folder} already: let it go on, or set workflow.state_dir") from None
    except OSError as error:
        raise ConfigError(f"workflow.state_dir: expected to write to {folder}: {error}; give room or permission") from None


def _keep(serving: "Serving", config: Config, metrics: WorkflowMetrics, ending: threading.Event) -> None:
    """Follow the topic until the end, whatever becomes of the broker; runs go on without it."""
    kafka = config.kafka.model_copy(update={"connect_timeout_s": min(_CONNECT_S, config.kafka.connect_timeout_s)})
    wait_s = _BACKOFF_FIRST_S
    reached: dict[int, int] = {}
    while not ending.is_set():
        try:
            with closing(open_reader(kafka, CLIENT_ID)) as reader:
                bounds = reader.bounds(CONTROL.name).items()
                reader.assign({(CONTROL.name, partition): _start(*held, reached.get(partition)) for partition, held in bounds})
                serving.fault, wait_s = "", _BACKOFF_FIRST_S
                log.info("obeying", topic=CONTROL.name)
                while not ending.is_set():
                    records = reader.poll(_POLL_S)
                    serving.take(records)
                    reached |= {record.partition: record.offset + 1 for record in records}
        except BrokerError as error:
            serving.fault = str(error)
            metrics.reconnects.inc()
            log.warning("kafka in trouble, trying again", reason=str(error), again_in_s=wait_s)
            ending.wait(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # not a secret
            wait_s = min(_BACKOFF_MOST_S, 2 * wait_s)


def _start(first: int, end: int, reached: int | None) -> int:
    """Where to read on; a topic that ends before what was read is another one, made anew.

    >>> _start(0, 9, None), _start(0, 9, 7), _start(8, 9, 7), _start(0, 3, 7)
    (0, 7, 8, 0)
    """
    return max(first, reached) if reached is not None and reached <= end else first


class _Active:
    """A run under way, in a thread of its own."""

    def __init__(self, name: str, runner: Runner, stop: threading.Event, lock: FileLock, work: Callable[[], None]) -> None:
        self._runner, self._stop, self._lock, self._work = runner, stop, lock, work
        self._thread = threading.Thread(target=self._run, name=f"workflow-{name}")
        self.fault = ""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def end(self, *, keeps_running: bool) -> None:
        """End its step; returns when the state's file has it."""
        self._runner.keeps_running = keeps_running
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until nothing of it is left."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except KlinestreamError as error:
            self.fault = str(error)
            log.error("run can't go on", reason=self.fault)
        except Exception as error:
            # Nobody waits for a thread: what ends it unseen would leave its run called running, and all well, for ever.
            self.fault = repr(error)
            log.exception("run can't go on")
        finally:
            self._lock.release()


class Serving:
    """All workflows of one state, and who runs them. Called by one thread."""

    def __init__(self, config: Config, wrong: Known, teller: Teller, metrics: WorkflowMetrics) -> None:
        """Runs nothing yet."""
        self._config = config.workflow
        self._wrong = wrong
        self._file = file_of(config)
        self._teller = teller
        self._metrics = metrics
        self._active: dict[str, _Active] = {}
        self._files = Files(str(self._config.state_dir.absolute()))
        self._obeyed: dict[str, int] = orjson.loads(self._files.read(_OBEYED) or b"{}")
        """Id → when it was said, of what must not be done again."""
        self._began_s = time.monotonic()
        self.fault = "not connected to Kafka yet"

    def faults(self) -> list[str]:
        """What is wrong right now."""
        of_runs = [f"{name}: {active.fault}" for name, active in self._active.items() if active.fault]
        return [*([self.fault] if self.fault else []), *of_runs]

    def go_on(self) -> None:
        """Take on the runs that an earlier runner left under way."""
        for name in sorted(path.parent.name for path in self._config.state_dir.glob("*/run.json")):
            folder = Folder(self._config.state_dir, name)
            found = folder.run()
            if found is not None and found.state is State.RUNNING:
                try:
                    lock = locked(folder)
                except WorkflowError as error:
                    log.warning("run is left to another process", workflow=name, reason=str(error))
                else:
                    self._go_on(folder, lock)

    def _go_on(self, folder: Folder, lock: FileLock) -> None:
        found = folder.run()  # again: until we had the lock, another process may have ended it
        if found is not None and found.state is State.RUNNING:
            self._take_on(folder, lock, Begun(found, goes_on=True))
        else:
            lock.release()

    def take(self, records: Sequence[Record]) -> None:
        """Obey commands, starts and stops each once."""
        for record in records:
            if record.value is None or not (record.key or b"").startswith(WORKFLOW.encode()):
                continue
            try:
                command = decode_command(record.value)
            except RecordError as error:
                self._metrics.unreadable.inc()
                log.warning("no command for a workflow", topic=record.topic, offset=record.offset, reason=str(error))
                continue
            age_s = (_now_ms() - command.time_ms) / 1000
            if command.id not in self._obeyed and age_s <= self._config.command_age_s:
                self._obey(command)
                if command.command in (Order.START, Order.STOP):
                    self._remember(command)

    def _remember(self, command: WorkflowCommand) -> None:
        """Until its age keeps it from being obeyed. To answer a ping or status again does no harm."""
        oldest_ms = _now_ms() - round(self._config.command_age_s * 1000)
        held = {id: time_ms for id, time_ms in self._obeyed.items() if time_ms >= oldest_ms} | {command.id: command.time_ms}
        self._obeyed = dict(sorted(held.items(), key=lambda each: each[1])[-OBEYED_MOST:])
        self._files.put(_OBEYED, orjson.dumps(self._obeyed))

    def end(self) -> None:
        """End all steps; their runs go on with the next runner."""
        for active in self._active.values():
            active.end(keeps_running=True)

    def _obey(self, command: WorkflowCommand) -> None:
        name = command.workflow.removeprefix(WORKFLOW)
        does = {Order.START: self._start, Order.STOP: self._stop, Order.STATUS: self._status, Order.PING: self._ping}
        log.info("command", workflow=name, command=command.command, by=command.by)
        try:
            does[command.command](name, command)
            self._metrics.commands.labels(command.command, "obeyed").inc()
        except (KlinestreamError, OSError, ValueError) as error:
            # It would be read again after each restart: whatever is wrong with one, the runner stays.
            self._metrics.commands.labels(command.command, "refused").inc()
            self._teller.answer(name, Happened.REFUSED, f"{command.command}: {error}", {"re": command.id})

    def _start(self, name: str, command: WorkflowCommand) -> None:
        known = definition(self._config.definitions, name, self._wrong)
        parameters = asked(known, command.parameters)
        folder = Folder(self._config.state_dir, name)
        found = folder.run()
        if found is not None and found.state in ENDED and name in self._active:
            self._active[name].join()
        if self._is_active(name) and found is not None and found.command != command.id:
            raise WorkflowError(f"run {found.id} is under way already: wait for it, or stop it")
        if found is None or found.command != command.id:
            lock = locked(folder)
            try:
                sweep(str(folder.root))
                begun = begin(folder, known, parameters, _now_ms(), command=command.id)
            except BaseException:
                lock.release()
                raise
            self._take_on(folder, lock, begun)
            found = begun.run
        self._answer(name, found, f"run {found.id} is under way", command)

    def _stop(self, name: str, command: WorkflowCommand) -> None:
        found = self._found(name)
        if not self._is_active(name):
            raise WorkflowError(f"run {found.id} is {found.state}: there is nothing to stop")
        self._active[name].end(keeps_running=False)
        self._answer(name, self._found(name), f"run {found.id} is stopped", command)

    def _status(self, name: str, command: WorkflowCommand) -> None:
        found = self._found(name)
        self._answer(name, found, status_of(found), command)

    def _ping(self, name: str, command: WorkflowCommand) -> None:
        definition(self._config.definitions, name, self._wrong)
        up_s = time.monotonic() - self._began_s
        text = f"klinestream {__version__}, up for {up_s:.0f} s, {'runs it' if self._is_active(name) else 'runs nothing of it'}"
        self._teller.answer(name, Happened.PONG, text, {"re": command.id, "up_ms": round(1000 * up_s)})

    def _answer(self, name: str, found: Run, text: str, command: WorkflowCommand) -> None:
        self._teller.answer(name, Happened.STATUS, text, {"re": command.id, **of_run(found)})

    def _found(self, name: str) -> Run:
        definition(self._config.definitions, name, self._wrong)
        found = Folder(self._config.state_dir, name).run()
        if found is None:
            raise WorkflowError(f"expected a run of {name}, but there was none yet: `klinestream workflow start {name}`")
        return found

    def _is_active(self, name: str) -> bool:
        return name in self._active and self._active[name].is_alive

    def _take_on(self, folder: Folder, lock: FileLock, begun: Begun) -> None:
        stop = threading.Event()
        mark = str(folder.root)
        runner = Runner(folder, Programs(mark, self._config.stop_s, self._file), self._teller, _now_ms, stop)

        def work() -> None:
            sweep(mark)
            runner.take_on(begun)
            folder.forget(self._config.keep_runs)

        self._active[folder.workflow] = _Active(folder.workflow, runner, stop, lock, work)


def status_of(found: Run) -> str:
    """A run in a line.

    >>> status_of(Run("train", "r1", "", {}, {}, (), 0, State.DONE))
    'run r1 is done'
    """
    at = found.next
    where = "" if at is None else f" at step {found.steps[at].planned.name}, {at + 1} of {len(found.steps)}"
    return f"run {found.id} is {found.state}{where}{f': {found.reason}' if found.state is State.FAILED else ''}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
