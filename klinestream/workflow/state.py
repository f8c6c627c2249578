"""What runs have reached, in files that appear whole or not at all: who starts anew goes on from them.

STATE/train/_lock                     one process at a time
            run.json                  the newest run: its commands, and where each step is
            done/DIGEST.json          a step that has made its folder, for every run that asks for the same
            out/features-DIGEST/      that folder
            runs/RUN.json             former runs; logs/RUN/STEP.log what the steps have printed
"""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from klinestream.archive.files import Files
from klinestream.market.errors import ArchiveError, ConfigError
from klinestream.market.workflows import ENDED, FINISHED, State
from klinestream.runtime.lock import FileLock, LockedError
from klinestream.workflow.plan import Planned

VERSION = 1
_RUN, _LOCK = "run.json", "_lock"
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,23}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a step is."""

    planned: Planned
    state: State = State.WAITING
    attempts: int = 0
    """Begun so far, those that were interrupted too."""
    started_ms: int | None = None
    ended_ms: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a workflow: what was asked, the commands that followed, and how far they have come."""

    workflow: str
    id: str
    definition: str
    """Its digest."""
    asked: Mapping[str, str]
    parameters: Mapping[str, str]
    steps: tuple[Reached, ...]
    started_ms: int
    state: State = State.RUNNING
    ended_ms: int | None = None
    reason: str = ""
    command: str = ""
    """Id of the command that started it."""

    def with_step(self, place: int, **changes: Any) -> "Run":
        """The run with one step changed."""
        return replace(self, steps=(*self.steps[:place], replace(self.steps[place], **changes), *self.steps[place + 1 :]))

    @property
    def next(self) -> int | None:
        """The first step that isn't done."""
        return next((place for place, step in enumerate(self.steps) if step.state not in FINISHED), None)

    def asks_for_same(self, definition: str, asked: Mapping[str, str]) -> bool:
        """Whether it was asked for the same, by the same definition: then it goes on in place of a new one."""
        return self.definition == definition and dict(self.asked) == dict(asked)


class Folder:
    """The state of one workflow. Raises ArchiveError where it can't be read or written."""

    def __init__(self, root: Path, workflow: str) -> None:
        """Nothing is made yet."""
        self.root = root.absolute() / workflow
        self.workflow = workflow
        self._files = Files(str(self.root))

    @property
    def outs(self) -> Path:
        """Where steps make their folders."""
        return self.root / "out"

    def lock(self) -> FileLock:
        """Keep others from running it. Raises LockedError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return FileLock(self.root / _LOCK)
        except LockedError:
            raise
        except OSError as error:
            raise ConfigError(f"workflow.state_dir: expected to write to {self.root}: {error}; give room or permission") from None

    def log(self, run: str, step: str) -> Path:
        """The file of what a step prints."""
        return self.root / "logs" / run / f"{step}.log"

    def run(self) -> Run | None:
        """The newest run."""
        return self._read(_RUN)

    def run_named(self, run: str) -> Run | None:
        """One of the runs that are remembered."""
        newest = self.run()
        return newest if newest is not None and newest.id == run else self._read(f"runs/{run}.json")

    def put(self, run: Run) -> None:
        """Remember how far the newest run is."""
        body = orjson.dumps({"version": VERSION, **asdict(run)}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        if run.state in ENDED:
            self._files.put(f"runs/{run.id}.json", body)
        self._files.put(_RUN, body)

    def is_kept(self, step: Planned) -> bool:
        """A former run has made the step's folder, and it is there still."""
        return bool(step.out) and self._files.read(f"done/{step.digest}.json") is not None and Path(step.out).is_dir()

    def keep(self, step: Planned, run: str) -> None:
        """The step's folder is whole, for this run and later ones."""
        if step.out:
            self._files.put(f"done/{step.digest}.json", orjson.dumps({"step": step.name, "run": run, "argv": step.argv}))

    def former(self) -> list[Run]:
        """Runs that ended, the newest first; names tell nothing of age, since runs may be given any."""
        found = (self._read(f"runs/{path.name}") for path in (self.root / "runs").glob("*.json"))
        return sorted((run for run in found if run is not None), key=lambda run: (run.started_ms, run.id), reverse=True)

    def forget(self, keep: int) -> None:
        """Remove what only runs before the newest `keep` have made."""
        former = self.former()
        newest = self.run()
        held = [*former[:keep], *([newest] if newest is not None else [])]
        for run in former[keep:]:
            shutil.rmtree(self.root / "logs" / run.id, ignore_errors=True)
            (self.root / "runs" / f"{run.id}.json").unlink(missing_ok=True)
        digests = {step.planned.digest for run in held for step in run.steps}
        for done in (self.root / "done").glob("*.json"):
            if done.stem not in digests:
                done.unlink(missing_ok=True)
        outs = {Path(step.planned.out).name for run in held for step in run.steps if step.planned.out}
        for out in self.outs.iterdir() if self.outs.is_dir() else ():
            if out.name not in outs:
                shutil.rmtree(out, ignore_errors=True)

    def _read(self, place: str) -> Run | None:
        body = self._files.read(place)
        if body is None:
            return None
        try:
            return _run_of(orjson.loads(body))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{self.root / place} is no state of a run ({error!r}): remove it, and start the workflow anew") from None


def _run_of(plain: dict[str, Any]) -> Run:
    if plain.pop("version") != VERSION:
        raise ValueError("version")
    steps = tuple(_reached_of(step) for step in plain["steps"])
    return Run(**{**plain, "steps": steps, "state": State(plain["state"])})


def _reached_of(plain: dict[str, Any]) -> Reached:
    planned = Planned(**{**plain["planned"], "argv": tuple(plain["planned"]["argv"])})
    return Reached(**{**plain, "planned": planned, "state": State(plain["state"])})


def new_id(now_ms: int) -> str:
    """A name for a run that sorts by time.

    >>> new_id(0)[:16]
    '19700101t000000-'
    """
    return f"{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dt%H%M%S}-{os.urandom(2).hex()}"


def checked_id(name: str) -> str:
    """The same, if it can name a run wherever runs have names: in files, in events, on Kubernetes. Raises ConfigError."""
    if not _ID.fullmatch(name):
        raise ConfigError(f"--run: expected up to 25 lower case letters, digits and -, beginning and ending without -, got {name!r}")
    return name
