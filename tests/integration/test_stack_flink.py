"""The Flink cluster from the wheel: it runs a PyFlink job with Python workers, and gives it back after kills."""

from pathlib import Path

import psutil

from klinestream.stack.jobs import Job
from tests.eventually import eventually
from tests.stack import TestFlink

ENDLESS = '''
"""Numbers without end, each through Python."""
from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

environment = StreamExecutionEnvironment.get_execution_environment()
tables = StreamTableEnvironment.create(environment)
tables.execute_sql("CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '20')")
tables.execute_sql("CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole')")
numbers = tables.to_data_stream(tables.from_path("numbers"))
doubled = numbers.map(lambda row: row, output_type=Types.ROW_NAMED(["n"], [Types.LONG()]))
tables.create_statement_set().add_insert("nowhere", tables.from_data_stream(doubled)).attach_as_datastream()
environment.execute("endless")
'''


def test_a_job_runs_survives_kills_and_resumes(flink: TestFlink, tmp_path: Path) -> None:
    """A submitted job survives its task manager, and resumes from its newest checkpoint on a new job manager."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    job_id = flink.submit(script)
    eventually(lambda: flink.cluster.checkpoints_completed(job_id) > 0, 30, "a checkpoint completes")

    workers = python_workers(flink.task_manager_pid)
    assert workers, "expected Python workers below the task manager"
    flink.kill_task_manager()
    eventually(lambda: not any(worker.is_running() for worker in workers), 5, "the workers are gone with their task manager")
    flink.start_task_manager()
    done = flink.cluster.checkpoints_completed(job_id)
    eventually(lambda: flink.cluster.checkpoints_completed(job_id) > done, 60, "checkpoints go on after the task manager was killed")

    flink.kill_job_manager()
    flink.start_job_manager()
    assert flink.cluster.jobs() == []
    newest = flink.newest_checkpoint()
    resumed = flink.submit(script, restore_from=newest)
    eventually(lambda: flink.cluster.checkpoints_completed(resumed) > 0, 30, "the resumed job completes a checkpoint")
    assert number(flink.newest_checkpoint()) > number(newest)
    assert [job.name for job in running(flink)] == ["endless"]
    flink.cancel(resumed)


def python_workers(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children(recursive=True) if "python" in child.name()]


def running(flink: TestFlink) -> list[Job]:
    return [job for job in flink.cluster.jobs() if not job.ended]


def number(checkpoint: str) -> int:
    return int(checkpoint.rpartition("chk-")[2])
