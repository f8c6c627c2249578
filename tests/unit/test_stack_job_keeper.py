"""The keeper of a job: whatever its folders do, it tries again, and says why. Time is ours here."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from klinestream.stack.job_keeper import JobKeeper
from klinestream.stack.jobs import Cluster
from klinestream.stack.part import State
from klinestream.stack.process import Command
from tests.eventually import eventually

NOW_S = 1000.0


class Kept:
    """A keeper whose client is a piece of Python, over a cluster that is away, with what it told."""

    def __init__(self, folder: Path, code: str) -> None:
        """Submits nothing yet."""
        self.told: list[str] = []
        self.restored: list[str] = []
        self.logs = folder / "logs"
        self.checkpoints = folder / "checkpoints"
        self.cluster = Cluster("http://127.0.0.1:1")
        self._code = code
        self.keeper = JobKeeper(
            "windows",
            title="klinestream windows",
            submit=self._submit,
            cluster=self.cluster,
            checkpoints=self.checkpoints,
            logs=self.logs,
            mark=f"{folder}#1",
            tell=self.told.append,
        )

    def _submit(self, restore_from: str) -> Command:
        self.restored.append(restore_from)
        return Command("submit", (sys.executable, "-c", self._code))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Callable[[str], Kept]]:
    """Keepers to end after the test, by their client's code."""
    made: list[Kept] = []

    def make(code: str) -> Kept:
        made.append(Kept(tmp_path, code))
        return made[-1]

    yield make
    for one in made:
        one.keeper.kill()
        one.cluster.close()


def test_a_log_that_can_t_be_written_is_told(kept: Callable[[str], Kept]) -> None:
    """Without its folder of logs the job isn't submitted, the reason is told, and it is tried again."""
    job = kept("")
    job.keeper.tick(NOW_S, may_start=True)
    assert job.keeper.state is State.BACKING_OFF
    assert "No such file or directory" in job.told[0]


def test_a_log_that_was_removed_is_told(kept: Callable[[str], Kept]) -> None:
    """What `flink run` said can't be read: the job counts as lost, and is looked for and submitted again."""
    job = kept("import time; time.sleep(0.2)")
    job.logs.mkdir()
    job.keeper.tick(NOW_S, may_start=True)
    (job.logs / "windows.log").unlink()

    def lost() -> bool:
        job.keeper.tick(NOW_S, may_start=True)
        return job.keeper.state is State.BACKING_OFF

    eventually(lost, 60, "the client has ended")
    assert "No such file or directory" in job.told[0]


def test_a_checkpoint_is_named_as_its_folder_is(kept: Callable[[str], Kept]) -> None:
    """The job resumes from where its newest checkpoint lies, whatever is in that path: Flink decodes nothing."""
    job = kept("")
    job.logs.mkdir()
    newest = job.checkpoints / "me@home" / "chk-1"
    newest.mkdir(parents=True)
    (newest / "_metadata").touch()
    job.keeper.tick(NOW_S, may_start=True)
    assert job.restored == [f"file://{newest}"]
