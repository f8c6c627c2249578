"""Flink jobs from outside: submitted with `flink run` as any user would, watched and ended over the REST interface."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from klinestream.market.errors import StackError
from klinestream.stack import flink
from klinestream.stack.process import Command

_REQUEST_TIMEOUT_S = 5.0
_SUBMITTED = re.compile(r"submitted with JobID ([0-9a-f]{32})")
_ENDED = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the job manager sees it."""

    id: str
    name: str
    state: str
    started_ms: int
    tasks_running: int
    tasks: int

    @property
    def flows(self) -> bool:
        """Every task of it runs; state RUNNING alone holds while tasks are still restarting."""
        return self.state == "RUNNING" and self.tasks_running == self.tasks

    @property
    def ended(self) -> bool:
        """It will not run again by itself."""
        return self.state in _ENDED


def submit_command(
    script: Path,
    arguments: Sequence[str] = (),
    *,
    rest_url: str,
    connector: Path,
    environment: Mapping[str, str],
    restore_from: str = "",
    checkpoints: str = "",
    python_files: Path | None = None,
) -> Command:
    """`flink run` for a PyFlink script: detached, the Kafka connector shipped with it, resumed from `restore_from` if given.

    `checkpoints` is the address of a folder for this job's own; the cluster's folder for all jobs if empty.
    The job runs with the Python of the cluster's configuration; our modules must be importable there, or come as `python_files`.
    """
    own_folder = (f"-Dexecution.checkpointing.dir={checkpoints}",) if checkpoints else ()
    restore = ("--fromSavepoint", restore_from) if restore_from else ()
    shipped = ("--pyFiles", str(python_files)) if python_files else ()
    argv = (
        str(flink.home() / "bin" / "flink"),
        "run",
        "--detached",
        *own_folder,
        "--jobmanager",
        urlsplit(rest_url).netloc,
        *restore,
        *shipped,
        "--jarfile",
        str(connector),
        "--python",
        str(script),
        *arguments,
    )
    return Command("submit", argv, environment)


def name_of(job: str, topic_prefix: str = "") -> str:
    """What a job calls itself on the cluster: one over a replay has another name than the live one beside it.

    >>> name_of("windows"), name_of("windows", "replay.")
    ('klinestream windows', 'replay.klinestream windows')
    """
    return f"{topic_prefix}klinestream {job}"


def folder_of(job: str, topic_prefix: str = "") -> str:
    """The folder of a job's own within the cluster's checkpoints: whoever submits it, it finds what it left.

    >>> folder_of("windows"), folder_of("windows", "replay.")
    ('windows', 'replay.windows')
    """
    return f"{topic_prefix}{job}"


def job_id_in(output: str) -> str:
    """The job's id in what `flink run` printed. Raises StackError if it did not submit one."""
    found = _SUBMITTED.search(output)
    if found is None:
        raise StackError(f"expected `flink run` to submit a job, but it said:\n{_essence(output)}")
    return found[1]


def run(command: Command, timeout_s: float = 120.0) -> str:
    """Run `flink run` to its end and return the job's id. Raises StackError with what it printed."""
    try:
        done = subprocess.run(  # noqa: S603  # the command is ours
            command.argv,
            env={**os.environ, **command.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StackError(
            f"expected `flink run` to submit the job within {timeout_s:.0f} s: is the cluster up, and has it free slots?"
        ) from None
    return job_id_in(done.stdout)


def newest_checkpoint(checkpoints: Path) -> Path | None:
    """The newest complete checkpoint of all runs of a job, of which each continued from the one before.

    `checkpoints` holds a folder a run, in it `chk-<n>`. Numbers go on growing when a run continues from a checkpoint; one without
    `_metadata` was cut off in the middle.
    """
    complete = [file.parent for file in checkpoints.glob("*/chk-*/_metadata")]
    return max(complete, key=lambda folder: (int(folder.name.removeprefix("chk-")), (folder / "_metadata").stat().st_mtime), default=None)


class Cluster:
    """A Flink cluster's REST interface. Every method raises StackError if the cluster can't be reached or refuses."""

    def __init__(self, rest_url: str) -> None:
        """Does not connect yet."""
        self.rest_url = rest_url
        self._client = httpx.Client(base_url=rest_url, timeout=_REQUEST_TIMEOUT_S, trust_env=urlsplit(rest_url).hostname not in flink.LOCAL)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def checkpoints(self, folder: str) -> str:
        """Address of a folder for one job's checkpoints, in the cluster's own; empty if it keeps none."""
        settings = {entry["key"]: entry["value"] for entry in self._ask("GET", "/jobmanager/config")}
        whole = settings.get("execution.checkpointing.dir", "")
        return f"{whole}/{folder}" if whole else ""

    def task_managers(self) -> int:
        """How many task managers are registered."""
        return int(self._ask("GET", "/overview")["taskmanagers"])

    def jobs(self) -> list[Job]:
        """All jobs that it knows, ended ones too."""
        listed = self._ask("GET", "/jobs/overview")["jobs"]
        return [
            Job(job["jid"], job["name"], job["state"], job["start-time"], job["tasks"]["running"], job["tasks"]["total"]) for job in listed
        ]

    def job(self, job_id: str) -> Job:
        """One job."""
        found = next((job for job in self.jobs() if job.id == job_id), None)
        if found is None:
            raise StackError(f"expected a job {job_id} at {self.rest_url}, it knows none: `klinestream job list` shows those it knows")
        return found

    def checkpoints_completed(self, job_id: str) -> int:
        """How many checkpoints this run has completed."""
        return int(self._ask("GET", f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def root_cause(self, job_id: str) -> str:
        """Why the job failed last, in a line; empty if it has not."""
        history = self._ask("GET", f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return _essence(history[0]["stacktrace"]) if history else ""

    def cancel(self, job_id: str) -> None:
        """Cancel a job; returns at once, the job ends soon after."""
        self._ask("PATCH", f"/jobs/{job_id}", params={"mode": "cancel"})

    def stop(self, job_id: str, folder: str | None, within_s: float = 60.0) -> str:
        """Stop a job with a savepoint, in `folder` or the cluster's own; returns the savepoint's address."""
        body = {"drain": False} | ({"targetDirectory": folder} if folder else {})
        trigger = self._ask("POST", f"/jobs/{job_id}/stop", json=body)["request-id"]
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            status = self._ask("GET", f"/jobs/{job_id}/savepoints/{trigger}")
            if status["status"]["id"] == "COMPLETED":
                operation = status["operation"]
                if "location" in operation:
                    return str(operation["location"])
                raise StackError(
                    f"job {job_id} could not be stopped with a savepoint: {_essence(operation['failure-cause']['stack-trace'])}"
                )
            time.sleep(_POLL_S)
        raise StackError(f"expected a savepoint of job {job_id} within {within_s:.0f} s: look at {self.rest_url}, the job goes on")

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise StackError(
                f"expected Flink's REST interface at {self.rest_url}: {error or type(error).__name__}; is the job manager up?"
            ) from None
        if answer.is_error:
            raise StackError(f"Flink refused {method} {path}: {answer.status_code} {_essence(answer.text)}")
        return answer.json() if answer.content else {}


def _essence(text: str, lines: int = 12) -> str:
    """The telling lines of a stack trace: the causes, not the frames."""
    telling = [line for line in text.replace("\\n", "\n").splitlines() if line.strip() and not re.match(r"\s*(at |\.\.\. |WARNING)", line)]
    return "\n".join(telling[-lines:])
