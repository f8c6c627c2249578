"""What is checked beforehand: a taken port, a full disk, a second stack; each with what to do."""

import os
import socket
import sys
from pathlib import Path

import pytest

from klinestream.market.errors import StackError
from klinestream.runtime.config import Config
from klinestream.runtime.sections import StackConfig
from klinestream.stack import checks, jars, java
from klinestream.stack.state_lock import lock_state
from klinestream.stack.supervisor import Supervisor
from tests.ports import free_ports


def test_a_taken_port_is_named_with_its_holder_and_key() -> None:
    """A port that somebody listens on raises StackError with port, holder where known, key and variable."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(StackError, match=rf"server\.port = {port} is taken.*KLINESTREAM_SERVER__PORT"):
            checks.require_free_ports({"server.port": port})


def test_one_port_for_two_parts_is_refused() -> None:
    """Two keys with one port raise StackError that names both."""
    (port,) = free_ports(1)
    with pytest.raises(StackError, match=rf"port {port} is given to server\.port and stack\.flink_port"):
        checks.require_free_ports({"server.port": port, "stack.flink_port": port})


def test_free_ports_pass() -> None:
    """Nothing is said of free ports."""
    first, second = free_ports(2)
    checks.require_free_ports({"server.port": first, "stack.flink_port": second})


def test_ingestion_listens_on_two_ports() -> None:
    """Both are looked at before it is started: the one for posts, and that of its metrics."""
    wanted = checks.ports(Config(), with_standin=False, also=("ingest",))
    assert (wanted["ingest.port"], wanted["ingest.metrics_port"]) == (8085, 9119)
    assert not [key for key in checks.ports(Config(), with_standin=False) if key.startswith("ingest.")]


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path) -> None:
    """Less room than needed raises StackError that says how much there is and what to do."""
    with pytest.raises(StackError, match=r"GiB free.*make room.*--fresh"):
        checks.require_room(tmp_path, 1 << 60)


def test_a_second_stack_over_the_same_folder_is_refused(tmp_path: Path) -> None:
    """The lock names its holder; once released it can be taken again."""
    file = tmp_path / "lock"
    first = lock_state(file)
    with pytest.raises(StackError, match=r"another `klinestream up` \(process \d+\)"):
        lock_state(file)
    first.release()
    lock_state(file).release()


@pytest.mark.parametrize("name", ["my data", "a,b", "a:b", "a\tb"])
def test_a_state_folder_that_would_be_split_is_refused(name: str, tmp_path: Path) -> None:
    """Whitespace, comma and colon raise StackError before anything is made; `doctor` says the same."""
    folder = tmp_path / name
    config = Config().model_copy(update={"stack": StackConfig(state_dir=folder)})
    with pytest.raises(StackError, match=r"state folder without whitespace, comma or colon.*stack\.state_dir"):
        Supervisor(config).start()
    assert not folder.exists()
    assert not next(finding for finding in checks.examine(config) if finding.what == "paths").good


def test_a_python_behind_whitespace_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in a folder with a blank raises StackError that names it."""
    monkeypatch.setattr(sys, "executable", "/home/me/my code/.venv/bin/python")
    with pytest.raises(StackError, match="Python at a path without whitespace, got '/home/me/my code"):
        checks.require_usable_paths(tmp_path)


def test_other_characters_of_a_path_are_taken(tmp_path: Path) -> None:
    """What no program splits at may be in a state folder."""
    checks.require_usable_paths(tmp_path / "me@home+(a)=ü")


def test_a_lock_that_can_t_be_written_says_what_to_do(tmp_path: Path) -> None:
    """A file that can't be had, for want of permission or else, raises StackError and no other error."""
    (tmp_path / "lock").mkdir()  # nobody can write there, root neither
    with pytest.raises(StackError, match=r"expected to write to .*/lock: .*give permission, or set stack\.state_dir"):
        lock_state(tmp_path / "lock")


def test_a_java_that_does_not_answer_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has too much to do `doctor` says so, and goes on; the start goes on without shared classes."""
    slow = tmp_path / "bin" / "java"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(checks, "java", lambda: slow)
    monkeypatch.setattr(java, "java", lambda: slow)
    monkeypatch.setattr(checks, "_JAVA_TIMEOUT_S", 0.1)
    monkeypatch.setattr(java, "_DUMP_TIMEOUT_S", 0.1)
    found = next(finding for finding in checks.examine(Config()) if finding.what == "Java runtime")
    assert not found.good
    assert "within 0.1 s" in found.found
    java.share_classes()


def test_doctor_takes_the_ports_of_its_own_stack_for_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While `klinestream up` runs over the folder its ports are its own: who holds them is said; afterwards they have to be free."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        stack = StackConfig(state_dir=tmp_path, flink_port=held.getsockname()[1])
        config = Config().model_copy(update={"stack": stack})

        def ports() -> checks.Finding:
            return list(checks.examine(config))[-1]

        monkeypatch.setattr(jars, "fetch", lambda _: None)  # takes seconds
        lock = lock_state(tmp_path / "lock")
        assert ports() == checks.Finding("ports", True, f"held by the `klinestream up` that runs here (process {os.getpid()})")
        lock.release()
        assert not ports().good
