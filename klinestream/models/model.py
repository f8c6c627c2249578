"""What a model is, whatever its kind: inputs of symbols at some moments in, forecasts out.

    inputs (moments, symbols, inputs) ─► predict ─► log return up to the horizon, probability that it is above zero if it isn't zero

A forecast depends on the inputs of the symbols in its reach at its own moment and on nothing else: not on other moments, nor on how
many are asked for at once. One is nan where an input in its reach is.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson

from klinestream.market.decimals import Floats
from klinestream.market.indicators.catalogue import DEFINITIONS
from klinestream.replay.features.labels import Horizon

FORMAT = 1
ID_CHARACTERS = 16  # 64 bits: two of all models ever trained don't share one by chance


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What a model says, nan where it says nothing."""

    returns: Floats
    probabilities: Floats


class Model(Protocol):
    """A trained model of one kind."""

    def predict(self, inputs: Floats) -> Forecasts:
        """Forecasts (moments, symbols) of inputs (moments, symbols, inputs), nan where unknown."""

    def reach(self, symbol: int) -> tuple[int, ...]:
        """The symbols whose inputs a symbol's forecast depends on, itself included, ascending."""

    def files(self) -> dict[str, bytes]:
        """Its weights: file name → content, the same bytes for the same weights."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be forecast, and from what."""

    interval: str
    horizon: str
    indicators: tuple[str, ...]

    @property
    def ahead(self) -> Horizon:
        """How far it looks ahead."""
        return Horizon.of(self.horizon, self.interval)


@dataclass(frozen=True, slots=True)
class Header:
    """What a model's folder says of it, besides its weights."""

    kind: str
    task: Task
    symbols: tuple[str, ...]
    settings: Mapping[str, Any]
    trained_from_ms: int
    trained_to_ms: int
    """Close time of the last row whose label it has seen; the label reaches a horizon further."""
    rows: int
    data: str
    """Digest of the inputs and labels that it was trained on."""
    features: str = ""
    """Fingerprint of the settings of the features, and whether they are as of live or as of final."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The same for models that were asked for alike: kind, task, symbols, settings and what indicators mean."""
        said = {"kind": self.kind, "task": _plain(self.task), "symbols": self.symbols, "settings": dict(self.settings), "is": DEFINITIONS}
        return _digest(orjson.dumps(said, option=orjson.OPT_SORT_KEYS))

    def encode(self) -> bytes:
        """As `model.json`, without the weights' digests."""
        plain = {name: getattr(self, name) for name in self.__slots__} | {"task": _plain(self.task)}
        plain |= {"format": FORMAT, "fingerprint": self.fingerprint}
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Header":
        """From the object of a `model.json`; raises KeyError or TypeError where it isn't one."""
        task = Task(str(plain["task"]["interval"]), str(plain["task"]["horizon"]), tuple(plain["task"]["indicators"]))
        own = {name: plain[name] for name in cls.__slots__ if name not in ("task", "symbols")}
        return cls(task=task, symbols=tuple(plain["symbols"]), **own)


def model_id(header: Header, files: Mapping[str, bytes]) -> str:
    """The id of a model: a digest of all that its forecasts depend on, and of what it was trained on."""
    parts = [header.encode(), *(part for name in sorted(files) for part in (name.encode(), files[name]))]
    return _digest(b"".join(len(part).to_bytes(8, "big") + part for part in parts))


def data_digest(*arrays: Floats) -> str:
    """A digest of arrays, bit for bit."""
    return _digest(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def encode_arrays(arrays: Mapping[str, Floats]) -> bytes:
    """Arrays as JSON: readable, exact (each number comes back to the last bit), and nothing that could be run."""
    plain = {name: array.tolist() for name, array in arrays.items()}
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def decode_arrays(content: bytes, names: Sequence[str]) -> dict[str, Floats]:
    """The arrays of those names; raises KeyError or ValueError where they aren't there."""
    plain = orjson.loads(content)
    return {name: np.array(plain[name], np.float64) for name in names}


def _plain(task: Task) -> dict[str, Any]:
    return {"interval": task.interval, "horizon": task.horizon, "indicators": task.indicators}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:ID_CHARACTERS]
