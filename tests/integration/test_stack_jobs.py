"""`klinestream job` on a real cluster: submit, list, stop with a savepoint, resume from it, cancel."""

import os
import subprocess
from pathlib import Path

import pytest

from klinestream.market.topics import TOPICS
from klinestream.runtime.config import load
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin
from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from tests.eventually import eventually
from tests.stack import TestBroker, TestFlink

_SUBMIT_S = 180


def test_a_job_is_submitted_stopped_resumed_and_cancelled(broker: TestBroker, flink: TestFlink, tmp_path: Path) -> None:
    """The windows job, its code shipped along, goes through its whole life from the command line."""
    with TopicAdmin(KafkaConfig(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.create(TOPICS)
    config = load(None, kafka={"bootstrap_servers": broker.bootstrap_servers}, stack={"state_dir": str(tmp_path)})

    def job(*arguments: str) -> str:
        done = subprocess.run(
            [scripts() / "klinestream", "job", *arguments, "--jobmanager", flink.rest_url],
            env=os.environ | configuration(config),
            capture_output=True,
            text=True,
            timeout=_SUBMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    first = job("windows", "--ship")
    eventually(lambda: flink.cluster.job(first).flows, 120, "the job runs")
    assert f"{first}  RUNNING" in job("list")
    savepoint = job("stop", first)
    assert flink.cluster.job(first).ended

    second = job("windows", "--savepoint", savepoint)
    eventually(lambda: flink.cluster.job(second).flows, 120, "the job runs again")
    assert (flink.layout.checkpoints / "windows" / second).is_dir()  # where a keeper looks
    job("cancel", second)
    eventually(lambda: flink.cluster.job(second).ended, 60, "the job has ended")


@pytest.mark.soak
def test_a_job_that_is_kept_comes_back_after_its_job_manager(broker: TestBroker, flink: TestFlink, tmp_path: Path) -> None:
    """`--keep` submits it again to a job manager that knows nothing of it."""
    with TopicAdmin(KafkaConfig(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.create(TOPICS)
    config = load(None, kafka={"bootstrap_servers": broker.bootstrap_servers}, stack={"state_dir": str(tmp_path)})
    kept = [
        scripts() / "klinestream",
        "job",
        "windows",
        "--keep",
        "--checkpoints",
        flink.layout.checkpoints,
        "--jobmanager",
        flink.rest_url,
    ]
    keeper = subprocess.Popen(kept, env=os.environ | configuration(config), stderr=subprocess.DEVNULL)
    try:
        third = eventually(lambda: running(flink), 120, "the kept job runs")
        flink.kill_job_manager()
        flink.start_job_manager()
        fourth = eventually(lambda: running(flink), 120, "the kept job runs on the new job manager")
    finally:
        keeper.terminate()
        assert keeper.wait(10) == 0
    assert third != fourth
    flink.cancel(fourth)


def running(flink: TestFlink) -> str:
    """The id of a windows job all of whose tasks run; empty if there is none."""
    return next((job.id for job in flink.cluster.jobs() if job.name == "klinestream windows" and job.flows), "")


def test_a_cluster_that_is_away_is_one_clear_line(tmp_path: Path) -> None:
    """An address where no cluster is gives one line that names it, and exit code 1."""
    done = subprocess.run(
        [scripts() / "klinestream", "job", "list", "--jobmanager", "127.0.0.1:1"],
        cwd=tmp_path,
        env=os.environ | configuration(load(None)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("klinestream: expected Flink's REST interface at http://127.0.0.1:1: ")
    assert "Traceback" not in done.stderr
