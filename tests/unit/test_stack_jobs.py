"""Jobs from outside: which checkpoint is the newest, what `flink run` said, and where a cluster is."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from klinestream.cli.main import app
from klinestream.market.errors import ConfigError, StackError
from klinestream.runtime.config import Config, load
from klinestream.stack import commands, flink, jars, jobs, submission
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command
from klinestream.stack.submission import rest_url


def checkpoint(folder: Path, run: str, number: int, complete: bool = True) -> Path:
    made = folder / run / f"chk-{number}"
    made.mkdir(parents=True)
    if complete:
        (made / "_metadata").touch()
    return made


def test_the_newest_complete_checkpoint_of_all_runs(tmp_path: Path) -> None:
    """Numbers count over all runs, as numbers; a checkpoint that was cut off does not count; none is None."""
    assert jobs.newest_checkpoint(tmp_path) is None
    checkpoint(tmp_path, "first", 9)
    newest = checkpoint(tmp_path, "second", 10)
    checkpoint(tmp_path, "second", 11, complete=False)
    assert jobs.newest_checkpoint(tmp_path) == newest


def test_the_job_id_is_read_from_what_flink_run_prints() -> None:
    """The id is found among warnings; without one the error holds the causes and not the frames."""
    job_id = "0123456789abcdef0123456789abcdef"
    assert jobs.job_id_in(f"WARNING: Unknown module\nJob has been submitted with JobID {job_id}\n") == job_id
    with pytest.raises(StackError) as raised:
        jobs.job_id_in("WARNING: Unknown module\njava.lang.Error: broken\n\tat a.b.C\nCaused by: no slots\n\t... 3 more\n")
    assert "Caused by: no slots" in str(raised.value)
    assert "at a.b.C" not in str(raised.value)


@pytest.mark.parametrize("address", ["flink.example:8081", "http://flink.example:8081", "http://flink.example:8081/"])
def test_a_cluster_is_found_by_host_and_port(address: str) -> None:
    """An address with or without scheme means the same cluster."""
    assert rest_url(Config(), address) == "http://flink.example:8081"


def test_without_an_address_the_local_cluster_is_meant() -> None:
    """The default is the local stack's job manager."""
    assert rest_url(Config(), "") == f"http://127.0.0.1:{Config().stack.flink_port}"


@pytest.mark.parametrize("address", ["flink.example", "ftp://flink.example:1", "http://:8081"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """What is no host and port raises ConfigError that shows the form."""
    with pytest.raises(ConfigError, match=r"host:port"):
        rest_url(Config(), address)


class StandinCluster:
    """Says where it keeps checkpoints, and no more."""

    folder = "file:///checkpoints"

    def __init__(self, rest_url: str) -> None:
        self.rest_url = rest_url

    def checkpoints(self, folder: str) -> str:
        return f"{self.folder}/{folder}" if self.folder else ""

    def close(self) -> None:
        pass


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """What was given to `flink run`, which isn't run."""
    found: list[Command] = []

    def run(command: Command) -> str:
        found.append(command)
        return "0" * 32

    monkeypatch.setattr(jobs, "Cluster", StandinCluster)
    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(jars, "fetch", lambda _: None)
    monkeypatch.setattr(flink, "prepare_client", lambda *_: None)
    return found


@pytest.mark.parametrize(("prefix", "folder"), [("", "windows"), ("again.", "again.windows")])
def test_a_job_that_a_person_submits_keeps_its_checkpoints_where_its_keeper_looks(
    prefix: str, folder: str, submitted: list[Command], tmp_path: Path
) -> None:
    """From a savepoint, too: the keeper would else resume what the job had left before. A job over a replay has a folder of its own."""
    config = load(None, stack={"state_dir": str(tmp_path)}, kafka={"topic_prefix": prefix})
    submission.submit("windows", config, "flink.example:8081", "file:///savepoints/savepoint-1")
    [command] = submitted
    assert f"-Dexecution.checkpointing.dir=file:///checkpoints/{folder}" in command.argv


def test_on_a_cluster_that_keeps_no_checkpoints_none_are_asked_for(
    submitted: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has no folder for them, a job gets none of its own."""
    monkeypatch.setattr(StandinCluster, "folder", "")
    submission.submit("windows", load(None, stack={"state_dir": str(tmp_path)}), "flink.example:8081", "")
    assert not [word for word in submitted[0].argv if "checkpointing.dir" in word]


def test_a_job_that_is_kept_takes_no_savepoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be resumed from the savepoint once, and from something else ever after: whoever asks for both is told."""
    monkeypatch.setattr(submission, "keep", lambda *_: None)
    refused = CliRunner().invoke(app, ["job", "windows", "--keep", "--checkpoints", str(tmp_path), "--savepoint", "file:///s"])
    assert isinstance(refused.exception, ConfigError)
    assert "expected --keep or --savepoint" in str(refused.exception)


@pytest.mark.parametrize("character", "@+(),=ü%#?[&;'!~")
def test_flink_is_told_of_a_folder_by_its_own_name(character: str, tmp_path: Path) -> None:
    """Flink decodes nothing in an address: a checkpoint, the folder of checkpoints and that of savepoints stand there as they are."""
    layout = Layout.of(tmp_path / f"a{character}b")
    flink.prepare(layout, flink.Ports(1, 2), 1)
    configured = (layout.flink_conf / "config.yaml").read_text()
    assert f"execution.checkpointing.dir: file://{layout.checkpoints}\n" in configured
    assert f"execution.checkpointing.savepoint-dir: file://{layout.savepoints}\n" in configured
    newest = checkpoint(layout.checkpoints / "windows", "run", 1)
    assert flink.address(newest) == f"file://{newest}"
    told = commands.submit("windows", Config(), layout, flink.address(newest)).argv
    assert f"-Dexecution.checkpointing.dir=file://{layout.checkpoints}/windows" in told
