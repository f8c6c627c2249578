"""Wheel and sdist, the same bytes each time: files in the archives have the time of the commit, not of the build."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from scripts.release import ROOT, ReleaseError

EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build gave."""

    wheel: Path
    sdist: Path


def build(into: Path, source: Path = ROOT, epoch: int | None = None) -> Built:
    """Build both into a folder. Raises ReleaseError with what the builder said.

    With the hatchling of this environment, which is locked: nothing is fetched for it.
    """
    environment = os.environ | ({} if epoch is None else {EPOCH: str(epoch)})
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(into)]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"expected hatchling to build wheel and sdist, it said: {done.stdout}{done.stderr}")
    (wheel,), (sdist,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return Built(wheel, sdist)


def twice(into: Path, epoch: int) -> Built:
    """Build into a folder, and once more elsewhere. Raises ReleaseError unless both builds are equal."""
    first = build(into, epoch=epoch)
    with tempfile.TemporaryDirectory() as other:
        second = build(Path(other), epoch=epoch)
        for one, two in ((first.wheel, second.wheel), (first.sdist, second.sdist)):
            if sha256(one) != sha256(two):
                raise ReleaseError(f"expected the same {one.name} from the same commit, but two builds differ: see what hatchling takes in")
    return first


def contents(archive: Path) -> frozenset[str]:
    """Paths of all files in a wheel, or in an sdist below its one folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return frozenset(name for name in opened.namelist() if not name.endswith("/"))
    with tarfile.open(archive) as packed:
        return frozenset(member.name.partition("/")[2] for member in packed if member.isfile())


def sha256(file: Path) -> str:
    """The file's digest, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
