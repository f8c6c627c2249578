"""A workflow as a file says it: NAME.toml, its parameters and its steps.

about = "…"
[parameters.files]                          a value that a run may be given; without `default` it must be
[[steps]]                                   in order: each needs all before it
name = "load"
run = ["archive", "import", "{files}"]      a command of klinestream; {files} a parameter, {out} the step's own folder,
inputs = ["{files}"]                        {load.out} that of a former step
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from klinestream.market.errors import ConfigError
from klinestream.market.workflows import STEPS_MOST

OUT = "out"
WAITING = "wait_before"
"""On Kubernetes a step's pod waits in a container of this name."""
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*(?:\.out)?)\}")
_NAME = r"^[a-z]([a-z0-9_]{0,29}[a-z0-9])?$"
_FILE_NAME = re.compile(_NAME)
_SHIPPED = "klinestream.workflow.definitions"

Name = Annotated[str, Field(pattern=_NAME)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
Known = Callable[[Sequence[str]], str]
"""What is wrong with a command's words; empty if there is such a command."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Table):
    """A value that a run is given."""

    about: str
    default: str | None = None
    kind: Literal["text", "time"] = "text"
    """A time may be an age such as 30d: a run takes it as it is when it begins, and keeps to it."""


class Step(_Table):
    """One command."""

    name: Name
    about: str = ""
    run: Annotated[tuple[str, ...], Field(min_length=1)]
    inputs: tuple[str, ...] = ()
    """Files and folders: where they have changed, this step and all after it are done anew."""
    timeout_s: Seconds = 86_400.0
    """An attempt that takes longer has failed."""
    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff_s: Seconds = 5.0
    """Before the second attempt; then twice as long each time, with jitter."""
    backoff_most_s: Seconds = 300.0
    cpu: Annotated[str, Field(pattern=r"^\d+m?$")] = "1"
    """On Kubernetes."""
    memory: Annotated[str, Field(pattern=r"^\d+(Mi|Gi)$")] = "1Gi"
    """On Kubernetes."""

    @property
    def keeps(self) -> bool:
        """It makes a folder of its own, which serves every run that asks for the same."""
        return any(OUT in PLACEHOLDER.findall(word) for word in self.run)


class Definition(_Table):
    """A whole workflow."""

    name: Name
    about: str
    parameters: dict[Name, Parameter] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=STEPS_MOST)]

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=16).hexdigest()

    @model_validator(mode="after")
    def _fits(self) -> "Definition":
        names = [step.name for step in self.steps]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"steps: expected names that differ, got {', '.join(twice)} twice")
        if WAITING in names:
            raise ValueError(f"steps: expected another name than {WAITING}, which is that of what waits before a step")
        if OUT in self.parameters:
            raise ValueError(f"parameters: expected another name than {OUT}, which is a step's own folder")
        folders: list[str] = []
        for step in self.steps:
            known = [*self.parameters, OUT, *folders]
            for word in (*step.run, *step.inputs):
                _refuse_unknown(step.name, word, known)
            folders += [f"{step.name}.{OUT}"] if step.keeps else []
        return self


def _refuse_unknown(step: str, word: str, known: Sequence[str]) -> None:
    unknown = [name for name in PLACEHOLDER.findall(word) if name not in known]
    if unknown or "{" in PLACEHOLDER.sub("", word) or "}" in PLACEHOLDER.sub("", word):
        wanted = ", ".join(f"{{{name}}}" for name in known)
        raise ValueError(f"step {step}: expected of {wanted}, got {word!r}: only a former step that uses {{out}} has a folder")


def read(text: str, place: str, name: str, wrong: Known = lambda _: "") -> Definition:
    """A definition from the text of its file; raises ConfigError. `wrong` tells what is wrong with a command."""
    if not _FILE_NAME.fullmatch(name):
        raise ConfigError(
            f"{place}: expected a name of up to 31 lower case letters, digits and _, from a letter to no _, got {name!r}: rename the file"
        )
    try:
        definition = Definition.model_validate({"name": name, **tomllib.loads(text)})
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removeprefix(": ") for fault in error.errors()]
        raise ConfigError(f"{place} has {len(faults)} fault(s):\n  " + "\n  ".join(faults)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place}: expected TOML: {error}") from None
    for step in definition.steps:
        if fault := wrong(step.run):
            raise ConfigError(f"{place}: step {step.name}: {fault}")
    return definition


def shipped() -> Iterator[tuple[str, str, str]]:
    """Name, place and text of the workflows that come with klinestream."""
    for file in sorted(resources.files(_SHIPPED).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            yield file.name.removesuffix(".toml"), f"{_SHIPPED}/{file.name}", file.read_text()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: expected a file that can be read: {error}") from None


def definitions(folder: Path, wrong: Known = lambda _: "") -> dict[str, Definition]:
    """All that are known by name: those that come along, and over them those of a folder. Raises ConfigError."""
    texts = {name: (place, text) for name, place, text in shipped()}
    texts |= {path.stem: (str(path), _text(path)) for path in sorted(folder.glob("*.toml"))}
    return {name: read(text, place, name, wrong) for name, (place, text) in sorted(texts.items())}


def definition(folder: Path, name: str, wrong: Known = lambda _: "") -> Definition:
    """One of them; raises ConfigError. A fault in another one doesn't matter."""
    own = folder / f"{name}.toml"
    if own.is_file():
        return read(_text(own), str(own), name, wrong)
    for known, place, text in shipped():
        if known == name:
            return read(text, place, name, wrong)
    there = sorted({*(name for name, _, _ in shipped()), *(path.stem for path in folder.glob("*.toml"))})
    raise ConfigError(f"expected a workflow of {', '.join(there)}, got {name!r}: `klinestream workflow list` shows them")
