"""A real Flink cluster on this machine: the distribution that came as a Python package, with our configuration."""

import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from klinestream.market.errors import StackError
from klinestream.stack.java import java_home, python, scripts
from klinestream.stack.layout import Layout, shipped
from klinestream.stack.process import Command

HOST = "127.0.0.1"
LOCAL = frozenset({HOST, "localhost", "::1"})
_CONF_FILES = ("log4j-console.properties", "log4j-cli.properties")
# It listens on all addresses of the machine and can't be told otherwise: that is for networks of one's own, such as Compose's.
_OPEN_TO_ALL = "metrics.reporter."


@dataclass(frozen=True, slots=True)
class Ports:
    """What the job manager listens on: its REST interface and page, and what the task managers speak to."""

    rest: int
    rpc: int


def home() -> Path:
    """The Flink distribution of this environment. Raises StackError."""
    found = importlib.util.find_spec("pyflink")
    if found is None or found.origin is None:
        raise StackError("expected the package apache-flink in this environment, found none: install klinestream again")
    return Path(found.origin).parent


def prepare(layout: Layout, ports: Ports, task_slots: int) -> None:
    """Write the configuration that the cluster and its clients run with."""
    _write_configuration(layout.flink_conf, _of_this_machine(layout, ports, task_slots))


def prepare_client(folder: Path, rest_url: str) -> None:
    """Write into `folder` what `flink run` needs to reach a cluster that is not ours: that cluster's own settings stay its own."""
    _write_configuration(
        folder, {"rest.address": urlsplit(rest_url).hostname, "rest.port": urlsplit(rest_url).port, "python.client.executable": python()}
    )


def rest_url(ports: Ports) -> str:
    """Base address of the REST interface."""
    return f"http://{HOST}:{ports.rest}"


def address(place: Path) -> str:
    """A file or folder as Flink takes it: it decodes nothing, so that `Path.as_uri` would name another place, with a literal %40 for @.

    >>> address(Path("/data/me@home (ü)"))
    'file:///data/me@home (ü)'
    """
    return f"file://{place.absolute()}"


def environment(layout: Layout) -> dict[str, str]:
    """What Flink's scripts need to find everything, and to find nothing else."""
    return {
        "FLINK_HOME": str(home()),
        "FLINK_CONF_DIR": str(layout.flink_conf),
        "FLINK_LOG_DIR": str(layout.logs),
        "FLINK_PID_DIR": str(layout.flink_scratch),
        "FLINK_IDENT_STRING": "klinestream",
        "HOSTNAME": "local",  # becomes a part of the logs' names
        "JAVA_HOME": str(java_home()),
        # Flink's scripts start a JVM or two for a second only to read the configuration. What lives longer says otherwise there.
        "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "PATH": f"{scripts()}:/usr/local/bin:/usr/bin:/bin",
    }


def job_manager(layout: Layout) -> Command:
    """Run the job manager in the foreground."""
    return _foreground("job-manager", "jobmanager.sh", layout, {})


def task_manager(layout: Layout, number: int) -> Command:
    """Run a task manager in the foreground; `number` counts from 1 and tells their logs apart."""
    return _foreground(f"task-manager-{number}", "taskmanager.sh", layout, {"FLINK_IDENT_STRING": f"klinestream-{number}"})


def scratch(layout: Layout, name: str) -> Path:
    """What this part of the cluster may lose: it is emptied before each start, since a killed process tidies nothing."""
    return layout.flink_scratch / name


def empty_scratch(layout: Layout, name: str) -> None:
    """Make the part's scratch folder anew."""
    shutil.rmtree(scratch(layout, name), ignore_errors=True)
    scratch(layout, name).mkdir(parents=True)


def _foreground(name: str, script: str, layout: Layout, own: dict[str, str]) -> Command:
    folder = scratch(layout, name)
    argv = (str(home() / "bin" / script), "start-foreground", "-D", f"io.tmp.dirs={folder}")
    return Command(name, argv, environment(layout) | {"TMPDIR": str(folder)} | own)


def _write_configuration(folder: Path, found: Mapping[str, object]) -> None:
    source = shipped("flink-conf")
    for name in _CONF_FILES:
        shutil.copyfile(source / name, folder / name)
    kept = "\n".join(line for line in (source / "config.yaml").read_text().splitlines() if not line.startswith(_OPEN_TO_ALL))
    added = "\n".join(f"{key}: {value}" for key, value in found.items())
    (folder / "config.yaml").write_text(f"{kept}\n\n# --- Found here ---\n\n{added}\n")


def _of_this_machine(layout: Layout, ports: Ports, task_slots: int) -> Mapping[str, object]:
    return {
        "jobmanager.rpc.address": HOST,
        "jobmanager.bind-host": HOST,
        "jobmanager.rpc.port": ports.rpc,
        "rest.address": HOST,
        "rest.bind-address": HOST,
        "rest.port": ports.rest,
        "rest.bind-port": ports.rest,
        "taskmanager.host": HOST,
        "taskmanager.bind-host": HOST,
        "taskmanager.numberOfTaskSlots": task_slots,
        "execution.checkpointing.dir": address(layout.checkpoints),
        "execution.checkpointing.savepoint-dir": address(layout.savepoints),
        "python.executable": python(),
        "python.client.executable": python(),
    }
