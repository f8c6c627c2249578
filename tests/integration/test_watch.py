"""`klinestream watch` as a process, at a server that is killed and comes back."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.eventually import eventually
from tests.serving import ServerProcess, Windows, now_ms, window_at
from tests.stack import TestBroker

WAIT_S = 20.0
SYMBOL = "WATCHUSDT"


class Watch:
    """A watch whose lines are gathered."""

    def __init__(self, server: ServerProcess, *options: str) -> None:
        command = [sys.executable, "-m", "klinestream.cli.main", "watch", SYMBOL.lower(), "--server", server.url, *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self.said: list[str] = []
        self._threads = [
            threading.Thread(target=self._gather, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._gather, args=(self.process.stderr, self.said)),
        ]
        for thread in self._threads:
            thread.start()

    def ends(self) -> list[int]:
        """The ends of the windows that were printed."""
        return [json.loads(line)["window_end"] for line in self.lines]

    def close(self) -> int:
        """End it, if it still runs; its exit code."""
        self.process.terminate()
        code = self.process.wait(WAIT_S)
        for thread in self._threads:
            thread.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    @staticmethod
    def _gather(stream: IO[str], lines: list[str]) -> None:
        lines.extend(stream)


@pytest.fixture
def windows(broker: TestBroker) -> Iterator[Windows]:
    opened = Windows(broker.bootstrap_servers)
    yield opened
    opened.close()


@pytest.fixture
def server(broker: TestBroker, windows: Windows, tmp_path: Path) -> Iterator[ServerProcess]:
    assert windows is not None  # the topic is there
    started = ServerProcess(broker.bootstrap_servers, tmp_path / "server.log")
    started.start()
    yield started
    started.close()


def test_a_watch_survives_its_server_and_repeats_nothing(server: ServerProcess, windows: Windows) -> None:
    """What was published while the server was dead comes after it is back, each window once and in order; lines end by count."""
    first = now_ms() // 500 * 500
    ends = [first + 500 * n for n in range(5)]
    windows.publish([window_at(SYMBOL, end, 0) for end in ends[:2]])
    eventually(lambda: SYMBOL in server.http.get("/api/symbols").json()["symbols"], WAIT_S, "the server has windows")
    watch = Watch(server, "--json", "--limit", "10", "--count", "5")
    try:
        eventually(lambda: watch.ends() == ends[:2], WAIT_S, "the windows that were there")
        server.kill()
        windows.publish([window_at(SYMBOL, end, 0) for end in ends[2:4]])
        server.start()
        eventually(lambda: watch.ends() == ends[:4], WAIT_S, "what was missed")
        windows.publish([window_at(SYMBOL, ends[4], 0)])
        assert watch.process.wait(WAIT_S) == 0
        eventually(lambda: watch.ends() == ends, WAIT_S, "what is new")
        assert any(line.startswith("reconnecting") for line in watch.said)
    finally:
        watch.close()


def test_a_watch_without_a_server_is_one_clear_line(server: ServerProcess) -> None:
    """It ends at once, and says at which address it looked."""
    server.kill()
    watch = Watch(server)
    try:
        assert watch.process.wait(WAIT_S) == 1
        eventually(lambda: len(watch.said) == 1, WAIT_S, "one line")
        assert watch.said[0].startswith(f"klinestream: expected a server at {server.websocket_url}")
    finally:
        watch.close()
