"""The command `klinestream standin`, as its own process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from klinestream.market.errors import ExchangeError
from klinestream.standin.client import StandinClient
from tests.eventually import eventually
from tests.ports import free_ports

STOP_S = 30
START_S = 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "klinestream.cli.main", "standin", *arguments]


@contextmanager
def process(folder: Path, port: int, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KLINESTREAM_")}
    with (folder / "standin.log").open("w") as log:
        started = subprocess.Popen(
            command("--port", str(port), "--symbols", "3", *arguments), cwd=folder, stderr=log, text=True, env=environment
        )
        try:
            yield started
        finally:
            started.kill()
            started.wait()


def ask(folder: Path, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{port}"
    return subprocess.run(command(*arguments, "--url", url), cwd=folder, capture_output=True, text=True, timeout=START_S, check=False)


def symbols_of(client: StandinClient) -> int:
    """How many symbols it lists; 0 while it doesn't answer yet."""
    try:
        return int(client.status()["symbols"])
    except ExchangeError:
        return 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """It says where it serves, takes faults from the command line, and ends cleanly and soon, clients or not."""
    (port,) = free_ports(1)
    with process(tmp_path, port) as started, StandinClient(f"http://127.0.0.1:{port}") as client:
        eventually(lambda: symbols_of(client) == 3, START_S, "the stand-in serves")
        assert f"http://127.0.0.1:{port}" in (tmp_path / "standin.log").read_text()
        injected = ask(tmp_path, port, "fault", "lose", "seconds=100", "streams=btcusdt@*")
        assert injected.returncode == 0, injected.stderr
        shown = json.loads(ask(tmp_path, port, "status").stdout)
        assert [(fault["kind"], fault["seconds"], fault["streams"]) for fault in shown["faults"]] == [("lose", 100, "btcusdt@*")]
        assert ask(tmp_path, port, "clear").returncode == 0
        assert client.status()["faults"] == []
        with socket.create_connection(("127.0.0.1", port)):
            started.send_signal(number)
            assert started.wait(STOP_S) == 0
    assert "Traceback" not in (tmp_path / "standin.log").read_text()


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """Where the port is taken, it says so in one line, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with process(tmp_path, port) as started:
            assert started.wait(START_S) == 1
    (line,) = (tmp_path / "standin.log").read_text().splitlines()
    assert line.startswith(f"klinestream: expected port {port} of 127.0.0.1 to be free")


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    """A wrong option, fault or address is one line that names it."""
    (port,) = free_ports(1)
    with process(tmp_path, port, "--speed", "0") as started:
        assert started.wait(START_S) == 1
    assert (tmp_path / "standin.log").read_text().startswith("klinestream: --speed: ")
    assert "got 'burn'" in ask(tmp_path, port, "fault", "burn").stderr
    assert "name=value" in ask(tmp_path, port, "fault", "lose", "100").stderr
    assert f"http://127.0.0.1:{port}" in ask(tmp_path, port, "status").stderr
