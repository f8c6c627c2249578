"""Compose's files as Compose itself reads them: what is included put together, and `extends` followed.

    docker-compose.yml ─ include ─► deploy/compose/*.yml ─ extends ─► deploy/compose/common.yml

Only what these files use: mappings are merged, lists joined, commands, single values and the `tmpfs` of a path replaced. Variables
stay as they are written.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")
"""A variable, and what stands in its place where it isn't set."""
_REPLACED = {"command", "entrypoint", "test"}
_OWN = {"depends_on", "profiles"}
"""What `extends` would take over as well; a service says it itself, so that it can be read where it stands."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service as it runs."""

    name: str
    plain: dict[str, Any]
    folder: Path
    """What paths in it are relative to."""

    @property
    def profiles(self) -> frozenset[str]:
        """With which of them it runs; empty if always."""
        return frozenset(self.plain.get("profiles", ()))

    @property
    def environment(self) -> dict[str, str | None]:
        """Its variables; without a value where they are passed through."""
        return dict(self.plain.get("environment", {}))

    @property
    def ours(self) -> bool:
        """It runs our image."""
        return self.plain["image"].startswith("klinestream")

    def mounted(self) -> list[Path]:
        """Files and folders of this machine that it sees."""
        return [(self.folder / source).resolve() for source in self._sources() if source.startswith((".", "/"))]

    def volumes(self) -> set[str]:
        """The volumes that it writes to or reads."""
        return {source for source in self._sources() if not source.startswith((".", "/"))}

    def _sources(self) -> list[str]:
        volumes = [_VARIABLE.sub(r"\1", volume) for volume in self.plain.get("volumes", ())]
        return [volume.partition(":")[0] for volume in volumes]


def files(file: Path = FILE) -> list[Path]:
    """The file, all that it includes, and all that these extend."""
    plain = yaml.safe_load(file.read_text())
    included = [found for name in plain.get("include", ()) for found in files(file.parent / name)]
    extended = [file.parent / s["extends"]["file"] for s in plain["services"].values() if isinstance(s.get("extends"), dict)]
    return list(dict.fromkeys((file, *included, *(found.resolve() for found in extended))))


def services(file: Path = FILE) -> dict[str, Service]:
    """All services by their names."""
    plain = yaml.safe_load(file.read_text())
    found = {name: Service(name, _whole(service, file), file.parent) for name, service in plain["services"].items()}
    for name in plain.get("include", ()):
        more = services(file.parent / name)
        assert not found.keys() & more.keys()
        found |= more
    return found


def volumes(file: Path = FILE) -> set[str]:
    """The names of all volumes."""
    plain = yaml.safe_load(file.read_text())
    return set(plain.get("volumes", {})).union(*(volumes(file.parent / name) for name in plain.get("include", ())))


def _whole(service: dict[str, Any], file: Path) -> dict[str, Any]:
    base = service.get("extends")
    if base is None:
        return service
    wanted = base if isinstance(base, dict) else {"service": base}
    other = (file.parent / wanted["file"]).resolve() if "file" in wanted else file
    below = _whole(yaml.safe_load(other.read_text())["services"][wanted["service"]], other)
    assert not _OWN & below.keys()
    return _merged(below, {key: value for key, value in service.items() if key != "extends"})


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif isinstance(value, list) and isinstance(merged.get(key), list) and key not in _REPLACED:
            merged[key] = _joined(key, merged[key], value)
        else:
            merged[key] = value
    return merged


def _joined(key: str, below: list[Any], above: list[Any]) -> list[Any]:
    if key != "tmpfs":
        return [*below, *above]
    return list({entry.partition(":")[0]: entry for entry in (*below, *above)}.values())
