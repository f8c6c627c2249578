"""Processes of the stack: ended with all they started, found again by their mark, their logs bounded."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from klinestream.market.errors import StackError
from klinestream.stack import process
from klinestream.stack.process import Command, Process, marked, sweep
from tests.eventually import eventually

# A parent with a child of its own, both deaf to SIGTERM.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
print("ready", flush=True)
time.sleep(600)
"""


def python(code: str, name: str = "part") -> Command:
    return Command(name, (sys.executable, "-c", code))


def started(code: str, folder: Path) -> Process:
    begun = Process(python(code), folder / "part.log", f"{folder}#1")
    eventually(lambda: "ready" in begun.last_words(), 30, "it is ready")
    return begun


def test_stop_kills_what_does_not_listen_and_its_children(tmp_path: Path) -> None:
    """After stop neither the process nor a child of it runs, SIGTERM ignored or not."""
    stubborn = started(STUBBORN, tmp_path)
    child = eventually(lambda: psutil.Process(stubborn.pid).children(), 30, "it has a child")[0]
    stubborn.stop(0.2)
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 30, "the child is gone")
    assert stubborn.poll() == -9


def test_children_go_with_a_parent_that_dies_by_itself(tmp_path: Path) -> None:
    """When a process is killed from outside, the next poll ends what it left behind."""
    parent = started(STUBBORN, tmp_path)
    child = eventually(lambda: psutil.Process(parent.pid).children(), 30, "it has a child")[0]
    psutil.Process(parent.pid).kill()
    assert eventually(parent.poll, 30, "it has ended") == -9
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 30, "the child is gone")


def test_sweep_finds_what_left_its_session(tmp_path: Path) -> None:
    """A grandchild in a session of its own, orphaned, is found by its mark; another stack's is left alone."""
    grandchild = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    code = f"import subprocess, sys; subprocess.Popen({grandchild}, start_new_session=True); print('ready')"
    parent = started(code, tmp_path)
    other = Process(python("import time; time.sleep(600)"), tmp_path / "other.log", f"{tmp_path}-other#1")
    eventually(lambda: parent.poll() is not None, 30, "the parent has ended")
    eventually(lambda: list(marked(f"{tmp_path}#")), 30, "the grandchild shows its mark")
    assert sweep(f"{tmp_path}#") == 1
    assert not list(marked(f"{tmp_path}#"))
    assert other.poll() is None
    other.kill()


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """Starting what does not exist raises StackError that names part and program."""
    with pytest.raises(StackError, match=r"part: expected to start .*/nothing.*doctor"):
        Process(Command("part", (str(tmp_path / "nothing"),)), tmp_path / "part.log", "mark")


def test_a_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log over its bound moves to `.1`, and the process goes on writing to the emptied one."""
    monkeypatch.setattr(process, "LOG_BYTES", 100)
    talker = started("import sys, time\nprint('ready', 'x' * 200, flush=True)\nsys.stdout.flush()\ntime.sleep(600)", tmp_path)
    talker.bound_log()
    assert talker.log.stat().st_size == 0
    assert (tmp_path / "part.log.1").stat().st_size > 100
    talker.kill()


def test_the_guardian_ends_everything_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    """After kill -9 of a supervisor nothing that it started runs, the guardian neither."""
    code = f"""
import sys, time
from pathlib import Path
from klinestream.stack.guardian import Guardian
from klinestream.stack.process import Command, Process
guardian = Guardian("{tmp_path}#1")
part = Process(Command("part", (sys.executable, "-c", "import time; time.sleep(600)")), Path("{tmp_path}/part.log"), "{tmp_path}#1")
print(guardian.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        guardian = psutil.Process(int(supervisor.stdout.readline()))
        try:
            # A process that has only just begun doesn't show its mark for a moment.
            eventually(lambda: len(list(marked(f"{tmp_path}#1"))) == 1, 30, "the part runs")
        finally:
            supervisor.kill()
    eventually(lambda: not list(marked(f"{tmp_path}#1")), 30, "the part is gone")
    eventually(lambda: not guardian.is_running() or guardian.status() == psutil.STATUS_ZOMBIE, 30, "the guardian is gone")


def test_a_log_without_room_for_its_copy_is_emptied_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the copy can't be written the log is bounded even so: a full disk must not fill further, nor end who watches."""
    monkeypatch.setattr(process, "LOG_BYTES", 100)
    (tmp_path / "part.log.1").mkdir()  # nobody can write there, root neither
    talker = started("import time\nprint('ready', 'x' * 200, flush=True)\ntime.sleep(600)", tmp_path)
    talker.bound_log()
    assert talker.log.stat().st_size == 0
    talker.kill()


def test_a_log_that_was_removed_ends_nothing(tmp_path: Path) -> None:
    """Without its log a process goes on, and has no last words."""
    quiet = started("import time\nprint('ready', flush=True)\ntime.sleep(600)", tmp_path)
    quiet.log.unlink()
    quiet.bound_log()
    assert quiet.last_words() == ""
    assert quiet.poll() is None
    quiet.kill()
