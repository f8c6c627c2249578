"""The kind `linear`: ridge regression of the return, ridge logistic regression of its sign, by numpy alone.

What a naive modeller would begin with, and so what the others have to beat.

Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), 3.4.1 and 4.4.1 (Newton's steps).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats
from klinestream.models.arithmetic import dense, sigmoid
from klinestream.models.model import Forecasts, decode_arrays, encode_arrays
from klinestream.models.panel import Panel
from klinestream.models.scaling import Scale

FILE = "weights.json"
PENALTY = 1e-3
_NEWTON_STEPS = 12  # converges after five or six: the penalty keeps it convex
_NAMES = ("mean", "deviation", "unit", "weights", "bias")


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights (inputs, 2) and bias (2,): of the return in units of its deviation, and of the log odds."""

    scale: Scale
    weights: Floats
    bias: Floats

    def predict(self, inputs: Floats) -> Forecasts:
        """Forecasts of each symbol from its own inputs."""
        out = dense(self.scale.of(inputs), self.weights, self.bias)
        return Forecasts(out[..., 0] * self.scale.unit, sigmoid(out[..., 1]))

    def reach(self, symbol: int) -> tuple[int, ...]:
        """Itself alone."""
        return (symbol,)

    def files(self) -> dict[str, bytes]:
        """All numbers in one file."""
        scale = {"mean": self.scale.mean, "deviation": self.scale.deviation, "unit": np.array(self.scale.unit)}
        return {FILE: encode_arrays(scale | {"weights": self.weights, "bias": self.bias})}


def load(files: Mapping[str, bytes]) -> Linear:
    """From its files; raises KeyError or ValueError where they aren't such."""
    mean, deviation, unit, weights, bias = decode_arrays(files[FILE], _NAMES).values()
    return Linear(Scale(mean, deviation, float(unit)), weights, bias)


def train(panel: Panel) -> Linear:
    """On all rows of a panel that are known."""
    known = panel.known
    scale = Scale.fit(panel.inputs[known], panel.labels[known])
    x = np.column_stack([scale.of(panel.inputs[known]), np.ones(known.sum())])
    penalty = np.diag(np.append(np.full(x.shape[1] - 1, PENALTY * len(x)), 0.0))
    labels = panel.labels[known]
    by_return = np.linalg.solve(x.T @ x + penalty, x.T @ (labels / scale.unit))
    # A return of exactly zero is neither up nor down.
    x, up = x[labels != 0], (labels[labels != 0] > 0).astype(np.float64)
    by_sign = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        chance = sigmoid(x @ by_sign)
        curvature = (x.T * np.maximum(chance * (1 - chance), 1e-9)) @ x + penalty
        by_sign = by_sign + np.linalg.solve(curvature, x.T @ (up - chance) - penalty @ by_sign)
    both = np.column_stack([by_return, by_sign])
    return Linear(scale, both[:-1], both[-1])
