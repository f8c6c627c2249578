"""A histogram for Prometheus that counts many equal values at once: a frame goes to a thousand clients in one go."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Distribution(Collector):
    """Counts by bucket. One thread observes, any may collect.

    >>> found = Distribution("seconds", "…", (0.1, 1.0), CollectorRegistry())
    >>> found.observe(0.05, times=3)
    >>> found.observe(7)
    >>> [(sample.labels, sample.value) for sample in next(found.collect()).samples][:3]
    [({'le': '0.1'}, 3), ({'le': '1.0'}, 3), ({'le': '+Inf'}, 4)]
    """

    def __init__(self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        """`buckets` are upper bounds, rising; a last one without bound is added."""
        self._name = name
        self._documentation = documentation
        self._buckets = (*buckets, float("inf"))
        self._counts = [0] * len(self._buckets)
        self._sum = 0.0
        registry.register(self)

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self._counts[bisect_left(self._buckets, value)] += times
        self._sum += value * times

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Its name, with no values."""
        yield HistogramMetricFamily(self._name, self._documentation)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What was observed so far."""
        counts = zip(map(floatToGoString, self._buckets), accumulate(self._counts), strict=True)
        yield HistogramMetricFamily(self._name, self._documentation, buckets=list(counts), sum_value=self._sum)
