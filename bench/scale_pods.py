"""What the model's parts ask of Kubernetes: replicas, requests, and memory's limits. Pure.

CPU:     twice what it takes in the mean      a second's klines come at once, and after a restart there is more to do than live;
                                              no limit, since a part that is throttled in that burst is late each second
memory:  a quarter above the mean             its limit half above that
"""

from dataclasses import dataclass
from math import ceil

from bench.scale_costs import Costs
from bench.scale_model import Market, Need, needs

MARKETS = {
    "small": Market(symbols=50, viewers=20, replicas=1, standby=False),
    "market": Market(symbols=1400, viewers=5000),
    "venues": Market(symbols=1400, venues=10, viewers=100_000),
}
"""Three markets that the page and the chart's values are made for."""
FLINK_MB = {"job manager": 504, "task manager": 906}
"""What flink-conf/config.yaml lets each JVM have, all its kinds of memory together; Python's comes on top."""
_MIB = 2**20 / 1e6


@dataclass(frozen=True, slots=True)
class Pod:
    """One part. CPU in cores, memory in MiB, disk in GiB, each of one pod."""

    part: str
    replicas: int
    cpu_request: float
    memory_request_mi: int
    memory_limit_mi: int
    disk_gi: int


def pods(market: Market, costs: Costs) -> list[Pod]:
    """Every part of a market, all venues together."""
    workers = {f"{job}: task manager": costs.memory_mb[f"{job}: Python"].at(market.symbols) for job in ("windows", "candles")}
    return [_pod(need, workers.get(need.part, 0.0)) for need in needs(market, costs)]


def _pod(need: Need, workers_mb: float) -> Pod:
    floor_mb = next((mb for what, mb in FLINK_MB.items() if need.part.endswith(what)), 0) + workers_mb
    request = _up(max(1.25 * need.memory_mb, floor_mb) / _MIB, 64)
    is_archive = need.part == "archive"  # its files are in object storage
    return Pod(
        need.part,
        need.pods,
        max(0.05, _up(200 * need.cores, 5) / 100),
        request,
        _up(1.5 * request, 64),
        0 if is_archive else ceil(need.disk_gb * 1e9 / 2**30),
    )


def _up(value: float, step: int) -> int:
    """To the next whole step.

    >>> _up(130.5, 64)
    192
    """
    return ceil(value / step) * step
