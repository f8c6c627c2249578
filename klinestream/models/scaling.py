"""Inputs and labels in units of their own spread, as training found it. Pure."""

from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats

_MOST = 6.0  # deviations: an outlier in one input must not drown the others
_LEAST = 1e-12


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and deviation of each input, and the deviation of labels."""

    mean: Floats
    deviation: Floats
    unit: float

    def of(self, inputs: Floats) -> Floats:
        """Inputs in deviations from their mean, six at most."""
        return np.clip((inputs - self.mean) / self.deviation, -_MOST, _MOST)

    @classmethod
    def fit(cls, inputs: Floats, labels: Floats) -> "Scale":
        """Of known rows (rows, inputs) and their labels (rows,)."""
        return cls(inputs.mean(axis=0), np.maximum(inputs.std(axis=0), _LEAST), max(float(labels.std()), _LEAST))
