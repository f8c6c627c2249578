"""The lock files: which packages of which version are locked, and where."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from scripts.release import ROOT, ReleaseError

RUN = ROOT / "requirements.lock"
"""What `make install` installs: all that runs, and what installs it."""
BOOTSTRAP = ROOT / "requirements-bootstrap.lock"
"""What installs the rest."""
DEV = ROOT / "requirements-dev.lock"
"""That, and what builds, tests and checks."""
ML = ROOT / "requirements-ml.lock"
"""All of it, and what models are trained with."""

# name==version, then a marker if it isn't for every Python or system, then hashes on lines of their own.
_LINE = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;]+)(?: ; (?P<marker>.*?))?(?: \\)?$")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package as it is locked."""

    name: str
    version: str
    marker: str

    @property
    def requirement(self) -> str:
        """As pip takes it, without hashes."""
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")


def locked(file: Path) -> tuple[Locked, ...]:
    """The file's packages, in its order; one that is locked for each Python apart comes several times. Raises ReleaseError."""
    found = []
    for line in file.read_text().splitlines():
        if not line or line[0] in " #":
            continue
        part = _LINE.match(line)
        if part is None:
            raise ReleaseError(f"expected name==version in {file.name}, got {line!r}: make it anew with `make lock`")
        found.append(Locked(canonicalize_name(part["name"]), part["version"], part["marker"] or ""))
    return tuple(found)


def names(file: Path) -> frozenset[str]:
    """The names of the file's packages, in their canonical form."""
    return frozenset(package.name for package in locked(file))


def constraints(file: Path) -> str:
    """The file without its hashes, for `pip install --constraint`, which takes none beside a wheel from a folder."""
    return "".join(f"{package.requirement}\n" for package in locked(file))
