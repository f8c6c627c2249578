"""The local stack: all parts started, watched, brought back, and ended together.

stack = Supervisor(config, with_standin=True)
stack.start()          # checks, prepares, and starts what needs nothing first
stack.run(stopping)    # until the event is set
stack.stop()           # nothing is left after it
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from klinestream.market.errors import StackError
from klinestream.market.topics import KLINES, PROVISIONAL_CANDLES, WINDOWS, Topic
from klinestream.runtime.config import Config
from klinestream.runtime.lock import FileLock
from klinestream.stack import broker, checks, commands, database, extras, flink, held_market, jars, jobs, plans
from klinestream.stack.guardian import Guardian
from klinestream.stack.java import share_classes
from klinestream.stack.job_keeper import JobKeeper
from klinestream.stack.layout import Layout
from klinestream.stack.meter import Flow, Meter
from klinestream.stack.part import Part, State
from klinestream.stack.process import Command, sweep
from klinestream.stack.state_lock import lock_state

# In the order in which they are submitted: the chart's first. What tells that they flow: something each second.
_OUTPUTS = {"windows": WINDOWS, "candles": PROVISIONAL_CANDLES}
JOBS = tuple(_OUTPUTS)
_TICK_S = 0.1
_FIRST_RESULTS_S = 20.0
_ROOM_EVERY_S = 10.0
# What ends first is what writes, what ends last is what it writes to; three times this is below the promised 10 s.
_STOP_ORDER: tuple[tuple[str, ...], ...] = (
    ("server", "producer", *extras.EXTRAS, "repair", "alerts", "proof", "archive", "standin", "topics", "format"),
    ("task-manager", "job-manager"),
    ("broker", extras.DATABASE),
)
_STOP_EACH_S = 2.5


def job_outputs(config: Config, also: tuple[str, ...]) -> dict[str, Topic]:
    """All jobs that are to run → where their results go; the one whose windows the chart shows comes first."""
    further = extras.job_outputs(also)
    return further | _OUTPUTS if config.windows.source == extras.TRADES else _OUTPUTS | further


@dataclass(frozen=True, slots=True)
class Row:
    """A part as the status shows it."""

    name: str
    state: State
    pid: int | None
    port: int | None
    restarts: int
    flow: Flow | None


class Supervisor:
    """A stack over one state folder. Not for several threads at once, but `rows` and `pids` may be called from any."""

    def __init__(self, config: Config, with_standin: bool = True, tell: Callable[[str], None] = print, also: tuple[str, ...] = ()) -> None:
        """Starts nothing. `tell` takes lines for the person who looks on; `also` names parts of `extras`."""
        self.config = config
        self._with_standin = with_standin
        self._tell = tell
        self._also = also
        self._outputs = job_outputs(config, also)
        self._layout = Layout(config.stack.state_dir.absolute())
        # What an earlier life left behind is found by the folder, what is this life's own by the number.
        self._mark = f"{self._layout.root}#{secrets.token_hex(4)}"
        self._cluster = jobs.Cluster(flink.rest_url(self._flink_ports()))
        self._meter = Meter(config.kafka, (KLINES, *self._outputs.values()))
        self._lock: FileLock | None = None
        self._guardian: Guardian | None = None
        self._parts: dict[str, Part] = {}
        self._jobs: dict[str, JobKeeper] = {}
        self._settled: dict[str, float] = {}
        self._next_room = 0.0
        self._short_of_room = False

    def start(self, fresh: bool = False) -> None:
        """Check and prepare everything, `fresh` without what an earlier run kept. Raises StackError; then nothing runs."""
        checks.require_usable_paths(self._layout.root)
        self._layout.make()
        self._lock = lock_state(self._layout.lock)
        try:
            sweep(f"{self._layout.root}#")
            if fresh:
                self._layout.start_over()
            checks.require_free_ports(checks.ports(self.config, self._with_standin, self._also))
            checks.require_room(self._layout.root)
            jars.fetch(self._layout.jars, tell=self._tell)
            share_classes()
            held_market.keep_to(self._layout.market, held_market.STANDIN if self._with_standin else self.config.exchange.rest_url)
            broker.prepare(self._layout, self.config.stack.broker_port, self.config.stack.controller_port)
            if plans.runs_database(self.config, self._also):
                database.prepare(self._layout, self.config.stack.postgres_port)
            flink.prepare(self._layout, self._flink_ports(), self.config.stack.task_slots)
            self._guardian = Guardian(self._mark)
        except BaseException:
            self._lock.release()
            raise
        for plan in plans.plans(self.config, self._layout, self._cluster, self._with_standin, self._also):
            self._parts[plan.name] = Part(plan, self._layout.logs, self._mark, self._tell)
        for name in self._outputs:
            self._jobs[name] = JobKeeper(
                name,
                title=jobs.name_of(name, self.config.kafka.topic_prefix),
                submit=partial(self._submission, name),
                cluster=self._cluster,
                checkpoints=self._layout.checkpoints / jobs.folder_of(name, self.config.kafka.topic_prefix),
                logs=self._layout.logs,
                mark=self._mark,
                tell=self._tell,
            )

    def run(self, stopping: threading.Event, each_tick: Callable[[], None] = lambda: None) -> None:
        """Supervise until `stopping` is set."""
        while not stopping.wait(_TICK_S):
            self.tick(time.monotonic())
            each_tick()

    def tick(self, now: float) -> None:
        """Look at every part once."""
        if self._guardian is None:
            raise StackError("the stack was not started: call start first")
        self._guardian.ensure()
        job_manager = self._parts[plans.JOB_MANAGER]
        before = job_manager.restarts
        settled = {part.name: part.settled for part in self._parts.values()} | {job.name: job.settled for job in self._jobs.values()}
        for part in self._parts.values():
            part.tick(now, all(settled[name] for name in part.plan.needs))
        if job_manager.restarts > before:
            for job in self._jobs.values():
                job.job_manager_died()
        if self._parts[plans.TOPICS].settled:
            self._meter.start()
        # A client comes to ask for the topics, and for the job manager, some seconds after its start.
        may_start = self._parts[plans.BROKER].settled and job_manager.pid is not None
        for name, job in self._jobs.items():
            job.tick(now, may_start)
            # One after the other: what the next one takes to be submitted would only make this one's first results late.
            may_start = may_start and job.settled and self._gives(name, now)
        if now >= self._next_room:
            self._next_room = now + _ROOM_EVERY_S
            self._look_at_room()

    def _gives(self, job: str, now: float) -> bool:
        """The chart shows what a job gives, or it has had its time: there may be nothing to give."""
        since = self._settled.setdefault(job, now)
        return now - since > _FIRST_RESULTS_S or self.chart_has_data()

    def rows(self) -> Sequence[Row]:
        """All parts, the job among them, in a fixed order."""
        flows = self._meter.flows()
        rows = [
            Row(part.name, part.state, part.pid, part.plan.port, part.restarts, flows.get(KLINES.name) if part.name == "producer" else None)
            for part in list(self._parts.values())
            if not part.plan.once or part.state is not State.DONE
        ]
        rows += [
            Row(f"job {name}", job.state, job.pid, None, job.restarts, flows.get(self._outputs[name].name))
            for name, job in self._jobs.items()
        ]
        return rows

    def pids(self) -> Mapping[str, int]:
        """Part → process id, of those that run."""
        return {part.name: part.pid for part in list(self._parts.values()) if part.pid is not None}

    def job_id(self, job: str) -> str:
        """The id of a job's run, empty while it is not submitted."""
        return self._jobs[job].job_id if job in self._jobs else ""

    def chart_has_data(self) -> bool:
        """The chart shows fresh data."""
        return plans.has_data(self.config)

    def stop(self) -> None:
        """End everything in order, within 10 s; what resists is killed."""
        self._meter.stop()
        for job in self._jobs.values():
            job.ask_to_end()
        for group in _STOP_ORDER:
            parts = [part for part in self._parts.values() if part.name.startswith(group)]
            for part in parts:
                part.ask_to_end()
            deadline = time.monotonic() + _STOP_EACH_S
            while time.monotonic() < deadline and not all(part.has_ended() for part in parts):
                time.sleep(_TICK_S / 5)
            for part in parts:
                part.kill()
        if self._guardian is not None:
            self._guardian.dismiss()
        self._cluster.close()
        if self._lock is not None:
            self._lock.release()

    def _submission(self, job: str, restore_from: str) -> Command:
        return commands.submit(job, self.config, self._layout, restore_from)

    def _flink_ports(self) -> flink.Ports:
        return flink.Ports(self.config.stack.flink_port, self.config.stack.flink_rpc_port)

    def _look_at_room(self) -> None:
        try:
            checks.require_room(self._layout.root, checks.GIB)
        except (StackError, OSError) as error:
            if not self._short_of_room:
                self._tell(str(error))
            self._short_of_room = True
        else:
            self._short_of_room = False
