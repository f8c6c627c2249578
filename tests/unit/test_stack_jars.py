"""Jars: only the right file is used, a wrong one is replaced, and without a network the message says what to do."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from klinestream.market.errors import StackError
from klinestream.stack import jars
from klinestream.stack.jars import Jar

CONTENT = b"not really a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Maven repository of this user, and a mirror that nobody runs."""
    settings = tmp_path / "jgo.conf"
    settings.write_text("[repositories]\nmirror = http://127.0.0.1:1/maven\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    return tmp_path / "m2"


class Quiet(SimpleHTTPRequestHandler):
    """Files over HTTP, without a line in the log for each."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[int]:
    """The folder over HTTP, as a Maven repository; its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


def store(repository: Path, content: bytes) -> None:
    place = repository / JAR.repository_path
    place.parent.mkdir(parents=True)
    place.write_bytes(content)


def test_a_jar_comes_from_the_users_repository(repository: Path, tmp_path: Path) -> None:
    """What the user's Maven repository has is taken from there, without a network."""
    store(repository, CONTENT)
    jars.fetch(tmp_path / "jars", [JAR])
    assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == CONTENT


def test_a_jar_that_was_changed_is_replaced(repository: Path, tmp_path: Path) -> None:
    """A file with another hash in the stack's folder is not used, but replaced by the right one."""
    store(repository, CONTENT)
    target = tmp_path / "jars" / "thing-1.0.jar"
    target.parent.mkdir()
    target.write_bytes(b"something else")
    jars.fetch(tmp_path / "jars", [JAR])
    assert target.read_bytes() == CONTENT


def test_a_download_is_told(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be downloaded is announced, with the place where it stays, and told when it is there; what isn't, is silent."""
    mirror = tmp_path / "mirror"
    store(mirror, CONTENT)
    with served(mirror) as port:
        settings = tmp_path / "served.conf"
        settings.write_text(f"[repositories]\nmirror = http://127.0.0.1:{port}\n")
        monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
        told: list[str] = []
        jars.fetch(tmp_path / "jars", [JAR], told.append)
    assert told == [f"fetching 1 jars, once; they are kept in {repository}", "1 of 1 jars are there and right"]
    assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == CONTENT
    jars.fetch(tmp_path / "other", [JAR], told.append)
    assert len(told) == 2


def test_without_network_the_message_says_what_to_do(repository: Path, tmp_path: Path) -> None:
    """A download that fails names the jar, the address, and what to do; a wrong file in the repository counts as none."""
    store(repository, b"cut off")
    with pytest.raises(
        StackError, match=r"(?s)expected to download thing-1\.0\.jar from http://127\.0\.0\.1:1/maven.*run it again: what has come is kept"
    ):
        jars.fetch(tmp_path / "jars", [JAR])
    assert list((tmp_path / "jars").iterdir()) == []


def test_a_home_that_can_t_be_used_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that can be neither read nor made raises StackError; so does a folder of jars that can't be made."""
    monkeypatch.setenv("M2_REPO", str(tmp_path / ("m" * 300)))  # no file system takes that name, from root neither
    with pytest.raises(StackError, match=r"expected to write to .*make room or permission"):
        jars.fetch(tmp_path / "jars", [JAR])
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"expected to write to .*/file/jars: .*permission, or set stack\.state_dir"):
        jars.fetch(tmp_path / "file" / "jars", [JAR])


def test_the_lock_file_holds_a_hash_for_every_jar_and_no_address() -> None:
    """Every locked jar has a sha256, the broker has a log binding, and the connector is not on its classpath."""
    locked = jars.locked()
    assert all(len(jar.sha256) == 64 for jar in locked)
    assert {"kafka_2.13", "log4j-slf4j-impl", jars.CONNECTOR} <= {jar.artifact for jar in locked}
    assert jars.CONNECTOR not in jars.broker_classpath(Path("jars"))
    assert "://" not in jars.shipped("jgo.lock.toml").read_text()


def test_a_lock_file_without_hashes_is_refused(tmp_path: Path) -> None:
    """A lock file that lacks a hash raises StackError that says how to remake it."""
    file = tmp_path / "jgo.lock.toml"
    file.write_text('[[dependencies]]\ngroupId = "a"\nartifactId = "b"\nversion = "1"\n')
    with pytest.raises(StackError, match="make lock"):
        jars.locked(file)
