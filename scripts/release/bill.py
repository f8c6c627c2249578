"""The bill of materials: what a klinestream that runs is made of, as CycloneDX.

klinestream ─┬─► each package it depends on ─► theirs …      pkg:pypi, scope required; optional where only an extra brings it
             ├─► what installs them                          pkg:pypi, scope excluded: no part of what runs
             └─► each jar of jgo.lock.toml                   pkg:maven, with its sha256

The same input gives the same bytes. Hashes of Python packages, a dozen a package, stay in requirements.lock.
"""

import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from klinestream import __version__
from klinestream.stack.jars import Jar
from scripts.release import ROOT, ReleaseError
from scripts.release.licences import Licensed

_NAME = "klinestream"
_SERIAL = uuid.UUID("6f1de0c2-8a0c-5c8e-9a63-3d9f4f6f3a11")  # of all our bills; a bill's own follows from it, version and time


@dataclass(frozen=True, slots=True)
class Needs:
    """What of klinestream's own requirements leads where."""

    direct: frozenset[str]
    """Packages that klinestream names itself, extras included."""
    required: frozenset[str]
    """Packages that `pip install klinestream` brings."""
    optional: frozenset[str]
    """Those that only an extra brings."""
    edges: Mapping[str, frozenset[str]]
    """Package → what it depends on itself."""


def needs(locked: Iterable[str], extras: Iterable[str] = ("postgres",)) -> Needs:
    """What the locked packages need of each other, by the metadata of this environment."""
    known = frozenset(locked)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    edges: dict[str, frozenset[str]] = {}
    required = _reached(project["dependencies"], known, edges)
    more = [line for extra in extras for line in project["optional-dependencies"][extra]]
    direct = frozenset(canonicalize_name(Requirement(line).name) for line in (*project["dependencies"], *more))
    return Needs(direct & known, required, _reached(more, known, edges) - required, edges)


def bill(packages: Iterable[Licensed], jars: Mapping[Licensed, Jar], found: Needs, made: datetime) -> str:
    """The bill as JSON, valid by CycloneDX's own schema. Raises ReleaseError."""
    root = _component(Licensed(_NAME, __version__, "Apache-2.0"), ComponentType.APPLICATION, None)
    bom = Bom(serial_number=uuid.uuid5(_SERIAL, f"{__version__} {made.isoformat()}"))
    bom.metadata.component = root
    bom.metadata.timestamp = made.astimezone(UTC)
    components = {package.name: _component(package, ComponentType.LIBRARY, _scope(package.name, found)) for package in packages}
    java = [_jar(licensed, jar) for licensed, jar in jars.items()]
    for component in (*components.values(), *java):
        bom.components.add(component)
    bom.register_dependency(root, [*(components[name] for name in sorted(found.direct)), *java])
    for name, component in components.items():
        bom.register_dependency(component, [components[needed] for needed in sorted(found.edges.get(name, frozenset()))])
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    check(text)
    return text


def check(text: str) -> None:
    """Raise ReleaseError if the bill breaks CycloneDX's schema."""
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault is not None:
        raise ReleaseError(f"expected a bill of materials by CycloneDX's schema 1.6, but: {fault}; mend scripts/release/bill.py")


def _reached(requirements: Iterable[str], known: frozenset[str], edges: dict[str, frozenset[str]]) -> frozenset[str]:
    """All locked packages that these lead to; fills in `edges` on the way."""
    waiting = [Requirement(line) for line in requirements]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name not in known or (name, extras) in done:
            continue
        done.add((name, extras))
        inner = [needed for needed in _of(name, extras) if canonicalize_name(needed.name) in known]
        edges[name] = edges.get(name, frozenset()) | {canonicalize_name(needed.name) for needed in inner}
        waiting += inner
    return frozenset(name for name, _ in done)


def _of(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return  # of another system or Python: locked, but not here
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or "extra" not in str(marker) or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def _scope(name: str, found: Needs) -> ComponentScope:
    if name in found.required:
        return ComponentScope.REQUIRED
    return ComponentScope.OPTIONAL if name in found.optional else ComponentScope.EXCLUDED


def _component(entry: Licensed, kind: ComponentType, scope: ComponentScope | None) -> Component:
    url = PackageURL("pypi", name=entry.name, version=entry.version)
    return Component(
        name=entry.name, version=entry.version, type=kind, scope=scope, purl=url, bom_ref=str(url), licenses=[_licence(entry.licence)]
    )


def _jar(entry: Licensed, jar: Jar) -> Component:
    url = PackageURL("maven", namespace=jar.group, name=jar.artifact, version=jar.version)
    return Component(
        group=jar.group,
        name=jar.artifact,
        version=jar.version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        purl=url,
        bom_ref=str(url),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=jar.sha256)],
        licenses=[_licence(entry.licence)],
    )


def _licence(expression: str) -> License:
    """By id or as an expression; a family of licences by name alone, since no id says it."""
    if expression.startswith("LicenseRef-"):
        return DisjunctiveLicense(name=expression.removeprefix("LicenseRef-"))
    return LicenseFactory().make_from_string(expression)
