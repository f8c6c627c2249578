"""How good forecasts were, with intervals that know that neighbouring labels share their time. Pure.

    accuracy      share of rows whose sign was told right, of those whose return isn't exactly zero
    brier         mean squared error of the probability that it is above zero, of the same; less is better, 0.25 is a coin's
    r_squared     1 - squared error of the return / that of the forecast zero; above 0 it knows something
    gross, net    mean return in 1e-4 of being long where the forecast is above zero and short where it is below; net of costs

Sources: Brier, Verification of Forecasts Expressed in Terms of Probability (1950); Campbell and Thompson, Predicting Excess Stock
Returns Out of Sample (2008), for r_squared against zero; Politis and Romano, A Circular Block-Resampling Procedure (1992), for the
intervals: moments are drawn in blocks, all symbols of a moment together, since labels of rows closer than a horizon overlap.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klinestream.market.decimals import Floats, Ints
from klinestream.models.model import Forecasts
from klinestream.models.panel import Bools

SAMPLES = 1000
LEVEL = 0.95
_SEED = 1

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sums:
    """By moment, sums over its symbols, (moments, 8), in the order that `scores` reads them.

    Rows, rows that moved, told right, squared errors of the probability and of the return, squared returns, what positions gained, and
    how many there were.
    """

    by_moment: Floats

    @classmethod
    def of(cls, forecasts: Forecasts, labels: Floats, counted: Bools) -> "Sums":
        """Of forecasts (moments, symbols), where `counted`."""
        y, up = np.where(counted, labels, 0.0), labels > 0
        moved = y != 0
        chance, told = np.where(counted, forecasts.probabilities, 0.0), np.where(counted, forecasts.returns, 0.0)
        side = np.sign(told)
        right, wrong = moved & ((chance > 0.5) == up), moved * (chance - up) ** 2
        each = (counted, moved, right, wrong, (told - y) ** 2, y * y, side * y, np.abs(side))
        return cls(np.stack([np.where(counted, one, 0.0).sum(axis=1) for one in each], axis=1))

    @classmethod
    def joined(cls, parts: list["Sums"]) -> "Sums":
        """One after the other."""
        return cls(np.concatenate([part.by_moment for part in parts]))


def scores(totals: Floats, cost_bps: float) -> dict[str, Floats]:
    """Score → its value, of sums (…, 8). `cost_bps`: of buying and selling once, in 1e-4; where no side was taken gains are 0."""
    _, moved, right, brier, error, square, gained, sides = np.moveaxis(totals, -1, 0)
    moved = np.maximum(moved, 1.0)
    taken = np.maximum(sides, 1.0)
    gross = gained / taken * 1e4
    return {
        "accuracy": right / moved,
        "brier": brier / moved,
        "r_squared": 1.0 - error / np.maximum(square, 1e-300),
        "gross_bps": gross,
        "net_bps": gross - np.where(sides > 0, cost_bps, 0.0),
    }


@dataclass(frozen=True, slots=True)
class Resampled:
    """Which moments each sample is made of: block starts (samples, blocks) and the blocks' length."""

    starts: Ints
    length: int

    @classmethod
    def of(cls, moments: int, horizon_steps: int) -> "Resampled":
        """Blocks of two horizons, or of the cube root of all moments where that is more."""
        length = min(moments, max(2 * horizon_steps, round(moments ** (1 / 3))))
        blocks = -(-moments // length)
        return cls(np.random.default_rng(_SEED).integers(0, moments, (SAMPLES, blocks)), length)

    def totals(self, sums: Sums) -> Floats:
        """Sums of each sample, (samples, 8)."""
        table = sums.by_moment
        running = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(np.concatenate([table, table[: self.length]]), axis=0)])
        return np.asarray((running[self.starts + self.length] - running[self.starts]).sum(axis=1))


def interval(values: Floats) -> Interval:
    """The middle 95 % of samples."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Skill:
    """Whether forecasts beat knowing nothing: intervals of what they gain."""

    brier_gain: Interval
    """Brier score of the majority class less that of the forecasts; above 0 they are better."""
    r_squared: Interval
    net_bps: Interval

    @property
    def shown(self) -> bool:
        """The whole interval of one of the two lies above zero."""
        return self.brier_gain[0] > 0 or self.r_squared[0] > 0

    @property
    def pays(self) -> bool:
        """After costs, too."""
        return self.net_bps[0] > 0


def skill(own: Sums, naive: Sums, horizon_steps: int, cost_bps: float) -> Skill:
    """Of forecasts against the baseline zero, over the same rows."""
    drawn = Resampled.of(len(own.by_moment), horizon_steps)
    mine, other = scores(drawn.totals(own), cost_bps), scores(drawn.totals(naive), cost_bps)
    return Skill(interval(other["brier"] - mine["brier"]), interval(mine["r_squared"]), interval(mine["net_bps"]))


def all_scores(sums: Mapping[str, Sums], cost_bps: float) -> dict[str, dict[str, float]]:
    """Forecaster → score → value."""
    return {
        name: {score: float(value) for score, value in scores(one.by_moment.sum(axis=0), cost_bps).items()} for name, one in sums.items()
    }
