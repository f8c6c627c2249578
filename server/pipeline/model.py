"""What /api/v1/pipeline tells: the pipeline's parts, topics, gaps and faults. See docs/rest.md for each field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Of a part."""

    RUNNING = "running"
    """It answers; of a job: every task runs."""
    RESTARTING = "restarting"
    """A job whose tasks don't all run, and that Flink brings back."""
    AWAY = "away"
    """It gives no answer; of a job: Flink has none that goes on."""
    UNKNOWN = "unknown"
    """Nobody can tell: no address is set, or who would know is away."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of what a histogram observed; None of nothing."""

    count: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The newest complete checkpoint of a job, and how many there were."""

    age_s: float | None
    bytes: int | None
    duration_ms: int | None
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the pipeline; what it doesn't tell is None."""

    name: str
    kind: str
    state: State
    reason: str = ""
    faults: tuple[str, ...] = ()
    up_s: float | None = None
    restarts: int | None = None
    over_s: float | None = None
    per_s: float | None = None
    behind: int | None = None
    age_s: float | None = None
    dead_letters: int | None = None
    memory_bytes: int | None = None
    cpu: float | None = None
    latency: Mapping[str, Latency] = field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flow:
    """One topic: how much is written to it, and how far its slowest reader is behind, as far as the parts tell."""

    topic: str
    per_s: float | None
    behind: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that went wrong, and when; `over` says that it is not so any more."""

    part: str
    time: int
    text: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class Gaps:
    """How many gaps of each state the ledger holds, and the newest ones as /api/v1/gaps shows them; `fault` says why it can't be read."""

    fault: str | None = None
    detected: int | None = None
    deferred: int | None = None
    unfillable: int | None = None
    refilled: int | None = None
    repaired: int | None = None
    newest: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class WorkflowStep:
    """A step of a run of a workflow; times in ms."""

    name: str
    state: str
    attempt: int
    started: int | None
    ended: int | None
    text: str


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A run of a workflow; `told` is when something was last told of it."""

    workflow: str
    run: str
    state: str
    started: int
    told: int
    ended: int | None
    text: str
    steps: list[WorkflowStep]


@dataclass(frozen=True, slots=True)
class Told:
    """The whole answer."""

    server_time: int
    parts: list[Part]
    topics: list[Flow]
    gaps: Gaps
    faults: list[Fault]
    workflows: list[WorkflowRun] = field(default_factory=list)
