"""The kind `graph`: a small graph neural network over the symbols, each of which hears its most correlated ones.

    inputs of BTC ─┐                        ┌─► return
    inputs of ETH ─┼─► layer ─► layer ─► … ─┤              a layer: relu(own W + mean of the neighbours V + b)
    inputs of SOL ─┘   hears its neighbours └─► log odds   after two layers a forecast reaches neighbours of neighbours

Trained by JAX and optax (the extra `ml`); forecasts are numpy's, in a fixed order, so serving needs neither, and one moment live
gives the bits of a million offline. The neighbours are those of the training span alone.

Source: Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs (2017), mean aggregator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.market.errors import ConfigError
from klinestream.models.arithmetic import dense, sigmoid
from klinestream.models.model import Forecasts, decode_arrays, encode_arrays
from klinestream.models.panel import Panel
from klinestream.models.scaling import Scale

FILE = "weights.json"
SETTINGS: Mapping[str, Any] = {
    "neighbours": 4,
    "layers": 2,
    "width": 16,
    "epochs": 20,
    "moments": 128,
    "rate": 3e-3,
    "decay": 1e-3,
    "seed": 1,
}
SYMBOLS_MOST = 2000
_MOMENTS_AT_ONCE = 256  # a forecast's memory, whatever is asked for

Weights = dict[str, Any]
"""Of each layer L `own_L`, `heard_L` (in, out) and `bias_L` (out,); of the two outputs `own_out` and `bias_out`."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Neighbours (symbols, k), the scale of inputs, and the weights."""

    neighbours: Ints
    scale: Scale
    weights: Mapping[str, Floats]

    @property
    def layers(self) -> int:
        """How often symbols hear their neighbours."""
        return sum(name.startswith("heard_") for name in self.weights)

    def predict(self, inputs: Floats) -> Forecasts:
        """Forecasts of all of its symbols; inputs (moments, symbols, inputs) of just those, in their order."""
        if inputs.shape[1] != len(self.neighbours):
            raise ConfigError(f"graph: expected inputs of the model's {len(self.neighbours)} symbols, got {inputs.shape[1]}")
        parts = [self._forward(inputs[at : at + _MOMENTS_AT_ONCE]) for at in range(0, len(inputs), _MOMENTS_AT_ONCE)]
        out = np.concatenate([np.zeros((0, len(self.neighbours), 2)), *parts])
        return Forecasts(out[..., 0] * self.scale.unit, sigmoid(out[..., 1]))

    def reach(self, symbol: int) -> tuple[int, ...]:
        """Itself and its neighbours, theirs, and so on, a layer each."""
        found = {symbol}
        for _ in range(self.layers):
            found |= {int(each) for one in found for each in self.neighbours[one]}
        return tuple(sorted(found))

    def files(self) -> dict[str, bytes]:
        """All numbers in one file."""
        scale = {"mean": self.scale.mean, "deviation": self.scale.deviation, "unit": np.array(self.scale.unit)}
        return {FILE: encode_arrays(scale | {"neighbours": self.neighbours.astype(np.float64)} | dict(self.weights))}

    def _forward(self, inputs: Floats) -> Floats:
        held = self.scale.of(inputs)
        for layer in range(self.layers):
            heard = np.zeros_like(held)
            for place in range(self.neighbours.shape[1]):
                heard += held[:, self.neighbours[:, place]]
            heard /= self.neighbours.shape[1]
            silent = np.zeros_like(self.weights[f"bias_{layer}"])
            own = dense(held, self.weights[f"own_{layer}"], self.weights[f"bias_{layer}"])
            held = np.maximum(own + dense(heard, self.weights[f"heard_{layer}"], silent), 0.0)
        return dense(held, self.weights["own_out"], self.weights["bias_out"])


def load(files: Mapping[str, bytes]) -> Graph:
    """From its files; raises KeyError or ValueError where they aren't such."""
    layers = sum(content.count(b'"heard_') for content in files.values())
    names = [f"{part}_{layer}" for layer in range(layers) for part in ("own", "heard", "bias")]
    arrays = decode_arrays(files[FILE], ["mean", "deviation", "unit", "neighbours", "own_out", "bias_out", *names])
    scale = Scale(arrays.pop("mean"), arrays.pop("deviation"), float(arrays.pop("unit")))
    return Graph(arrays.pop("neighbours").astype(np.int64), scale, arrays)


def neighbours(panel: Panel, count: int) -> Ints:
    """Of each symbol the others whose last candles' returns were most correlated with its own, (symbols, count), best first."""
    changes = panel.past(1)
    known = np.isfinite(changes)
    centred = np.where(known, changes - np.nanmean(np.where(known.any(axis=0), changes, 0.0), axis=0), 0.0)
    deviation = np.maximum(np.sqrt((centred * centred).sum(axis=0)), 1e-300)
    likeness = (centred.T @ centred) / np.outer(deviation, deviation)
    np.fill_diagonal(likeness, -np.inf)
    # Rounded, so that the last bits of a sum by BLAS choose no neighbour; equal ones by name.
    return np.argsort(-np.round(likeness, 9), axis=1, kind="stable")[:, :count]


def train(panel: Panel) -> Graph:
    """On all rows of a panel whose reach is known. Raises ConfigError without JAX, and for symbols too few or too many."""
    count = len(panel.symbols)
    if not 2 <= count <= SYMBOLS_MOST:
        raise ConfigError(f"graph: expected from 2 to {SYMBOLS_MOST} symbols, got {count}: choose others, or take another kind")
    near = neighbours(panel, min(int(SETTINGS["neighbours"]), count - 1))
    scale = Scale.fit(panel.inputs[panel.known], panel.labels[panel.known])
    heard = np.isfinite(panel.inputs).all(axis=2)
    for _ in range(int(SETTINGS["layers"])):
        heard = heard & heard[:, near].all(axis=2)
    from klinestream.models.graph_training import fit

    weights = fit(scale.of(np.nan_to_num(panel.inputs)), panel.labels / scale.unit, heard & panel.known, near, SETTINGS)
    return Graph(near, scale, weights)
