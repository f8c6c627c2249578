"""The kind `boosting`: gradient-boosted trees by LightGBM, one booster for the return and one for its sign.

Deterministic: fixed seeds, one thread, and LightGBM's own text form, which is no pickle and holds every threshold to the last digit.
The extra `ml` brings LightGBM; serving needs it too.

Source: Ke and others, LightGBM: A Highly Efficient Gradient Boosting Decision Tree (2017).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market.decimals import Floats
from klinestream.market.errors import ConfigError
from klinestream.models.arithmetic import sigmoid
from klinestream.models.model import Forecasts, decode_arrays, encode_arrays
from klinestream.models.panel import Panel
from klinestream.models.scaling import Scale

RETURN, SIGN, UNIT = "return.txt", "sign.txt", "unit.json"
SETTINGS: Mapping[str, Any] = {
    # Small trees, a slow rate and large leaves: returns are nearly all noise, and a deep tree learns it by heart.
    "num_leaves": 15,
    "learning_rate": 0.05,
    "num_iterations": 100,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.8,
    "lambda_l2": 1.0,
    "seed": 1,
}
_DETERMINISTIC = {"deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1}


@dataclass(frozen=True, slots=True)
class Boosting:
    """Two boosters as text, and what they read to."""

    texts: Mapping[str, str]
    boosters: Mapping[str, Any]
    unit: float

    def predict(self, inputs: Floats) -> Forecasts:
        """Forecasts of each symbol from its own inputs."""
        known = np.isfinite(inputs).all(axis=-1)
        returns, odds = np.full(known.shape, np.nan), np.full(known.shape, np.nan)
        if known.any():
            rows = np.ascontiguousarray(inputs[known])
            returns[known] = self.boosters[RETURN].predict(rows, raw_score=True, num_threads=1) * self.unit
            # The raw score: LightGBM's own sigmoid is the C library's, which differs from machine to machine.
            odds[known] = self.boosters[SIGN].predict(rows, raw_score=True, num_threads=1)
        return Forecasts(returns, sigmoid(odds))

    def reach(self, symbol: int) -> tuple[int, ...]:
        """Itself alone."""
        return (symbol,)

    def files(self) -> dict[str, bytes]:
        """The boosters as text, and the unit of returns."""
        return {name: text.encode() for name, text in self.texts.items()} | {UNIT: encode_arrays({"unit": np.array(self.unit)})}


def load(files: Mapping[str, bytes]) -> Boosting:
    """From its files; raises KeyError or ValueError where they aren't such, ConfigError without LightGBM."""
    return _of({name: files[name].decode() for name in (RETURN, SIGN)}, float(decode_arrays(files[UNIT], ["unit"])["unit"]))


def train(panel: Panel) -> Boosting:
    """On all rows of a panel that are known. Raises ConfigError without LightGBM."""
    lightgbm, known = _lightgbm(), panel.known
    labels = panel.labels[known]
    unit = Scale.fit(panel.inputs[known], labels).unit
    texts = {}
    moved = labels != 0  # a return of exactly zero is neither up nor down
    targets = {RETURN: ("regression", labels / unit, np.ones_like(moved)), SIGN: ("binary", labels > 0, moved)}
    for name, (objective, target, rows) in targets.items():
        data = lightgbm.Dataset(panel.inputs[known][rows], target[rows].astype(np.float64), free_raw_data=True)
        texts[name] = lightgbm.train({**SETTINGS, **_DETERMINISTIC, "objective": objective}, data).model_to_string()
    return _of(texts, unit)


def _of(texts: Mapping[str, str], unit: float) -> Boosting:
    lightgbm = _lightgbm()
    try:
        return Boosting(texts, {name: lightgbm.Booster(model_str=text) for name, text in texts.items()}, unit)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise ConfigError(
            "a model of the kind boosting needs LightGBM, which isn't installed: `pip install 'klinestream[ml]'`, or take --kind linear"
        ) from None
    return lightgbm
