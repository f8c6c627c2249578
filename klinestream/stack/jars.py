"""The Java parts: fetched once as jgo.lock.toml has them, checked by sha256 at each use.

A jar is taken from the folder of the stack, else from the user's Maven repository, else downloaded. A download becomes visible only
when it is whole and right, so an interrupted one resumes with the jars it lacks, and several stacks may fetch at once.
"""

import hashlib
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import requests
from jgo.config import GlobalSettings
from jgo.constants import default_maven_repo
from jgo.maven import MavenContext

from klinestream.market.errors import KlinestreamError, StackError
from klinestream.runtime.config import load
from klinestream.stack import daemons
from klinestream.stack.java import share_classes
from klinestream.stack.layout import Layout, shipped

CONNECTOR = "flink-sql-connector-kafka"
_PARALLEL_DOWNLOADS = 8
_TIMEOUT_S = 60
_TELL_EVERY = 10
_REMOVED_S = 0.05  # a thread that is cut off makes its folder and opens its connection in less
_REMOVALS_MOST = 40


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As Maven names it."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def repository_path(self) -> Path:
        """Its place in a Maven repository."""
        return Path(*self.group.split("."), self.artifact, self.version, self.file_name)


def locked(lock_file: Path | None = None) -> tuple[Jar, ...]:
    """The jars of the lock file, each with its hash. Raises StackError."""
    file = lock_file or shipped("jgo.lock.toml")
    try:
        entries = tomllib.loads(file.read_text())["dependencies"]
        return tuple(Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries)
    except (KeyError, tomllib.TOMLDecodeError) as error:
        raise StackError(f"expected locked jars with a sha256 each in {file}, got {error!r}: run `make lock`") from None


def fetch(folder: Path, jars: Sequence[Jar] | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
    """Bring all locked jars into `folder`. Raises StackError that names what is missing or wrong.

    `tell` hears how far it is, if any have to be downloaded: the first time that takes as long as the network does. Whatever ends it, a
    signal too, ends it at once: what has not come whole by then is dropped.
    """
    wanted = locked() if jars is None else jars
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"expected to write to {folder}: {error}; give room or permission, or set stack.state_dir") from None
    absent = [jar for jar in wanted if not _right(folder / jar.file_name, jar)]
    if not absent:
        return  # nothing is written, where nothing may be
    repository = Path(default_maven_repo())
    if downloads := sum(not _right(repository / jar.repository_path, jar) for jar in absent):
        tell(f"fetching {downloads} jars, once; they are kept in {repository}")
    with _scratch(repository if downloads else folder) as scratch:
        for count, _ in enumerate(daemons.each(lambda jar: _provide(jar, folder, scratch), absent, _PARALLEL_DOWNLOADS), 1):
            if downloads and (count % _TELL_EVERY == 0 or count == len(absent)):
                tell(f"{count} of {len(absent)} jars are there and right")


def broker_classpath(folder: Path) -> str:
    """What the broker runs with: all locked jars but Flink's connector, which carries Kafka classes of its own."""
    return os.pathsep.join(str(folder / jar.file_name) for jar in locked() if jar.artifact != CONNECTOR)


def connector(folder: Path) -> Path:
    """Flink's connector to Kafka."""
    return next(folder / jar.file_name for jar in locked() if jar.artifact == CONNECTOR)


def _right(file: Path, jar: Jar) -> bool:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == jar.sha256
    except OSError:
        return False  # none there, or none that may be read: it is fetched, and who can't write there says so


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder for what is half there, on the file system where it will lie; whoever writes there still when this ends is cut off."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=".klinestream-", dir=place))
    except OSError as error:
        raise StackError(f"expected to write to {place}: {error}; make room or permission, then run it again") from None
    try:
        yield scratch
    finally:
        _remove(scratch)


def _remove(scratch: Path) -> None:
    """Remove a folder in which somebody may still make another one: until none comes back."""
    for _ in range(_REMOVALS_MOST):
        shutil.rmtree(scratch, ignore_errors=True)
        time.sleep(_REMOVED_S)
        if not scratch.exists():
            return


def _provide(jar: Jar, folder: Path, scratch: Path) -> None:
    repository = Path(default_maven_repo())
    stored = repository / jar.repository_path
    try:
        if not _right(stored, jar):
            _download(jar, repository, scratch)
        _place(stored, folder / jar.file_name)
    except OSError as error:
        raise StackError(
            f"expected to write {jar.file_name} to {folder} and {repository}: {error}; make room or permission, then run it again"
        ) from None


def _download(jar: Jar, repository: Path, scratch: Path) -> None:
    with TemporaryDirectory(dir=scratch) as own:
        context = MavenContext(repo_cache=Path(own), local_repos=[], remote_repos=_repositories(), timeout=_TIMEOUT_S)
        try:
            came = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (requests.RequestException, RuntimeError) as error:
            raise StackError(
                f"expected to download {jar.file_name} from {', '.join(context.remote_repos.values())}: {error}; "
                "check the network (a mirror can be named in ~/.config/jgo.conf, a proxy's certificates in REQUESTS_CA_BUNDLE), "
                "then run it again: what has come is kept"
            ) from None
        if not _right(came, jar):
            raise StackError(
                f"{jar.file_name} was downloaded, but is not the file with sha256 {jar.sha256}: the mirror or a proxy serves another one"
            )
        target = repository / jar.repository_path
        target.parent.mkdir(parents=True, exist_ok=True)
        came.replace(target)


def _repositories() -> dict[str, str] | None:
    """The user's mirrors, as jgo is set up with; None for Maven's central repository."""
    return GlobalSettings.load().repositories or None


def _place(stored: Path, target: Path) -> None:
    """Link the jar, or copy it where the two are on different file systems; never seen half."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        os.link(stored, fresh)
    except OSError:
        shutil.copyfile(stored, fresh)
    fresh.replace(target)


if __name__ == "__main__":
    try:
        fetch(Layout.of(load().stack.state_dir).jars, tell=print)
        share_classes()
    except KlinestreamError as error:
        sys.exit(f"klinestream: {error}")
