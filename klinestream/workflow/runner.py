"""Runs a workflow's steps in order, and goes on where it was interrupted.

    waiting ─► running ─► done             each arrow is in the state's file before the next begins
                 │ ▲ └──► failed           after its last attempt; asked for again, it is tried again
                 ▼ │
                stopped

What is done is never done again in the same run. A step that was under way when its runner was killed is done again: each command gives
the same however often it is begun.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential, wait_random
from tenacity.nap import sleep_using_event

from klinestream.market.errors import WorkflowError
from klinestream.market.workflows import FINISHED, Happened, State
from klinestream.runtime.lock import FileLock, LockedError
from klinestream.workflow.definition import Definition
from klinestream.workflow.plan import plan, values
from klinestream.workflow.process import StoppedError
from klinestream.workflow.state import Folder, Reached, Run, new_id

log = structlog.get_logger()

_ALIVE = frozenset({State.RUNNING, State.FAILED, State.STOPPED})


class Program(Protocol):
    """What runs a step's command."""

    def run(self, argv: Sequence[str], log: Path, timeout_s: float, stop: threading.Event) -> None:
        """To its end. Raises WorkflowError, StoppedError."""


class Tell(Protocol):
    """What is told of a run."""

    def __call__(self, happened: Happened, run: Run, text: str, place: int | None = None, **fields: object) -> None:
        """At once, or later; it holds nothing up."""


def locked(folder: Folder) -> FileLock:
    """The only one at this workflow. Raises WorkflowError if there is another."""
    try:
        return folder.lock()
    except LockedError as error:
        raise WorkflowError(
            f"{folder.workflow} is under way already, by process {error.holder}: wait for it, or end that process; "
            f"if that is a runner, `klinestream workflow stop {folder.workflow}`"
        ) from None


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that begins, or goes on."""

    run: Run
    goes_on: bool
    replaced: Run | None = None
    """The run in whose place it begins, if that wasn't done: its end is still to be told."""


def begin(
    folder: Folder,
    definition: Definition,
    asked: Mapping[str, str],
    now_ms: int,
    *,
    run_id: str = "",
    command: str = "",
    anew: bool = False,
) -> Begun:
    """The run that is meant, in the state's file: a new one, or the newest one if it isn't done and was asked for the same.

    With `run_id` the run of this name. With `anew` what failed or was stopped stays so, and only what was interrupted goes on: by
    then its times are those of another day. Needs the lock. Raises ConfigError.
    """
    held = folder.run()
    same = held is not None and held.asks_for_same(definition.digest, asked) and (_is_interrupted(held) if anew else held.state in _ALIVE)
    if held is not None and (held.id == run_id if run_id else same):
        steps = tuple(_waiting(step) for step in held.steps)
        run = replace(held, steps=steps, state=State.RUNNING, ended_ms=None, reason="", command=command or held.command)
        folder.put(run)
        return Begun(run, goes_on=True)
    parameters = values(definition, asked, now_ms)
    steps = tuple(Reached(step) for step in plan(definition, parameters, folder.outs))
    run = Run(definition.name, run_id or new_id(now_ms), definition.digest, dict(asked), parameters, steps, now_ms, command=command)
    replaced = None
    if held is not None and held.state in _ALIVE:
        replaced = replace(held, state=State.REPLACED, ended_ms=now_ms, reason=f"run {run.id} was asked for instead")
        folder.put(replaced)
    folder.put(run)
    return Begun(run, goes_on=False, replaced=replaced)


def _is_interrupted(run: Run) -> bool:
    """And not as often as its step may be tried, as one is that takes more memory than there is."""
    step = run.steps[run.next] if run.next is not None else None
    return run.state is State.RUNNING and (step is None or step.attempts < step.planned.attempts)


def _waiting(step: Reached) -> Reached:
    return step if step.state in FINISHED else replace(step, state=State.WAITING, reason="")


