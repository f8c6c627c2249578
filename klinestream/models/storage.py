"""A model's folder: what it is, its weights, its card; there as a whole or not at all.

DIR/model.json    kind, task, symbols, settings, data; the digest of each file of weights
    …             weights, by kind: JSON, or LightGBM's text; never a pickle
    card.md       for people; metrics.json the same numbers for programs
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from klinestream.market.errors import ModelError
from klinestream.models import boosting, graph, linear
from klinestream.models.model import FORMAT, Header, Model, model_id
from klinestream.models.panel import Panel

HEADER, CARD, METRICS = "model.json", "card.md", "metrics.json"


@dataclass(frozen=True, slots=True)
class Kind:
    """How models of a kind are trained and read."""

    train: Callable[[Panel], Model]
    load: Callable[[Mapping[str, bytes]], Model]
    settings: Mapping[str, Any]
    libraries: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "linear": Kind(linear.train, linear.load, {"penalty": linear.PENALTY}, ("numpy",)),
    "boosting": Kind(boosting.train, boosting.load, boosting.SETTINGS, ("lightgbm",)),
    "graph": Kind(graph.train, graph.load, graph.SETTINGS, ("jax", "optax")),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """A model, and all that is known of it."""

    id: str
    header: Header
    model: Model

    @classmethod
    def of(cls, header: Header, model: Model) -> "Stored":
        """With the id that follows from both."""
        return cls(model_id(header, model.files()), header, model)


def save(folder: Path, stored: Stored, card: str, metrics: Mapping[str, Any]) -> None:
    """Write a folder that isn't there yet. Raises ModelError."""
    if folder.exists():
        raise ModelError(f"expected no {folder} yet, but it is there: choose another --out, or move it away")
    files = stored.model.files()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    header = orjson.loads(stored.header.encode()) | {"id": stored.id, "files": digests}
    files |= {HEADER: orjson.dumps(header, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)}
    files |= {CARD: card.encode(), METRICS: orjson.dumps(metrics, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)}
    aside = folder.with_name(folder.name + ".aside")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        aside.rename(folder)
    except OSError as error:
        raise ModelError(f"{folder} can't be written ({error}): check that there is room, and that the folder may be written to") from None


def load(folder: Path) -> Stored:
    """Read a folder, each file checked. Raises ModelError, and ConfigError where the kind's library isn't installed."""
    plain = _header(folder)
    try:
        if plain["format"] != FORMAT or plain["kind"] not in KINDS:
            raise ModelError(
                f"{folder}: expected a model of format {FORMAT} and a kind of {', '.join(KINDS)}, got {plain['format']} and "
                f"{plain['kind']}: train it anew"
            )
        header = Header.of(plain)
        files = {name: _checked(folder / name, digest) for name, digest in plain["files"].items()}
        stored = Stored.of(header, KINDS[header.kind].load(files))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder}: expected a model as `klinestream model train` writes it, but {error!r}: train it anew") from None
    if stored.id != plain.get("id"):
        raise ModelError(f"{folder}: {HEADER} was changed since it was written (its id would be {stored.id}): train it anew")
    return stored


def card(folder: Path) -> str:
    """The model's card. Raises ModelError."""
    _header(folder)
    return _read(folder / CARD).decode()


def _header(folder: Path) -> dict[str, Any]:
    try:
        plain = orjson.loads(_read(folder / HEADER))
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{folder / HEADER}: expected JSON ({error}): train the model anew") from None
    if not isinstance(plain, dict):
        raise ModelError(f"{folder / HEADER}: expected a JSON object: train the model anew")
    return plain


def _checked(path: Path, digest: str) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{path} isn't what was written: train the model anew")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"expected a model's folder with {path.name}: {error}; make one with `klinestream model train`") from None
