"""What is told of workflows in `crypto_pipeline_events`: written, read, and put together to runs. Pure.

    load ended after 12.3 s [run=20261129T211500-3f2a state=running steps=load:done,features:waiting step=load attempt=1 took_ms=12300]
    ─ for a person ────────  ─ for a program: name=value, without spaces ───────────────────────────────────────────────────────────────

Each event tells where all steps are, so that one that was lost leaves no hole behind the next one.
"""

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from klinestream.market.errors import RecordError
from klinestream.market.events import WORKFLOW, PipelineEvent

RUNS_MOST = 50
STEPS_MOST = 50
TEXT_MOST = 500
_DETAIL = re.compile(r"(?s)(.*?) ?\[([^\[\]]*)\]")
_VALUE = re.compile(r"[^\s=\[\]]*")


class State(enum.StrEnum):
    """Of a step, and of a run."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    KEPT = "kept"
    """Of a step: done by a former run, which asked for the same."""
    FAILED = "failed"
    STOPPED = "stopped"
    REPLACED = "replaced"
    """Of a run: before its end another was asked for."""


FINISHED = frozenset({State.DONE, State.KEPT})
ENDED = frozenset({State.DONE, State.FAILED, State.STOPPED, State.REPLACED})


class Happened(enum.StrEnum):
    """What an event tells."""

    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    STEP_KEPT = "step_kept"
    STEP_STARTED = "step_started"
    STEP_FAILED = "step_failed"
    STEP_STOPPED = "step_stopped"
    STEP_ENDED = "step_ended"
    RUN_ENDED = "run_ended"
    PONG = "pong"
    STATUS = "status"
    REFUSED = "refused"


OF_RUNS = frozenset(Happened) - {Happened.PONG, Happened.STATUS, Happened.REFUSED}


def detail_of(text: str, fields: Mapping[str, object]) -> str:
    """A text for a person, and fields for a program.

    >>> detail_of("load ended [well]", {"run": "r1", "took_ms": 7})
    'load ended (well) [run=r1 took_ms=7]'
    """
    for name, value in fields.items():
        if not _VALUE.fullmatch(str(value)):
            raise ValueError(f"{name}: expected a value without spaces, = and brackets, got {value!r}")
    plain = text.replace("[", "(").replace("]", ")")[:TEXT_MOST]
    return f"{plain} [{' '.join(f'{name}={value}' for name, value in fields.items())}]"


def read_detail(detail: str) -> tuple[str, dict[str, str]]:
    """Text and fields of an event's detail; raises RecordError.

    >>> read_detail("load ended (well) [run=r1 took_ms=7]")
    ('load ended (well)', {'run': 'r1', 'took_ms': '7'})
    """
    found = _DETAIL.fullmatch(detail)
    if found is None:
        raise RecordError("detail: expected a text, and then fields in brackets")
    pairs = [field.partition("=") for field in found[2].split(" ") if field]
    return found[1][:TEXT_MOST], {name: value for name, _, value in pairs}


@dataclass(slots=True)
class Step:
    """A step of a run, as far as it was told of."""

    name: str
    state: State = State.WAITING
    attempt: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    text: str = ""


@dataclass(slots=True)
class Run:
    """A run, as far as it was told of."""

    workflow: str
    run: str
    state: State
    started_ms: int
    told_ms: int
    ended_ms: int | None = None
    text: str = ""
    steps: dict[str, Step] = field(default_factory=dict)


class Runs:
    """Runs put together from events, which come in order and may come twice; the newest ones are held."""

    def __init__(self, most: int = RUNS_MOST) -> None:
        """Nothing was told yet."""
        self._most = most
        self._runs: dict[tuple[str, str], Run] = {}

    def take(self, event: PipelineEvent) -> None:
        """Take an event; those of others, and answers, say nothing of runs. Raises RecordError."""
        if not event.component.startswith(WORKFLOW) or event.event not in OF_RUNS:
            return
        text, fields = read_detail(event.detail)
        workflow, name = event.component.removeprefix(WORKFLOW), fields.get("run", "")
        if not name:
            raise RecordError("detail: expected run=")
        state, states = _state(fields.get("state", "")), list(_states(fields.get("steps", "")))
        run = self._runs.setdefault((workflow, name), Run(workflow, name, state, event.time_ms, event.time_ms))
        if event.time_ms < run.told_ms:
            return  # told again
        run.told_ms, run.state, run.text = event.time_ms, state, text
        run.ended_ms = event.time_ms if state in ENDED else None
        for step, where in states:
            run.steps.setdefault(step, Step(step)).state = where
        if (step := fields.get("step", "")) and (step in run.steps or len(run.steps) < STEPS_MOST):
            _take_step(run.steps.setdefault(step, Step(step)), event, text, fields)
        self._make_room()

    def newest(self, most: int = RUNS_MOST) -> list[Run]:
        """The newest runs, the newest first."""
        return sorted(self._runs.values(), key=lambda run: (run.started_ms, run.run), reverse=True)[:most]

    def _make_room(self) -> None:
        if len(self._runs) > self._most:
            oldest = min(self._runs, key=lambda key: (self._runs[key].started_ms, key))
            del self._runs[oldest]


def _take_step(step: Step, event: PipelineEvent, text: str, fields: Mapping[str, str]) -> None:
    if fields.get("attempt", "").isdecimal():
        step.attempt = int(fields["attempt"])
    if event.event == Happened.STEP_STARTED:
        step.started_ms, step.ended_ms = event.time_ms, None
    else:
        step.ended_ms, step.text = event.time_ms, text


def _state(word: str) -> State:
    try:
        return State(word)
    except ValueError:
        raise RecordError(f"detail: expected states of {', '.join(State)}") from None


def _states(steps: str) -> Iterable[tuple[str, State]]:
    for entry in steps.split(",")[:STEPS_MOST]:
        name, _, state = entry.partition(":")
        if name:
            yield name, _state(state)