class Runner:
    """Takes a run to its end. Needs the lock; not for several threads at once."""

    _run: Run

    def __init__(self, folder: Folder, program: Program, tell: Tell, now_ms: Callable[[], int], stop: threading.Event) -> None:
        """`stop` ends the running step, and the run with it."""
        self._folder = folder
        self._program = program
        self._tell = tell
        self._now_ms = now_ms
        self._stop = stop
        self.keeps_running = False
        """Whether a run that is stopped goes on by itself at the next start: it is the runner that ends, not the run."""

    def take_on(self, begun: Begun) -> Run:
        """Run what isn't done, step after step; the run as it ended."""
        run = begun.run
        if begun.goes_on:
            done = sum(step.state in FINISHED for step in run.steps)
            self._tell(Happened.RUN_RESUMED, run, f"run goes on after {done} of {len(run.steps)} steps")
        else:
            self.begun(begun)
        while (place := run.next) is not None:
            run = self.step(run, place)
            if run.steps[place].state not in FINISHED:
                return run
        return self.done(run)

    def begun(self, begun: Begun) -> None:
        """Tell that it began, and first how the one ended in whose place it did."""
        if begun.replaced is not None:
            self._tell_end(begun.replaced)
        self._tell(Happened.RUN_STARTED, begun.run, f"run of {len(begun.run.steps)} steps started")

    def done(self, run: Run) -> Run:
        """The run, all of whose steps are done."""
        return self._ended(run, State.DONE, "all steps are done")

    def step(self, run: Run, place: int, attempts: int | None = None) -> Run:
        """Run one step, with all its attempts; the run as it is then."""
        planned = run.steps[place].planned
        if self._folder.is_kept(planned):
            return self._put(run.with_step(place, state=State.KEPT), Happened.STEP_KEPT, place, "kept, since a former run made it")
        retrying = Retrying(
            stop=stop_after_attempt(attempts or planned.attempts),
            wait=wait_exponential(planned.backoff_s, planned.backoff_most_s) + wait_random(0, planned.backoff_s / 4),
            retry=retry_if_exception_type(WorkflowError),
            sleep=sleep_using_event(self._stop),
            before_sleep=lambda state: self._again(place, state),
            reraise=True,
        )
        self._run = run
        try:
            retrying(self._attempt, place)
        except WorkflowError as error:
            self._fail(place, str(error))
            return self._ended(self._run, State.FAILED, f"step {planned.name} failed: {error}")
        except StoppedError:
            return self._stopped(place)
        self._folder.keep(planned, run.id)
        took_ms = self._now_ms() - (self._run.steps[place].started_ms or 0)
        done = self._run.with_step(place, state=State.DONE, ended_ms=self._now_ms())
        return self._put(done, Happened.STEP_ENDED, place, f"ended after {took_ms / 1000:.1f} s", took_ms=took_ms)

    def _attempt(self, place: int) -> None:
        if self._stop.is_set():
            raise StoppedError
        step = self._run.steps[place]
        begun = self._run.with_step(place, state=State.RUNNING, attempts=step.attempts + 1, started_ms=self._now_ms(), reason="")
        self._run = self._put(begun, Happened.STEP_STARTED, place, "started")
        log.info("step started", workflow=begun.workflow, run=begun.id, step=step.planned.name, argv=" ".join(step.planned.argv))
        file = self._folder.log(begun.id, step.planned.name)
        self._program.run(step.planned.argv, file, step.planned.timeout_s, self._stop)

    def _again(self, place: int, state: RetryCallState) -> None:
        reason = str(state.outcome.exception()) if state.outcome is not None else ""
        wait_s = state.next_action.sleep if state.next_action is not None else 0.0
        failed = self._run.with_step(place, state=State.WAITING, reason=reason)
        text = f"failed, and is tried again in {wait_s:.1f} s: {reason}"
        self._run = self._put(failed, Happened.STEP_FAILED, place, text, again_ms=round(wait_s * 1000))

    def _fail(self, place: int, reason: str) -> None:
        failed = self._run.with_step(place, state=State.FAILED, ended_ms=self._now_ms(), reason=reason)
        self._run = self._put(failed, Happened.STEP_FAILED, place, f"failed: {reason}")

    def _stopped(self, place: int) -> Run:
        if self.keeps_running:
            log.info("run is left where it is", workflow=self._run.workflow, run=self._run.id, step=self._run.steps[place].planned.name)
            return self._run
        stopped = self._run.with_step(place, state=State.STOPPED, ended_ms=self._now_ms())
        self._run = self._put(stopped, Happened.STEP_STOPPED, place, "stopped")
        return self._ended(self._run, State.STOPPED, "stopped, as somebody asked")

    def _ended(self, run: Run, state: State, reason: str) -> Run:
        ended = replace(run, state=state, ended_ms=self._now_ms(), reason=reason)
        self._folder.put(ended)
        log.info("run ended", workflow=run.workflow, run=run.id, state=state, reason=reason)
        self._tell_end(ended)
        return ended

    def _tell_end(self, run: Run) -> None:
        self._tell(Happened.RUN_ENDED, run, f"run ended: {run.reason}", took_ms=run.ended_ms - run.started_ms if run.ended_ms else 0)

    def _put(self, run: Run, happened: Happened, place: int, text: str, **fields: Any) -> Run:
        self._folder.put(run)
        self._tell(happened, run, f"{run.steps[place].planned.name} {text}", place, **fields)
        return run
