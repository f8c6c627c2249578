"""From a definition and parameters to commands that are fixed for a run: the same again, whenever it goes on. Pure, but for `inputs`.

load ─► digest ─► features ─► digest ─► train ─► digest     a step's digest holds all before it, so what changes
        command,              command,                      early on is done anew to the end, and nothing else is
        its inputs            load's digest
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from klinestream.market.errors import ConfigError
from klinestream.runtime.times import time_of
from klinestream.workflow.definition import OUT, PLACEHOLDER, Definition, Step

VERSION = 1
_DIGEST_BYTES = 16
FOLDER_DIGITS = 12
"""Of a digest, in the name of a folder."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A step with its command as it is run."""

    name: str
    argv: tuple[str, ...]
    digest: str
    out: str
    """The folder that it makes; empty if none."""
    timeout_s: float
    attempts: int
    backoff_s: float
    backoff_most_s: float


def asked(definition: Definition, words: Sequence[str]) -> dict[str, str]:
    """Parameters from words such as `from=30d`; raises ConfigError.

    >>> from klinestream.workflow.definition import read
    >>> text = 'about = "a"\\n[parameters.to]\\nabout = "b"\\n[[steps]]\\nname = "s"\\nrun = ["job"]'
    >>> asked(read(text, "w.toml", "w"), ["to=a=b"])
    {'to': 'a=b'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or name not in definition.parameters:
            known = ", ".join(definition.parameters) or "none"
            raise ConfigError(f"expected a parameter of {definition.name} as name=value, with a name of {known}; got {word!r}")
        found[name] = value
    lacking = [name for name, each in definition.parameters.items() if each.default is None and name not in found]
    if lacking:
        told = "; ".join(f"{name}: {definition.parameters[name].about}" for name in lacking)
        raise ConfigError(f"expected {' and '.join(f'{name}=…' for name in lacking)} for {definition.name}, got none ({told})")
    return found


def values(definition: Definition, given: Mapping[str, str], now_ms: int) -> dict[str, str]:
    """All parameters with their values; times as they are now. Raises ConfigError."""
    found = {}
    for name, parameter in definition.parameters.items():
        value = given.get(name, parameter.default or "")
        found[name] = _time(name, value, now_ms) if parameter.kind == "time" else value
    return found


def _time(name: str, value: str, now_ms: int) -> str:
    """A time in whole seconds, with its zone.

    >>> _time("to", "1h", 7_200_999)
    '1970-01-01T01:00:00Z'
    """
    try:
        return datetime.fromtimestamp(time_of(value, now_ms) // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ConfigError as error:
        raise ConfigError(f"{name}: {str(error).removeprefix('--since: ')}") from None
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{name}: expected a time between the years 1 and 9999, got {value!r}") from None


def plan(
    definition: Definition, parameters: Mapping[str, str], folder: Path, fingerprint: Callable[[str], str] | None = None
) -> tuple[Planned, ...]:
    """The steps as commands; their folders are below `folder`. `fingerprint` tells what there is at a place, `inputs` by default."""
    of = fingerprint or inputs
    found: list[Planned] = []
    known: dict[str, str] = dict(parameters)
    before = ""
    for step in definition.steps:
        digest = _digest(step, parameters, before, [of(_filled(place, known)) for place in step.inputs])
        out = str(folder / f"{step.name}-{digest[:FOLDER_DIGITS]}") if step.keeps else ""
        argv = tuple(_filled(word, known | {OUT: out}) for word in step.run)
        found.append(Planned(step.name, argv, digest, out, step.timeout_s, step.attempts, step.backoff_s, step.backoff_most_s))
        known |= {f"{step.name}.{OUT}": out} if out else {}
        before = digest
    return tuple(found)


def _filled(word: str, known: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda found: known[found[1]], word)


def _digest(step: Step, parameters: Mapping[str, str], before: str, found: Sequence[str]) -> str:
    used = {name: parameters[name] for word in step.run for name in PLACEHOLDER.findall(word) if name in parameters}
    told = {"version": VERSION, "name": step.name, "run": step.run, "parameters": used, "before": before, "inputs": found}
    return hashlib.blake2b(orjson.dumps(told, option=orjson.OPT_SORT_KEYS), digest_size=_DIGEST_BYTES).hexdigest()


def inputs(place: str) -> str:
    """What there is at a place: a digest of all names, sizes and times of change. Raises ConfigError."""
    try:
        return _looked_at(Path(place))
    except OSError as error:  # it may also go away while it is looked at
        raise ConfigError(f"expected files, or nothing, at {place!r}, got: {error}") from None


def _looked_at(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root] if root.exists() else []
    told = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in files:
        about = path.stat()
        told.update(f"{path.relative_to(root)}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return told.hexdigest()
