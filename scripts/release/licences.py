"""The licences of all locked packages and jars, held to licences.toml. `python -m scripts.release.licences` fails on one not allowed.

What a package's metadata says is read by pip-licenses, from the environment that this runs in. Jars carry theirs in many ways or not
at all, so their groups stand in the file.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, Licensing, get_spdx_licensing
from packaging.utils import canonicalize_name

from klinestream.stack.jars import Jar
from klinestream.stack.jars import locked as locked_jars
from scripts.release import ROOT, ReleaseError, locks

RULES = ROOT / "scripts" / "release" / "licences.toml"
_UNKNOWN = "UNKNOWN"  # pip-licenses' word for metadata that says nothing


@dataclass(frozen=True, slots=True)
class Exempt:
    """A licence that one package alone may have."""

    licence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What licences.toml says."""

    allowed: Mapping[str, str]
    exceptions: Mapping[str, Exempt]
    names: Mapping[str, str]
    silent: Mapping[str, str]
    jars: Mapping[str, str]

    @classmethod
    def read(cls, file: Path = RULES) -> "Rules":
        """The file's rules."""
        said = tomllib.loads(file.read_text())
        exceptions = {name: Exempt(**entry) for name, entry in said["exceptions"].items()}
        return cls(said["allowed"], exceptions, said["names"], said["silent"], said["jars"])


@dataclass(frozen=True, slots=True)
class Licensed:
    """A package or jar, and its licence as an SPDX expression."""

    name: str
    version: str
    licence: str


def metadata() -> dict[str, str]:
    """What each package of this environment says of its licence, by canonical name; none for those that say nothing."""
    ask = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    told = subprocess.run(ask, capture_output=True, text=True, check=True)
    said = {canonicalize_name(entry["Name"]): entry["License"] for entry in json.loads(told.stdout)}
    return {name: licence for name, licence in said.items() if licence != _UNKNOWN}


def packages(locked: Iterable[locks.Locked], said: Mapping[str, str], rules: Rules) -> tuple[Licensed, ...]:
    """Each locked package with its licence. Raises ReleaseError that names each one whose licence isn't known."""
    found, unknown = [], []
    for package in locked:
        try:
            found.append(Licensed(package.name, package.version, _of(package.name, said, rules)))
        except ReleaseError as error:
            unknown.append(str(error))
    if unknown:
        raise ReleaseError("\n".join(dict.fromkeys(unknown)))
    return tuple(found)


def jars(locked: Iterable[Jar], rules: Rules) -> tuple[Licensed, ...]:
    """Each locked jar with its licence. Raises ReleaseError that names each one that licences.toml doesn't have."""
    found = [(jar, rules.jars.get(f"{jar.group}:{jar.artifact}") or rules.jars.get(jar.group)) for jar in locked]
    if unknown := sorted({jar.group for jar, licence in found if licence is None}):
        raise ReleaseError(f"expected the Maven groups {', '.join(unknown)} under [jars] in {RULES.name}: write what their POMs say")
    return tuple(Licensed(f"{jar.group}:{jar.artifact}", jar.version, licence) for jar, licence in found if licence)


def jars_of_images() -> tuple[Jar, ...]:
    """Jars that are locked for images alone, below deploy/ in files of the same form."""
    return tuple(jar for file in sorted((ROOT / "deploy").rglob("*.lock.toml")) for jar in locked_jars(file))


def faults(found: Iterable[Licensed], rules: Rules) -> Iterator[str]:
    """A line for each whose licence isn't allowed."""
    for entry in found:
        exception = rules.exceptions.get(entry.name)
        if exception is not None and exception.licence == entry.licence:
            continue
        if not allowed(entry.licence, rules):
            yield (
                f"{entry.name} {entry.version} is under {entry.licence}, which {RULES.name} doesn't allow: use another package, or write "
                "there why it may be used"
            )


def allowed(licence: str, rules: Rules) -> bool:
    """All of `A AND B` are allowed, or one of `A OR B` is. Raises ReleaseError if it is no expression of SPDX's."""
    spdx = _spdx()
    parsed = _parsed(licence)
    said = {symbol: spdx.TRUE if str(symbol) in rules.allowed else spdx.FALSE for symbol in parsed.literals}
    return bool(parsed.subs(said).simplify() == spdx.TRUE)


def expression(said: str, rules: Rules) -> str:
    """What a package says, as an SPDX expression. Raises ReleaseError if it isn't understood.

    Some give the whole text, whose first line is its name; `A; B` is meant as both.
    """
    parts = [rules.names.get(part.strip(), part.strip()) for part in said.splitlines()[0].split(";")]
    return str(_parsed(" AND ".join(parts)))


def _of(name: str, said: Mapping[str, str], rules: Rules) -> str:
    noted = rules.silent.get(name)
    if name not in said:
        if noted is None:
            raise ReleaseError(f"{name} is not installed, or says nothing of its licence: write it under [silent] in {RULES.name}")
        return noted
    try:
        told = expression(said[name], rules)
    except ReleaseError as error:
        raise ReleaseError(f"{name}: {error}") from None
    if noted not in {None, told}:
        raise ReleaseError(f"{name} says {told} of its licence, {RULES.name} says {noted} under [silent]: take it out there")
    return told


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()


def _parsed(licence: str) -> Any:
    try:
        parsed = _spdx().parse(licence)
        strange = [key for key in _spdx().unknown_license_keys(parsed) if not key.startswith("LicenseRef-")]
    except ExpressionError:
        strange = [licence]
    if strange:
        raise ReleaseError(f"expected SPDX's name of a licence, got {licence!r}: say under [names] in {RULES.name} what is meant")
    return parsed


def main() -> None:
    """Check everything that is locked, the groups `dev` and `ml` too; exit code 1 with a line for each fault."""
    rules = Rules.read()
    try:
        found = (*packages(locks.locked(locks.ML), metadata(), rules), *jars((*locked_jars(), *jars_of_images()), rules))
        wrong = list(faults(found, rules))
    except ReleaseError as error:
        sys.exit(str(error))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"licences of {len({entry.name for entry in found})} packages and jars: all allowed")


if __name__ == "__main__":
    main()
