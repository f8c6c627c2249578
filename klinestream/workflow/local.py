"""`klinestream workflow run`: a run in this process, to its end; and single steps of it, as Kubernetes' Jobs run them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, stop_when_event_set, wait_fixed
from tenacity.nap import sleep_using_event

from klinestream.market.errors import ConfigError, WorkflowError
from klinestream.market.workflows import FINISHED
from klinestream.runtime.config import Config, file_of
from klinestream.runtime.signals import told_to_end
from klinestream.workflow.definition import Known, definition
from klinestream.workflow.plan import asked
from klinestream.workflow.process import Programs, sweep
from klinestream.workflow.runner import Runner, begin, locked
from klinestream.workflow.state import Folder, Run, checked_id
from klinestream.workflow.telling import Teller

_TELL_S = 5.0
_LOOK_S = 1.0
_LOCK_S = 60.0
"""The step before may take that long to let go, once it has noted that it is done."""

Show = Callable[[Run, str], None]


def run(config: Config, wrong: Known, name: str, parameters: Sequence[str], show: Show, *, anew: bool = False) -> Run:
    """Run a workflow; one that was interrupted goes on, and unless `anew` one that failed or was stopped.

    SIGTERM and SIGINT interrupt it. Raises ConfigError, WorkflowError.
    """
    known = definition(config.workflow.definitions, name, wrong)
    given = asked(known, parameters)
    folder = Folder(config.workflow.state_dir, name)
    with _running(config, folder, show) as runner:
        ended = runner.take_on(begin(folder, known, given, _now_ms(), anew=anew))
        folder.forget(config.workflow.keep_runs)
    return ended


def run_step(config: Config, wrong: Known, name: str, step: str, *, run_id: str, parameters: Sequence[str], show: Show) -> Run:
    """Run one step of the run of this name, once; one that is done isn't run again. Raises ConfigError, WorkflowError."""
    known = definition(config.workflow.definitions, name, wrong)
    given = asked(known, parameters)
    folder = Folder(config.workflow.state_dir, name)
    place = _place(name, [each.name for each in known.steps], step)
    with _running(config, folder, show, _LOCK_S) as runner:
        held = folder.run_named(checked_id(run_id))
        if held is not None and not held.asks_for_same(known.digest, given):
            raise WorkflowError(f"run {run_id} was asked for with other parameters, or by another definition: name a new one by --run")
        if held is not None and held.steps[place].state in FINISHED:
            return held
        if held is not None and held != folder.run():
            raise WorkflowError(f"run {run_id} is {held.state}, and another one is the newest: start a new one")
        if (next_place := held.next if held is not None else 0) != place:
            missing = known.steps[next_place or 0].name
            raise WorkflowError(f"expected all steps before {step} to be done in run {run_id}, but {missing} isn't")
        # Only now: it may put another run in the place of the newest one.
        begun = begin(folder, known, given, _now_ms(), run_id=run_id)
        if not begun.goes_on:
            runner.begun(begun)
        found = runner.step(begun.run, place, attempts=1)
        if found.next is None:
            found = runner.done(found)
            folder.forget(config.workflow.keep_runs)
    return found


def wait(config: Config, name: str, step: str, *, run_id: str, timeout_s: float, ending: threading.Event) -> None:
    """Wait until all steps before this one are done. Raises WorkflowError where that takes too long."""
    folder = Folder(config.workflow.state_dir, name)
    deadline_s = time.monotonic() + timeout_s
    while not ending.is_set():
        found = folder.run_named(run_id)
        if found is not None:
            place = _place(name, [each.planned.name for each in found.steps], step)
            if all(each.state in FINISHED for each in found.steps[:place]):
                return
        if time.monotonic() > deadline_s:
            where = f"{_next(found)} isn't" if found is not None else "it hasn't begun"
            raise WorkflowError(f"expected all steps before {step} to be done in run {run_id} within {timeout_s:g} s, but {where}")
        ending.wait(_LOOK_S)
    raise WorkflowError("stopped, as somebody asked")


@contextmanager
def _running(config: Config, folder: Folder, show: Show, patience_s: float = 0.0) -> Iterator[Runner]:
    """A runner that has the workflow for itself, and of which all that is told is shown."""
    with told_to_end() as ending:
        patient = Retrying(
            stop=stop_after_delay(patience_s) | stop_when_event_set(ending),
            wait=wait_fixed(_LOOK_S),
            retry=retry_if_exception_type(WorkflowError),
            sleep=sleep_using_event(ending),
            reraise=True,
        )
        lock = patient(locked, folder)
        teller = Teller(config.kafka, _now_ms)
        teller.also(lambda happened, run, text, place: show(run, text))  # noqa: ARG005  # as a teller tells it
        try:
            sweep(str(folder.root))
            programs = Programs(str(folder.root), config.workflow.stop_s, file_of(config))
            runner = Runner(folder, programs, teller, _now_ms, ending)
            runner.keeps_running = True
            yield runner
        finally:
            lock.release()
            teller.close(_TELL_S)


def _place(name: str, steps: Sequence[str], step: str) -> int:
    if step not in steps:
        raise ConfigError(f"expected a step of {name}, {', '.join(steps)}; got {step!r}")
    return steps.index(step)


def _next(found: Run) -> str:
    return "none" if found.next is None else found.steps[found.next].planned.name


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
