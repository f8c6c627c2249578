"""A job on any cluster, submitted from here as a user would: `flink run`, with the connector and, if asked for, our code."""

import tempfile
import threading
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from klinestream.market.errors import ConfigError, StackError
from klinestream.runtime.config import Config
from klinestream.stack import commands, flink, jars, jobs
from klinestream.stack.layout import Layout
from klinestream.stack.part import wait_before_restart

# What the job's Python operators import of ours.
_SHIPPED = ("klinestream", "jobs")
_KINDS = ("*.py", "*.sql")
_KEEP_EVERY_S = 2.0

log = structlog.get_logger()


def rest_url(config: Config, address: str) -> str:
    """The REST interface: `address` (host:port or http://host:port), or the local stack's. Raises ConfigError."""
    if not address:
        return f"http://{flink.HOST}:{config.stack.flink_port}"
    whole = address if "://" in address else f"http://{address}"
    parts = urlsplit(whole)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.port:
        raise ConfigError(f"expected --jobmanager as host:port or http://host:port, got {address}")
    return whole.rstrip("/")


def submit(job: str, config: Config, address: str, restore_from: str, *, ship: bool = False) -> str:
    """Submit and return the job's id. Raises StackError with what `flink run` said.

    Its checkpoints go where `keep` looks for them: else a job that a person has submitted would be resumed from an older one's.
    """
    layout = Layout.of(config.stack.state_dir)
    jars.fetch(layout.jars)
    url = rest_url(config, address)
    with tempfile.TemporaryDirectory(prefix="klinestream-") as scratch:
        folder = Path(scratch)
        flink.prepare_client(folder, url)
        command = jobs.submit_command(
            commands.script_of(job),
            rest_url=url,
            connector=jars.connector(layout.jars),
            environment=flink.environment(layout) | {"FLINK_CONF_DIR": str(folder)} | commands.configuration(config),
            restore_from=restore_from,
            checkpoints=_checkpoints(url, _folder(job, config)),
            python_files=_archive(folder / "klinestream.zip") if ship else None,
        )
        return jobs.run(command)


def keep(job: str, config: Config, address: str, checkpoints: Path, stopping: threading.Event) -> None:
    """Submit the job whenever the cluster doesn't run it, from its newest checkpoint, until `stopping` is set.

    `checkpoints` is the cluster's folder as seen from here; the job has one of its own in it. For a cluster whose job manager
    forgets its jobs when it dies, as a standalone one does.
    """
    cluster = jobs.Cluster(rest_url(config, address))
    failures = 0
    while not stopping.wait(_KEEP_EVERY_S if not failures else wait_before_restart(failures + 1)):
        try:
            if any(found.name == jobs.name_of(job, config.kafka.topic_prefix) and not found.ended for found in cluster.jobs()):
                failures = 0
                continue
            newest = jobs.newest_checkpoint(checkpoints / _folder(job, config))
            job_id = submit(job, config, address, flink.address(newest) if newest else "")
            log.info("job submitted", job=job, id=job_id, resumed_from=str(newest) if newest else None)
        except StackError as error:
            failures += 1
            log.warning("job not submitted, trying again", job=job, reason=str(error))
    cluster.close()


def _folder(job: str, config: Config) -> str:
    return jobs.folder_of(job, config.kafka.topic_prefix)


def _checkpoints(url: str, folder: str) -> str:
    cluster = jobs.Cluster(url)
    try:
        return cluster.checkpoints(folder)
    finally:
        cluster.close()


def _archive(file: Path) -> Path:
    """Our packages in a zip file, which Flink puts on the Python path of the job's workers."""
    root = Path(__file__).resolve().parents[2]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in _SHIPPED:
            for file_of_ours in sorted(path for kind in _KINDS for path in (root / package).rglob(kind)):
                archive.write(file_of_ours, file_of_ours.relative_to(root))
    return file
