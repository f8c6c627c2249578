"""`klinestream store postgres` in a process of its own, and what it says when it is asked."""

import os
import signal
import subprocess
from pathlib import Path

import httpx

from klinestream.runtime.config import PREFIX
from klinestream.stack.java import scripts
from tests.integration.running_postgres import TestPostgres
from tests.ports import free_ports
from tests.stack import TestBroker

_STOP_S = 20
_ONCE_S = 60


class Store:
    """One over a broker and a database, that can be started, killed, and asked."""

    def __init__(self, broker: TestBroker, postgres: TestPostgres, folder: Path, namespace: str = "klinestream", **settings: str) -> None:
        [self.port] = free_ports(1)
        self.namespace = namespace
        self.log = folder / f"store-{self.port}.log"
        own = {"KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "KAFKA__CLIENT": "confluent-kafka"}
        own |= {"POSTGRES__URL": postgres.url, "POSTGRES__PASSWORD": postgres.password, "POSTGRES__NAMESPACE": namespace}
        own |= {"POSTGRES__METRICS_PORT": str(self.port)} | settings
        self._environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        self._environment |= {PREFIX + key: value for key, value in own.items()}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> None:
        command = [str(scripts() / "klinestream"), "store", "postgres", *arguments]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=output, stderr=output)

    def kill(self) -> None:
        """With -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> int:
        """By SIGTERM, unless it has ended; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)

    def ask(self, *arguments: str) -> tuple[int, str]:
        """Run `klinestream store postgres …` to its end: its exit code, and what it said."""
        command = [str(scripts() / "klinestream"), "store", "postgres", *arguments]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, timeout=_ONCE_S, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def health(self) -> tuple[int, str]:
        """What /healthz says; code 0 while nobody answers."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 while nobody answers."""
        try:
            text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False).text
        except httpx.TransportError:
            return 0.0
        lines = [line for line in text.splitlines() if line.startswith((f"klinestream_postgres_{name}{{", f"klinestream_postgres_{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)
