"""The steps of a run on a terminal, each with its state and time; where there is no terminal, a line an event."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from klinestream.market.workflows import State
    from klinestream.workflow.state import Run


class Shown:
    """Shows a run as it goes on, within a block."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = Console(stderr=True)
        columns = (
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=self._console)
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, State] = {}

    def __enter__(self) -> "Shown":
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, run: "Run", text: str) -> None:
        """Something happened to the run."""
        from klinestream.market.workflows import FINISHED
        from klinestream.market.workflows import State as Reached

        # The table is of the run that begins, not of the one in whose place it does.
        if not self._console.is_terminal or run.state is Reached.REPLACED:
            typer.echo(f"{run.workflow} {run.id}: {text}", err=True)
            return
        for step in run.steps:
            name = step.planned.name
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=1, start=False, state="")
            task, was, self._states[name] = self._tasks[name], self._states.get(name, Reached.WAITING), step.state
            if step.state is not was:
                if was is not Reached.RUNNING and step.state is not Reached.WAITING:
                    self._progress.reset(task, start=True)
                if step.state is not Reached.RUNNING:
                    self._progress.stop_task(task)
            self._progress.update(task, state=f"{step.state} {step.reason}".strip(), completed=step.state in FINISHED)
