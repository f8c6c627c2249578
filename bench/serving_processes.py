"""The servers that the serving benchmark compares, and its clients: each a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import httpx
import psutil

from bench.serving_clients import Found, Plan
from bench.serving_load import on_core
from klinestream.runtime.config import load
from klinestream.stack.commands import configuration
from tests.eventually import eventually
from tests.ports import free_ports

SERVER_CORE, OTHER_CORE = 0, 1
_START_S = 30.0
_STOP_S = 15.0


class Served(NamedTuple):
    """A server that runs."""

    port: int
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def own_bytes(self) -> int:
        """Memory that is the process's alone."""
        return int(self.process.memory_full_info().uss)

    def metric(self, line_start: str) -> float:
        """A value from /metrics, 0 if it isn't there."""
        lines = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False, timeout=120).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(line_start))


@contextmanager
def klinestream(brokers: str, *, clients: int, symbols: int, history_s: int = 120) -> Iterator[Served]:
    """Our server, ready, with room for these."""
    [port] = free_ports(1)
    config = load(
        None,
        kafka={"bootstrap_servers": brokers},
        server={
            "port": port,
            "max_clients": clients,
            "max_subscriptions": symbols,
            "history_s": history_s,
            "max_clients_per_address": clients,
            "handshakes_per_s": 10_000,
        },
        log={"level": "error"},
    )

    def ready() -> bool:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200

    with _running([sys.executable, "-m", "klinestream.cli.main", "server"], port, os.environ | configuration(config)) as served:
        eventually(ready, _START_S, "the server is ready")
        yield served


@contextmanager
def plain(brokers: str) -> Iterator[Served]:
    """The plain server."""
    [port] = free_ports(1)
    with _running([sys.executable, "-m", "bench.serving_baseline", str(port), brokers], port, dict(os.environ)) as served:
        yield served


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[Served]:
    with on_core(SERVER_CORE):
        process = subprocess.Popen(command, env=environment, stdout=sys.stderr)

    def listens() -> bool:
        assert process.poll() is None, f"expected {command} to run, it has ended with {process.returncode}"
        with socket.socket() as looking:
            return looking.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(listens, _START_S, f"{command} listens")
        yield Served(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)


class Clients:
    """A process of clients that are connected and have subscribed, while the context lasts."""

    def __init__(self, port: int, plan: Plan, folder: Path) -> None:
        plan_path, self._result = folder / "plan.json", folder / "found.npz"
        plan.write(plan_path)
        command = [sys.executable, "-m", "bench.serving_clients", str(port), str(plan_path), str(self._result)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Clients":
        self._hear("ready")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def measure(self) -> None:
        """What comes from now on counts."""
        self._say("measure")

    def tell(self) -> Found:
        """What has come since; while it is gathered the clients don't listen."""
        self._say("tell")
        self._hear("told")
        return Found.read(self._result)

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def _hear(self, expected: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == expected, f"expected the clients to say {expected!r}, got {said!r}"
