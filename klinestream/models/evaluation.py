"""Walk-forward evaluation: trained on what came before, tested on what came after, beside forecasters that know nothing.

    |·········· train ·········|  purged  |== test ==|                  a model anew for each fold, of the same settings
    |·········· train ····················  purged  |== test ==|

All forecasters are scored over the same rows: those where the model says something and the label is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from klinestream.market.decimals import Ints
from klinestream.market.errors import ConfigError
from klinestream.models.baselines import BASELINES, ZERO
from klinestream.models.model import Forecasts, Model
from klinestream.models.panel import Panel
from klinestream.models.scores import Skill, Sums, all_scores, skill
from klinestream.replay.features.splits import walk_forward

OWN = "model"
ROWS_LEAST = 500  # to train on: of fewer nothing can be learned that holds


@dataclass(frozen=True, slots=True)
class Fold:
    """One test: its span, how many rows were trained on, and the sums of each forecaster."""

    from_ms: int
    to_ms: int
    trained_rows: int
    sums: Mapping[str, Sums]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All folds of a model, and what follows from them."""

    folds: tuple[Fold, ...]
    horizon_steps: int
    cost_bps: float

    @property
    def sums(self) -> dict[str, Sums]:
        """Of each forecaster over all folds."""
        return {name: Sums.joined([fold.sums[name] for fold in self.folds]) for name in self.folds[0].sums}

    @property
    def skill(self) -> Skill:
        """Of the model against knowing nothing, over all folds."""
        return skill(self.sums[OWN], self.sums[ZERO], self.horizon_steps, self.cost_bps)

    @property
    def tested_rows(self) -> int:
        """How many forecasts were scored."""
        return int(self.sums[OWN].by_moment[:, 0].sum())

    def plain(self) -> dict[str, Any]:
        """All numbers as they stand in `metrics.json`."""
        folds = [
            {
                "from_ms": fold.from_ms,
                "to_ms": fold.to_ms,
                "trained_rows": fold.trained_rows,
                "tested_rows": int(fold.sums[OWN].by_moment[:, 0].sum()),
                "scores": all_scores(fold.sums, self.cost_bps),
            }
            for fold in self.folds
        ]
        found = self.skill
        return {
            "cost_bps": self.cost_bps,
            "tested_rows": self.tested_rows,
            "moved_rows": int(self.sums[OWN].by_moment[:, 1].sum()),
            "scores": all_scores(self.sums, self.cost_bps),
            "intervals": {"brier_gain": found.brier_gain, "r_squared": found.r_squared, "net_bps": found.net_bps},
            "skill_shown": found.shown,
            "pays_after_costs": found.pays,
            "folds": folds,
        }


def evaluate(
    panel: Panel, train: Callable[[Panel], Model], folds: int, cost_bps: float, told: Callable[[int], None] = lambda _: None
) -> Evaluation:
    """Walk forward through a panel; `told` gets the number of each fold that begins. Raises ConfigError where rows are too few."""
    found = []
    # What indicators take to be ready is no time to test on.
    usable = np.flatnonzero(panel.known.any(axis=1))
    for number, split in enumerate(walk_forward(panel.times[usable], panel.task.ahead.span_ms, folds)):
        told(number)
        before = panel.take(usable[split.train])
        require_rows(before)
        model = train(before)
        found.append(_fold(model, before, panel, usable[split.test]))
    return _evaluation(found, panel, cost_bps)


def evaluate_trained(model: Model, seen: Panel, panel: Panel, from_ms: int, cost_bps: float) -> Evaluation:
    """A trained model over the moments of a panel from a time on, with baselines that know what came before. Raises ConfigError.

    `seen`: the same rows, from which baselines learn the shares that they need.
    """
    test = np.flatnonzero(panel.times >= from_ms)
    return _evaluation([_fold(model, seen, panel, test)], panel, cost_bps)


def require_rows(panel: Panel) -> None:
    """Raises ConfigError where there is too little to train on."""
    rows = int(panel.known.sum())
    if rows < ROWS_LEAST:
        raise ConfigError(
            f"expected {ROWS_LEAST} rows or more to train on, whose indicators are ready and whose horizon is there, got {rows}: "
            "take more symbols, more time, a shorter horizon, or fewer folds"
        )


def _fold(model: Model, before: Panel, panel: Panel, test: Ints) -> Fold:
    after = panel.take(test)
    # Baselines look back over the edge, as the indicators do.
    up_to = panel.take(np.arange(test[-1] + 1))
    said = {OWN: model.predict(after.inputs)}
    for name, naive in BASELINES.items():
        one = naive(before, up_to)
        said[name] = Forecasts(one.returns[test], one.probabilities[test])
    counted = after.known & np.isfinite(said[OWN].returns)
    sums = {name: Sums.of(one, after.labels, counted) for name, one in said.items()}
    return Fold(int(after.times[0]), int(after.times[-1]), int(before.known.sum()), sums)


def _evaluation(folds: list[Fold], panel: Panel, cost_bps: float) -> Evaluation:
    found = Evaluation(tuple(folds), panel.task.ahead.steps, cost_bps)
    if not found.tested_rows:
        raise ConfigError("expected rows to test on, whose indicators are ready and whose horizon is there, got none: take more rows")
    return found
