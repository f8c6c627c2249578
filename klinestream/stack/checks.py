"""What can be known before anything is started: Python, Java, jars, ports, room, memory, permission. `klinestream doctor` shows it."""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from klinestream.market.errors import KlinestreamError, StackError
from klinestream.runtime.config import Config
from klinestream.stack import extras, jars, plans
from klinestream.stack.java import java, python
from klinestream.stack.layout import Layout
from klinestream.stack.state_lock import holder_of

GIB = 1 << 30
# A day of two topics at 1,400 symbols is bounded by their retention at 16 GiB; a demo of an hour needs far less.
LEAST_DISK = 2 * GIB
LEAST_MEMORY = 3 * GIB
_JAVA_TIMEOUT_S = 20
_PYTHONS = ((3, 11), (3, 12))


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is good, and what was found or is to be done."""

    what: str
    good: bool
    found: str


def ports(config: Config, with_standin: bool, also: tuple[str, ...] = ()) -> Mapping[str, int]:
    """Configuration key → port, for all that the stack listens on."""
    wanted = {
        "stack.broker_port": config.stack.broker_port,
        "stack.controller_port": config.stack.controller_port,
        "stack.flink_port": config.stack.flink_port,
        "stack.flink_rpc_port": config.stack.flink_rpc_port,
        "server.port": config.server.port,
    }
    if config.producer.metrics_port:
        wanted["producer.metrics_port"] = config.producer.metrics_port
    if config.repair.metrics_port:
        wanted["repair.metrics_port"] = config.repair.metrics_port
    if config.archive.metrics_port:
        wanted["archive.metrics_port"] = config.archive.metrics_port
    if config.proof.metrics_port:
        wanted["proof.metrics_port"] = config.proof.metrics_port
    if config.signals.webhook_url and config.signals.metrics_port:
        wanted["signals.metrics_port"] = config.signals.metrics_port
    wanted |= {f"{name}.metrics_port": port for name in also if (port := extras.metrics(config, name)[1])}
    if "ingest" in also:
        wanted["ingest.port"] = config.ingest.port
    if plans.runs_database(config, also):
        wanted["stack.postgres_port"] = config.stack.postgres_port
    if with_standin:
        wanted["stack.standin_port"] = config.stack.standin_port
    return wanted


def require_usable_paths(folder: Path) -> None:
    """Raise StackError if the state folder or this Python lies where one of the programs would look elsewhere."""
    # Flink's script for Python workers splits paths at whitespace; Kafka, Flink and Java split lists of folders at commas or colons.
    if re.search(r"[\s,:]", str(folder)):
        raise StackError(
            f"expected a state folder without whitespace, comma or colon in its path, got {str(folder)!r}: set stack.state_dir"
        )
    if re.search(r"\s", str(python())):
        raise StackError(
            f"expected Python at a path without whitespace, got {str(python())!r}: make the environment, or the checkout, in another folder"
        )


def require_free_ports(wanted: Mapping[str, int]) -> None:
    """Raise StackError that names every port that is taken, by whom if that can be known, and the key that moves it."""
    taken = [
        f"{key} = {port} is taken{_holder(port)}: end that, or set {key} (KLINESTREAM_{key.replace('.', '__').upper()}) to a free port"
        for key, port in wanted.items()
        if not _is_free(port)
    ]
    twice = {port for port in wanted.values() if list(wanted.values()).count(port) > 1}
    for port in twice:
        keys = " and ".join(key for key, own in wanted.items() if own == port)
        taken.append(f"port {port} is given to {keys}: set one of them to another")
    if taken:
        raise StackError("\n  ".join(["expected free ports, but", *taken]))


def require_room(folder: Path, least: int = LEAST_DISK) -> None:
    """Raise StackError if less than `least` bytes are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if free < least:
        raise StackError(
            f"expected {least / GIB:.1f} GiB free at {folder}, there are {free / GIB:.1f}: make room, set stack.state_dir to another disk, "
            "or drop the old data with `klinestream up --fresh`"
        )


def examine(config: Config) -> Iterator[Finding]:
    """All checks, one after the other."""
    folder = config.stack.state_dir.absolute()
    yield _python()
    yield _found("paths", lambda: _paths(folder))
    yield _found("Java runtime", _java_version)
    yield _found("jars", lambda: _jars(folder / "jars"))
    yield _found("state folder", lambda: _writable(folder))
    yield _found("room on disk", lambda: _room(_existing(folder)))
    yield _memory()
    yield _found("ports", lambda: _ports(config))


def _found(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (KlinestreamError, OSError) as error:
        return Finding(what, False, str(error))


def _python() -> Finding:
    good = sys.version_info[:2] in _PYTHONS
    found = f"{sys.version.split()[0]} at {sys.executable}"
    return Finding("Python", good, found if good else f"{found}; expected 3.11 or 3.12, which Flink's Python packages are made for")


def _java_version() -> str:
    try:
        done = subprocess.run((java(), "-version"), capture_output=True, text=True, timeout=_JAVA_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise StackError(f"expected {java()} to tell its version within {_JAVA_TIMEOUT_S} s: this machine has too much to do") from None
    if done.returncode:
        raise StackError(f"{java()} does not run: {done.stderr.strip()}; install klinestream again on a system with glibc, x86-64 or arm64")
    return done.stderr.splitlines()[0]


def _paths(folder: Path) -> str:
    require_usable_paths(folder)
    return "usable"


def _jars(folder: Path) -> str:
    jars.fetch(folder)
    return f"all {len(jars.locked())} there and right"


def _writable(folder: Path) -> str:
    place = _existing(folder)
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise StackError(f"expected to write to {place}: {error}; give permission, or set stack.state_dir") from None
    return str(folder)


def _room(folder: Path) -> str:
    require_room(folder)
    return f"{shutil.disk_usage(folder).free / GIB:.0f} GiB free"


def _memory() -> Finding:
    available = psutil.virtual_memory().available
    good = available >= LEAST_MEMORY
    found = f"{available / GIB:.1f} GiB available"
    return Finding(
        "memory",
        good,
        found if good else f"{found}; expected {LEAST_MEMORY / GIB:.0f} GiB, which the whole stack takes at most: end something",
    )


def _ports(config: Config) -> str:
    wanted = ports(config, with_standin=True)
    if holder := holder_of(Layout(config.stack.state_dir.absolute()).lock):
        return f"held by the `klinestream up` that runs here (process {holder})"
    require_free_ports(wanted)
    return f"{', '.join(str(port) for port in wanted.values())} are free"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _is_free(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        pass
    else:
        return False
    try:
        # Also what is bound to another address only; create_server allows for connections that are still closing.
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _holder(port: int) -> str:
    """Who listens there, if this user may know."""
    try:
        pid = next(
            held.pid
            for held in psutil.net_connections("tcp")
            if held.status == psutil.CONN_LISTEN and held.laddr[1:] == (port,) and held.pid
        )
        return f" by {psutil.Process(pid).name()} (process {pid})"
    except (psutil.Error, StopIteration):
        return ""
