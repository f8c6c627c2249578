"""`klinestream repair`: once, or following in a process of its own."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from klinestream.runtime.config import PREFIX
from klinestream.stack.java import scripts
from tests.ports import free_ports
from tests.stack import TestBroker

_ONCE_S = 60
_STOP_S = 30


class Repair:
    """The command on one broker; `settings` are further keys of the configuration, such as `SIGNALS__RSI_LOW`."""

    def __init__(self, broker: TestBroker, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = {"KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "REPAIR__SETTLE_S": "1", **(settings or {})}

    def once(self, *arguments: str) -> str:
        """Run it to its end; what it said."""
        command = [str(scripts() / "klinestream"), "repair", *arguments]
        environment = self._environment(0)
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, timeout=_ONCE_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def follow(self) -> "Following":
        """Start it; it goes on until it is ended."""
        return Following(self._folder, self._environment)

    def _environment(self, port: int) -> dict[str, str]:
        own = {PREFIX + key: value for key, value in (self._settings | {"REPAIR__METRICS_PORT": str(port)}).items()}
        return {"PATH": os.environ["PATH"]} | own


class Following:
    """`klinestream repair --follow` in a process of its own."""

    def __init__(self, folder: Path, environment: Callable[[int], dict[str, str]]) -> None:
        (self.port,) = free_ports(1)
        with (folder / "repair.log").open("ab") as output:
            command = [str(scripts() / "klinestream"), "repair", "--follow"]
            self._process = subprocess.Popen(command, cwd=folder, env=environment(self.port), stdout=output, stderr=output)

    def metric(self, name: str) -> float:
        """A metric's value, -1 while it can't be asked."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text
        except httpx.TransportError:
            return -1
        return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(f"klinestream_repair_{name} ")))

    def is_well(self) -> bool:
        """Whether /healthz says so."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def end(self) -> int:
        """End it by SIGTERM, unless it has ended; its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)
