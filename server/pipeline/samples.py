"""Looks at a part's metrics: totals by name and label, rates, and percentiles of its histograms. Pure.

look ─► look ─► … ─► look        what counts is the difference of the newest look and the oldest one kept
  └────── over_s ──────┘
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

STARTED = "process_start_time_seconds"
STARTED_SLACK_S = 2.0
"""A start is worked out from the machine's, whose clock may be set a little in between."""
SAMPLES_MOST = 5000

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Spread:
    """What a histogram tells: how many were observed, and the percentiles in seconds; None of nothing."""

    count: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


class Samples:
    """The samples of one look, by name."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        """Of what a registry collects, or a text says. Raises ValueError if it has more than 5000 samples, or is no such text."""
        self._of: dict[str, dict[Labels, float]] = {}
        count = 0
        for metric in metrics:
            for sample in metric.samples:
                self._of.setdefault(sample.name, {})[frozenset(sample.labels.items())] = float(sample.value)
                count += 1
                if count > SAMPLES_MOST:
                    raise ValueError(f"expected at most {SAMPLES_MOST} samples of a part, got more")

    @classmethod
    def read(cls, text: str) -> "Samples":
        """Of a part's answer to /metrics."""
        return cls(text_string_to_metric_families(text))

    @classmethod
    def counted(cls, counts: Mapping[str, float]) -> "Samples":
        """Of counters without labels, by their names without `_total`."""
        found = cls(())
        found._of = {f"{name}_total": {frozenset(): count} for name, count in counts.items()}
        return found

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of all samples of a name that have these labels; None if there is none."""
        found = [value for held, value in self._of.get(name, {}).items() if labels.items() <= dict(held).items()]
        return sum(found) if found else None

    def count(self, name: str) -> float:
        """The sum of a counter with labels, which has no samples until it has counted something."""
        return self.total(name) or 0.0

    def greatest(self, name: str) -> float | None:
        """The greatest of a name; None if there is none."""
        return max(self._of.get(name, {}).values(), default=None)

    def by(self, name: str, label: str, *, without: tuple[str, str] | None = None) -> dict[str, float]:
        """The sums of a name by the values of a label; those that have the pair `without` are left out."""
        sums: dict[str, float] = {}
        for held, value in self._of.get(name, {}).items():
            key = dict(held).get(label)
            if key is not None and without not in held:
                sums[key] = sums.get(key, 0.0) + value
        return sums

    def fell_since(self, earlier: "Samples") -> bool:
        """Whether a counter shows less than it did earlier: whoever counts began anew."""
        for name, held in earlier._of.items():
            if name.endswith("_total") and any(self._of.get(name, {}).get(labels, 0.0) < value for labels, value in held.items()):
                return True
        return False

    def buckets(self, name: str, *, without: tuple[str, str] | None = None) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound, whatever its other labels, but for those that have the pair `without`."""
        return {float(bound): count for bound, count in self.by(f"{name}_bucket", "le", without=without).items()}


@dataclass(frozen=True, slots=True)
class Look:
    """What a part said at a time of a steady clock; `age_s` is how long it had run then, if that is known."""

    at_s: float
    samples: Samples
    age_s: float | None = None


class Trail:
    """The looks at one part over the last `span_s`, and one before: what changed since the oldest of them.

    A part that was started anew in between begins a new trail, so that no counter ever falls.
    """

    def __init__(self, span_s: float) -> None:
        """No look yet."""
        self._span_s = span_s
        self._looks: deque[Look] = deque()
        self.restarts = 0
        """How often it was found to be started anew."""

    def add(self, look: Look) -> None:
        """Take a newer look."""
        if self._looks and _another_run(self._looks[-1].samples, look.samples):
            self.restarts += 1
            self._looks.clear()
        self._looks.append(look)
        while len(self._looks) > 2 and self._looks[1].at_s <= look.at_s - self._span_s:
            self._looks.popleft()

    @property
    def over_s(self) -> float | None:
        """How many seconds rates and percentiles are over: since the oldest look, with one alone since the part's start."""
        if not self._looks:
            return None
        oldest, newest = self._looks[0], self._looks[-1]
        return newest.age_s if oldest is newest else newest.at_s - oldest.at_s

    def rate(self, name: str, **labels: str) -> float | None:
        """How much a counter grew a second; None if nobody can tell."""
        over_s = self.over_s
        if not over_s:
            return None
        more = self._more(name, **labels)
        return None if more is None else max(0.0, more) / over_s

    def spread(self, name: str, *, without: tuple[str, str] | None = None) -> Spread:
        """The percentiles of what a histogram observed, but for what has the label and value `without`."""
        if not self._looks:
            return Spread()
        oldest, newest = (look.samples.buckets(name, without=without) for look in (self._looks[0], self._looks[-1]))
        since = {} if len(self._looks) == 1 else oldest
        return spread({bound: max(0.0, count - since.get(bound, 0.0)) for bound, count in newest.items()})

    def _more(self, name: str, **labels: str) -> float | None:
        newest = self._looks[-1].samples.total(name, **labels)
        if newest is None or len(self._looks) == 1:
            return newest
        return newest - (self._looks[0].samples.total(name, **labels) or 0.0)


def _another_run(earlier: Samples, newest: Samples) -> bool:
    before_s, now_s = earlier.greatest(STARTED), newest.greatest(STARTED)
    if before_s is not None and now_s is not None:
        return now_s > before_s + STARTED_SLACK_S
    return newest.fell_since(earlier)


def spread(buckets: Mapping[float, float]) -> Spread:
    """The percentiles of cumulative counts by upper bound."""
    count = buckets.get(math.inf, 0.0)
    if count <= 0:
        return Spread()
    return Spread(round(count), *(quantile(buckets, share) for share in (0.5, 0.95, 0.99)))


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Below what a share of the observations lies, as Prometheus' histogram_quantile tells it: linear within a bucket, and the
    greatest finite bound for what lies beyond it. None of nothing.

    >>> quantile({0.1: 50, 0.2: 100, float("inf"): 100}, 0.75)
    0.15
    >>> quantile({0.1: 50, float("inf"): 100}, 0.75)
    0.1
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    rank = share * buckets[bounds[-1]]
    place = next(place for place, bound in enumerate(bounds) if buckets[bound] >= rank)
    if bounds[place] == math.inf:
        return bounds[place - 1] if place else None
    lower, below = (bounds[place - 1], buckets[bounds[place - 1]]) if place else (0.0, 0.0)
    return round(lower + (bounds[place] - lower) * (rank - below) / (buckets[bounds[place]] - below), 9)
