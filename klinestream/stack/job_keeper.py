"""Keeps a job running on the local cluster: submitted when it isn't there, from its newest checkpoint, whatever took it away.

The job manager forgets its jobs when it dies; the checkpoints stay on disk. So the job is looked for by its id, and when it has
ended or is unknown it is submitted again from the newest complete checkpoint. A task manager's death is Flink's own to heal.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from klinestream.market.errors import StackError
from klinestream.stack import flink, jobs
from klinestream.stack.part import MANY_DEATHS, State, wait_before_restart
from klinestream.stack.process import Command, Process

_LOOK_EVERY_S = 0.5


class JobKeeper:
    """One job on one cluster, as a part of the stack."""

    def __init__(
        self,
        name: str,
        *,
        title: str,
        submit: Callable[[str], Command],
        cluster: jobs.Cluster,
        checkpoints: Path,
        logs: Path,
        mark: str,
        tell: Callable[[str], None],
    ) -> None:
        """Submits nothing yet. `title` is the job's name on the cluster; `submit` makes the command from a checkpoint's address."""
        self.name = name
        self.state = State.WAITING
        self.restarts = 0
        self.job_id = ""
        self._title = title
        self._submit = submit
        self._cluster = cluster
        self._checkpoints = checkpoints
        self._logs = logs
        self._mark = mark
        self._tell = tell
        self._client: Process | None = None
        self._failures = 0
        self._next_look = 0.0
        self._tidied = ""

    @property
    def pid(self) -> int | None:
        """Process id of `flink run` while it submits; a job has none of its own."""
        return self._client.pid if self._client is not None else None

    @property
    def settled(self) -> bool:
        """The job runs."""
        return self.state is State.UP

    def tick(self, now: float, may_start: bool) -> None:
        """Look after the job. `may_start`: a job manager is up or on its way."""
        if self._client is not None:
            self._watch_client(self._client, now)
        elif now < self._next_look:
            return
        elif self.job_id:
            self._next_look = now + _LOOK_EVERY_S
            self._look(now)
        elif may_start:
            self._start_client(now)

    def job_manager_died(self) -> None:
        """It took the job along: the next `tick` submits it again, while the new job manager is starting still."""
        if self.job_id:
            self._lost("went with its job manager", 0.0, 0.0)

    def ask_to_end(self) -> None:
        """Submit no more. The job ends with its cluster; its checkpoints stay."""
        self.state = State.STOPPED
        self.kill()

    def has_ended(self) -> bool:
        """No client runs."""
        return self._client is None

    def kill(self) -> None:
        """End the client."""
        if self._client is not None:
            self._client.kill()
            self._client = None

    def _running_already(self) -> str:
        """The id of a run that is there although we don't know of it: a client may fail after it has submitted."""
        try:
            return next((job.id for job in self._cluster.jobs() if job.name == self._title and not job.ended), "")
        except StackError:
            return ""  # the job manager is on its way; the client waits for it

    def _start_client(self, now: float) -> None:
        self.job_id = self._running_already()
        if self.job_id:
            return
        log = self._logs / f"{self.name}.log"
        try:
            newest = jobs.newest_checkpoint(self._checkpoints)
            log.write_bytes(b"")
            self._client = Process(self._submit(flink.address(newest) if newest else ""), log, self._mark)
        except (StackError, OSError) as error:
            self._lost(str(error), now, None)
            return
        self.state = State.STARTING

    def _watch_client(self, client: Process, now: float) -> None:
        code = client.poll()
        if code is None:
            return
        self._client = None
        try:
            self.job_id = jobs.job_id_in(client.log.read_text(errors="replace"))
        except (StackError, OSError) as error:
            self._lost(str(error), now, None)

    def _look(self, now: float) -> None:
        try:
            job = next((job for job in self._cluster.jobs() if job.id == self.job_id), None)
            if job is None:
                self._lost("is unknown to the job manager", now, 0.0)
            elif job.ended:
                self._lost(f"is {job.state}: {self._cluster.root_cause(self.job_id)}", now, None)
            else:
                if self.state is State.UP and not job.flows:
                    self._tell(f"job {self.name} restarts by itself: {self._cluster.root_cause(self.job_id) or job.state}")
                self.state = State.UP if job.flows else State.STARTING
                if self.state is State.UP and self._tidied != self.job_id and self._cluster.checkpoints_completed(self.job_id):
                    self._tidy()
        except StackError:
            # The job manager is away; if it died, `job_manager_died` says so.
            self.state = State.STARTING

    def _lost(self, how: str, now: float, wait_s: float | None) -> None:
        """Submit again: at once, or with back-off where the job itself failed (`wait_s` None)."""
        self.job_id = ""
        self.restarts += 1
        self.state = State.BACKING_OFF
        if wait_s is None:
            self._failures += 1
            wait_s = wait_before_restart(self._failures + 1)
        self._next_look = now + wait_s
        advice = f"; it has failed {MANY_DEATHS} times in a row, so look at {self._logs}" if self._failures == MANY_DEATHS else ""
        self._tell(f"job {self.name} {how}\n  submitting it again from its newest checkpoint{advice}")

    def _tidy(self) -> None:
        """A run that has a checkpoint of its own needs its forerunners' no more."""
        self._tidied = self.job_id
        self._failures = 0
        with suppress(OSError):
            for run in self._checkpoints.iterdir():
                if run.name != self.job_id:
                    shutil.rmtree(run, ignore_errors=True)
