"""`klinestream up` as it is ended: while it starts, and by a terminal that is closed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from klinestream.stack.commands import configuration
from klinestream.stack.java import scripts
from klinestream.stack.process import marked
from klinestream.stack.state_lock import lock_state
from tests.whole_stack import TestStack

UP_S = 120
END_S = 30  # a download that nobody answers would take its 60
# The command over a stack without parts, in a terminal of its own.
IN_TERMINAL = """
import os, sys
from pathlib import Path

from klinestream.cli.main import main
from klinestream.stack import supervisor
from klinestream.stack.part import State

class Stack:
    def __init__(self, config, with_standin, tell, also):
        self.config = config
    def start(self, fresh):
        os.open(os.ttyname(0), os.O_RDWR)  # the terminal is this session's: its end is told by SIGHUP
    def rows(self):
        return [supervisor.Row("broker", State.WAITING, None, None, 0, None)]
    def run(self, stopping, each_tick):
        while not stopping.wait(0.01):
            each_tick()
    def stop(self):
        Path("stopped").touch()

supervisor.Supervisor = Stack
sys.argv[1:] = ["up"]
main()
"""


def test_a_closed_terminal_ends_all_parts(tmp_path: Path) -> None:
    """After the terminal is closed nothing can be shown any more; the parts are ended in order even so."""
    terminal, inside = os.openpty()
    up = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL], stdin=inside, stdout=inside, stderr=inside, start_new_session=True, cwd=tmp_path
    )
    os.close(inside)
    said = b""
    while b"broker" not in said:
        said += os.read(terminal, 4096)
    os.close(terminal)
    up.wait(UP_S)
    assert (tmp_path / "stopped").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_start_can_be_ended(number: signal.Signals, tmp_path: Path) -> None:
    """While jars come slowly a signal ends the command within seconds; no part, no lock and no half of a jar is left."""
    folder, repository, said = tmp_path / "stack", tmp_path / "m2", tmp_path / "up.txt"
    stack = TestStack(folder)
    stack.stop()  # only its configuration is of use here: free ports
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(UP_S)
        mirror = tmp_path / "jgo.conf"
        mirror.write_text(f"[repositories]\nmirror = http://127.0.0.1:{silent.getsockname()[1]}/maven\n")
        env = os.environ | configuration(stack.config) | {"JGO_CONFIG_FILE": str(mirror), "M2_REPO": str(repository)}
        with said.open("wb") as output:
            up = subprocess.Popen([scripts() / "klinestream", "up", "--no-table"], env=env, stdout=output, stderr=subprocess.STDOUT)
        try:
            asked, _ = silent.accept()  # a download has begun; nobody answers it
            up.send_signal(number)
            assert up.wait(END_S) == 0, said.read_text()
        finally:
            up.kill()
            up.wait()
        asked.close()
    assert "Traceback" not in said.read_text()
    assert not list(marked(f"{folder}#"))
    lock_state(folder / "lock").release()
    assert list(repository.iterdir()) == []
