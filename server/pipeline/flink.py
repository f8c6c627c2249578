"""The Flink cluster, or clusters, and our jobs on it, by the REST interface: what runs, how far behind, checkpoints and faults.

/overview ─► /jobs/overview ─► of each of our jobs: its vertices, checkpoints, exceptions ─► of each vertex: the names of its metrics
                                                                                             (remembered), then their values
"""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import orjson

from server.pipeline.asking import Asker, AwayError, without_addresses
from server.pipeline.model import Checkpoint, Fault, State

JOBS = {"windows": "klinestream windows", "candles": "klinestream candles", "trade_windows": "klinestream trade_windows"}
"""Part → what its job calls itself on the cluster."""
OPTIONAL = frozenset({"trade_windows"})
"""Jobs that need not run."""
COUNTED = (
    *("klines", "windows", "candles", "signals", "repeats", "late", "repairs", "holes", "dead_letters", "history", "joined", "studied"),
    *("trades", "back_in_time", "contradictions", "klines_equal", "klines_different", "klines_unchecked"),
)
"""Counters of our own operators."""
LAG = ("pendingRecords",)
BUSY = ("busyTimeMsPerSecond", "backPressuredTimeMsPerSecond")
_ENDED = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})
_VERTICES_MOST = 20
WITHIN_S = 4.0
"""All questions together."""
NAMES_KEPT_S = 10.0
"""Operators in Python add their counters when they have started, after the others."""
_FAULTS_MOST = 5
NO_SUCH_JOB = "Flink has no such job"


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster, or why it can't be asked."""

    away: str = ""
    task_managers: int = 0
    slots: int = 0
    slots_free: int = 0
    jobs: Mapping[str, "Job"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """One of our jobs, as the job manager sees it. `counts` are of its present attempt."""

    state: State
    reason: str = ""
    id: str = ""
    up_s: float | None = None
    restarts: int = 0
    behind: int | None = None
    busy: float | None = None
    back_pressure: float | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    faults: tuple[Fault, ...] = ()


class Flink:
    """Asks one cluster."""

    def __init__(self, url: str, asker: Asker) -> None:
        """`url` is the REST interface's address."""
        self._url = url.rstrip("/")
        self._asker = asker
        self._names: dict[tuple[str, str], tuple[float, list[str]]] = {}

    async def look(self, now_ms: int) -> Cluster:
        """The cluster as it is now; never raises for one that is away."""
        try:
            async with asyncio.timeout(WITHIN_S):
                overview, listed = await asyncio.gather(self._get("/overview"), self._get("/jobs/overview"))
                jobs = await asyncio.gather(*(self._job(part, name, listed["jobs"], now_ms) for part, name in JOBS.items()))
            workers, slots, free = (int(overview[name]) for name in ("taskmanagers", "slots-total", "slots-available"))
            return Cluster("", workers, slots, free, dict(zip(JOBS, jobs, strict=True)))
        except AwayError as error:
            return Cluster(away=str(error))
        except TimeoutError:
            return Cluster(away=f"it did not tell all within {WITHIN_S:g} s")
        except (LookupError, TypeError, ValueError, AttributeError):
            return Cluster(away="it answered something else than Flink's REST interface does")

    async def _job(self, part: str, name: str, listed: Sequence[Mapping[str, Any]], now_ms: int) -> Job:
        runs = sorted((job for job in listed if job["name"] == name), key=lambda job: (job["state"] not in _ENDED, job["start-time"]))
        if not runs:
            return Job(State.AWAY, NO_SUCH_JOB)
        newest, earlier = runs[-1], len(runs) - 1
        job_id = str(newest["jid"])
        try:
            told, checkpoints, exceptions, restarts = await asyncio.gather(
                self._get(f"/jobs/{job_id}"),
                self._get(f"/jobs/{job_id}/checkpoints"),
                self._get(f"/jobs/{job_id}/exceptions?maxExceptions={_FAULTS_MOST}"),
                self._get(f"/jobs/{job_id}/metrics?get=numRestarts"),
            )
        except AwayError as error:
            return Job(State.UNKNOWN, str(error), job_id)
        metrics = await self._metrics(job_id, [str(vertex["id"]) for vertex in told["vertices"][:_VERTICES_MOST]])
        state, reason = _state(newest)
        return Job(
            state,
            reason,
            job_id,
            (now_ms - int(newest["start-time"])) / 1000,
            earlier + sum(int(float(metric["value"])) for metric in restarts),
            _whole(metrics.get(LAG[0])),
            _share(metrics.get(BUSY[0])),
            _share(metrics.get(BUSY[1])),
            {name: metrics[name] for name in COUNTED if name in metrics},
            checkpoint(checkpoints, now_ms),
            faults(part, exceptions),
        )

    async def _metrics(self, job_id: str, vertices: Sequence[str]) -> dict[str, float]:
        """Lag and counts summed, what is a share of time the greatest, over all vertices."""
        self._names = {key: names for key, names in self._names.items() if key[0] != job_id or key[1] in vertices}
        found: dict[str, float] = {}
        for values in await asyncio.gather(*(self._of_vertex(job_id, vertex) for vertex in vertices)):
            for name, value in values.items():
                found[name] = max(value, found.get(name, 0.0)) if name in BUSY else value + found.get(name, 0.0)
        return found

    async def _of_vertex(self, job_id: str, vertex: str) -> dict[str, float]:
        path, key, now_s = f"/jobs/{job_id}/vertices/{vertex}/subtasks/metrics", (job_id, vertex), asyncio.get_running_loop().time()
        until_s, names = self._names.get(key, (0.0, []))
        try:
            if now_s >= until_s:
                names = wanted([str(metric["id"]) for metric in await self._get(path)])
                self._names[key] = now_s + NAMES_KEPT_S, names
            return measured(await self._get(f"{path}?get={quote(','.join(names))}")) if names else {}
        except AwayError:
            return {}

    async def _get(self, path: str) -> Any:
        return orjson.loads(await self._asker.get(f"{self._url}{path}"))


class Clusters:
    """Asks one cluster that runs all jobs, or several that run some of them each, as Flink's Kubernetes operator has it."""

    def __init__(self, urls: Sequence[str], asker: Asker) -> None:
        """`urls` are the addresses of the REST interfaces; none is one that is away."""
        self._clusters = [Flink(url, asker) for url in urls]

    async def look(self, now_ms: int) -> Cluster:
        """All of them as if they were one."""
        if not self._clusters:
            return Cluster(away="server.flink_url is empty")
        return together(await asyncio.gather(*(cluster.look(now_ms) for cluster in self._clusters)))


def together(clusters: Sequence[Cluster]) -> Cluster:
    """Several clusters as one. A job is where one of them has it; where none has, one that is away might, and who would know says why.

    >>> one = Cluster(slots=2, jobs={"windows": Job(State.RUNNING)})
    >>> other = Cluster(slots=1, jobs={"windows": Job(State.AWAY, NO_SUCH_JOB)})
    >>> both = together([other, one])
    >>> both.slots, both.jobs["windows"].state
    (3, <State.RUNNING: 'running'>)
    >>> together([other, Cluster(away="no answer")]).jobs["windows"].reason
    "Flink can't be asked: no answer"
    """
    there, away = [one for one in clusters if not one.away], [one.away for one in clusters if one.away]
    if not there:
        return Cluster(away=away[0])
    nowhere = Job(State.UNKNOWN, f"Flink can't be asked: {away[0]}") if away else Job(State.AWAY, NO_SUCH_JOB)
    jobs = {part: next((one.jobs[part] for one in there if one.jobs[part].reason != NO_SUCH_JOB), nowhere) for part in there[0].jobs}
    return Cluster("", sum(one.task_managers for one in there), sum(one.slots for one in there), sum(one.slots_free for one in there), jobs)


def wanted(names: Sequence[str]) -> list[str]:
    """Those of a vertex's metrics that are looked at.

    >>> wanted(["0.windows.klinestream.klines", "numRecordsIn", "Source__klines[1].pendingRecords", "busyTimeMsPerSecond"])
    ['0.windows.klinestream.klines', 'Source__klines[1].pendingRecords', 'busyTimeMsPerSecond']
    """
    return [name for name in names if _kind(name)]


def measured(values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Values of a vertex's metrics over its subtasks: the greatest of what is a share of time, else the sum."""
    found: dict[str, float] = {}
    for value in values:
        kind = _kind(str(value["id"]))
        amount = float(value["max"] if kind in BUSY else value["sum"])
        if kind and math.isfinite(amount):  # a task that has just begun tells NaN
            found[kind] = found.get(kind, 0.0) + amount
    return found


def checkpoint(told: Mapping[str, Any], now_ms: int) -> Checkpoint:
    """What Flink tells of a job's checkpoints."""
    counts, newest = told["counts"], (told.get("latest") or {}).get("completed")
    completed, failed = int(counts["completed"]), int(counts["failed"])
    if newest is None:
        return Checkpoint(None, None, None, completed, failed)
    age_s = max(0, now_ms - int(newest["latest_ack_timestamp"])) / 1000
    return Checkpoint(age_s, int(newest["state_size"]), int(newest["end_to_end_duration"]), completed, failed)


def faults(part: str, told: Mapping[str, Any]) -> tuple[Fault, ...]:
    """What Flink tells of a job's failures, newest first."""
    entries = told["exceptionHistory"]["entries"][:_FAULTS_MOST]
    return tuple(Fault(part, int(entry["timestamp"]), essence(str(entry["stacktrace"])), over=True) for entry in entries)


def essence(trace: str) -> str:
    """The cause at the root of a stack trace, in a line and without addresses.

    >>> essence("java.lang.RuntimeException: it broke\\n\\tat a.B(C)\\nCaused by: java.io.IOException: disk full\\n\\tat d.E(F)")
    'IOException: disk full'
    """
    lines = [line.strip() for line in trace.splitlines() if line.strip() and not re.match(r"\s*(at |\.\.\. )", line)]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")] or lines[:1] or ["no reason given"]
    return without_addresses(re.sub(r"^(?:[\w$]+\.)+([\w$]+)", r"\1", causes[-1]))


def _state(job: Mapping[str, Any]) -> tuple[State, str]:
    tasks, state = job["tasks"], str(job["state"])
    if state in _ENDED:
        return State.AWAY, f"it has ended: {state}"
    if state == "RUNNING" and tasks["running"] == tasks["total"]:
        return State.RUNNING, ""
    return State.RESTARTING, f"{tasks['running']} of {tasks['total']} tasks run"


def _kind(name: str) -> str:
    """By what name a metric of a vertex is looked at; empty if it isn't."""
    last = name.rpartition(".")[2]
    if last in LAG or name in BUSY:
        return last
    return last if last in COUNTED and ".klinestream." in name else ""


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _share(ms_per_s: float | None) -> float | None:
    return None if ms_per_s is None else min(1.0, ms_per_s / 1000)
