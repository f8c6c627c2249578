"""How much of everything a market takes, from what was measured, and where each part is full. Pure.

    symbols of a venue ─► topics, producers, jobs, archive ┐
    viewers ─► servers                                     ├─► pods, cores, memory, network, disk
    venues ─► a set of topics each, beside each other ─────┘
    replicas ─► brokers and their disks

A venue has its own topics (`kafka.topic_prefix`) with its own producers, jobs and servers: a topic's partitions never change, and so
nothing has to be believed of one venue's parts that was not measured at its number of symbols. Only brokers are shared.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf

from bench.scale_costs import Costs, records_a_day
from klinestream.market.intervals import DAY_MS, HOUR_MS
from klinestream.market.topics import CANDLES, INDICATORS, KLINES, PROVISIONAL_CANDLES, SIGNALS, SYMBOL_PARTITIONS, TOPICS, WINDOWS, Topic

BUSY = 0.6
"""Of a core, in the mean: a second's klines come all at once, and who was away has to catch up."""
LATENCY_MS = 500.0
"""p99 that viewers are to have, from a window's publishing on: the next one is due by then."""
BROKER_CORES = 4
DISK_FULL = 0.7
_SECONDS_A_DAY = 86_400
_PAGE_CACHE_S = 600
"""Readers that are this far behind are still served from memory."""
_SERVED = frozenset(topic.name for topic in (WINDOWS, CANDLES, INDICATORS, SIGNALS, PROVISIONAL_CANDLES))
_READERS = {KLINES.name: 3}
"""Besides archive and servers: both jobs and repair."""
_GB, _MB = 1e9, 1e6
JOBS = ("windows", "candles")


@dataclass(frozen=True, slots=True)
class Market:
    """What is wanted. `symbols` are those of one venue; viewers are spread evenly over venues and look at one venue each.

    `standby`: each venue has a second producer, and one server more than its viewers need.
    """

    symbols: int
    venues: int = 1
    viewers: int = 0
    followed: int = 20
    days: int = 365
    replicas: int = 3
    standby: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError for what can't be."""
        least = {"symbols": 1, "venues": 1, "viewers": 0, "followed": 1, "days": 0, "replicas": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"expected {name} of at least {value}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Need:
    """What a part takes: so many pods, each with this much in the mean. `beyond`: its load over the most that was measured."""

    part: str
    pods: int
    cores: float
    memory_mb: float
    in_mb_s: float
    out_mb_s: float
    beyond: float
    disk_gb: float = 0.0

    @property
    def all_cores(self) -> float:
        """Of all its pods."""
        return self.pods * self.cores

    @property
    def all_memory_gb(self) -> float:
        """Of all its pods."""
        return self.pods * self.memory_mb / 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """A topic of one venue: what comes, and what the broker holds of it, one copy."""

    topic: Topic
    mb_s: float
    hours: float
    """How far back it reaches: `retention_ms`, or less where `retention_bytes` is reached before."""
    gb: float
    gb_a_day: float
    archive_gb_a_day: float


@dataclass(frozen=True, slots=True)
class Limit:
    """Where something is full: at so many symbols of a venue, or viewers of a server; and what moves it."""

    part: str
    what: str
    at: float
    unit: str
    knob: str


def kept(symbols: int, costs: Costs) -> list[Kept]:
    """The topics that grow with a venue's symbols, the busiest first."""
    found = []
    for topic in TOPICS:
        records = records_a_day(topic.name) * symbols
        if not records or topic.name not in costs.log_bytes:
            continue
        day = records * costs.log_bytes[topic.name].at(symbols)
        full_ms = min(topic.retention_ms, topic.retention_bytes * topic.partitions / day * DAY_MS)
        # What is dropped is dropped by whole segments: one more of each partition is there.
        held = day * full_ms / DAY_MS + topic.partitions * int(topic.settings()["segment.bytes"]) * (full_ms < topic.retention_ms)
        archived = records * costs.archive_bytes.get(topic.name, 0.0)
        found.append(Kept(topic, day / _SECONDS_A_DAY / _MB, full_ms / HOUR_MS, held / _GB, day / _GB, archived / _GB))
    return sorted(found, key=lambda one: -one.mb_s)


def viewers_of_a_server(market: Market, costs: Costs) -> dict[str, float]:
    """What bounds them → how many viewers a server bears. Its reading and its sending share one core, since Python does."""
    each_ms = costs.clients_cpu_ms + costs.followed_cpu_ms * market.followed
    left_ms = BUSY * 1000 - costs.cpu_ms["server"].at(market.symbols)
    # Latency grows with what has to be sent after a second's end, but not evenly: no line is drawn, and none beyond what was measured.
    share = min(1.0, (costs.clients_cpu_ms + costs.followed_cpu_ms * costs.latency_followed) / each_ms)
    return {"core": max(0.0, left_ms / each_ms), "latency": costs.latency_ms.within(LATENCY_MS) * share}


def servers(market: Market, costs: Costs) -> int:
    """Of one venue: enough, with `standby` even with one of them away. Raises ValueError where one bears nobody."""
    bears = min(viewers_of_a_server(market, costs).values())
    if bears < 1:
        raise ValueError(f"expected a server to bear viewers beside reading {market.symbols:,} symbols, it bears none: split the venue")
    return max(1, ceil(market.viewers / market.venues / bears)) + market.standby


def needs(market: Market, costs: Costs) -> list[Need]:
    """Every part, all venues together."""
    topics = kept(market.symbols, costs)
    rates = {one.topic.name: one.mb_s for one in topics}
    return [_producer(market, costs, rates), *_jobs(market, costs, rates), *_readers(market, costs, topics), _broker(market, costs, topics)]


def _producer(market: Market, costs: Costs, rates: Mapping[str, float]) -> Need:
    frames = market.symbols * costs.frame_bytes / _MB
    return _need("producer", (1 + market.standby) * market.venues, market, costs, frames, rates[KLINES.name])


def _jobs(market: Market, costs: Costs, rates: Mapping[str, float]) -> Iterator[Need]:
    made = {"windows": rates[WINDOWS.name], "candles": sum(rates.values()) - rates[KLINES.name] - rates[WINDOWS.name]}
    state_mb = {"windows": 0.0, "candles": costs.state_kb * market.symbols / 1000}
    for job in JOBS:
        yield _need(f"{job}: job manager", market.venues, market, costs)
        manager, workers = (_need(f"{job}: {what}", market.venues, market, costs) for what in ("task manager", "Python"))
        memory_mb = manager.memory_mb + workers.memory_mb + state_mb[job]
        cores = manager.cores + workers.cores
        yield Need(f"{job}: task manager", market.venues, cores, memory_mb, rates[KLINES.name], made[job], manager.beyond)


def _readers(market: Market, costs: Costs, topics: list[Kept]) -> Iterator[Need]:
    everything, served = sum(one.mb_s for one in topics), sum(one.mb_s for one in topics if one.topic.name in _SERVED)
    archived_gb_a_day = sum(one.archive_gb_a_day for one in topics)
    pods = market.venues * servers(market, costs)
    viewers = market.viewers / pods
    cores = costs.cpu_ms["server"].at(market.symbols) + viewers * (costs.clients_cpu_ms + costs.followed_cpu_ms * market.followed)
    memory_mb = costs.memory_mb["server"].at(market.symbols) + (costs.store_kb * market.symbols + costs.clients_kb * viewers) / 1000
    sent = viewers * costs.client_bytes.at(market.followed) / _MB
    yield Need("server", pods, cores / 1000, memory_mb, served, sent, _beyond(market, costs, "server"))
    archive = _need("archive", market.venues, market, costs, everything, archived_gb_a_day * _GB / _SECONDS_A_DAY / _MB)
    yield Need(
        archive.part,
        archive.pods,
        archive.cores,
        archive.memory_mb,
        archive.in_mb_s,
        archive.out_mb_s,
        archive.beyond,
        archived_gb_a_day * market.days,
    )
    yield _need("repair", market.venues, market, costs, 0.0, 0.0)


def _broker(market: Market, costs: Costs, topics: list[Kept]) -> Need:
    """All venues' brokers. What followers take of a broker is set as high as what the leader takes: that was not measured."""
    cores = costs.cpu_ms["broker"].at(market.symbols) * market.venues * market.replicas / 1000
    brokers = max(market.replicas, ceil(cores / (BUSY * BROKER_CORES)))
    came = sum(one.mb_s for one in topics) * market.venues
    reads = servers(market, costs)
    read = sum(one.mb_s * (1 + _READERS.get(one.topic.name, 0) + reads * (one.topic.name in _SERVED)) for one in topics) * market.venues
    cache_mb = came * market.replicas * _PAGE_CACHE_S / brokers
    memory_mb = costs.memory_mb["broker"].at(market.symbols) + cache_mb
    disk_gb = sum(one.gb for one in topics) * market.venues * market.replicas / brokers / DISK_FULL
    taken, given = came * market.replicas, came * (market.replicas - 1) + read
    beyond = market.symbols * market.venues * market.replicas / brokers / costs.cpu_ms["broker"].most
    return Need("broker", brokers, cores / brokers, memory_mb, taken / brokers, given / brokers, beyond, disk_gb)


def _need(part: str, pods: int, market: Market, costs: Costs, in_mb_s: float = 0.0, out_mb_s: float = 0.0) -> Need:  # noqa: PLR0917  # a row
    cpu, memory = costs.cpu_ms[part].at(market.symbols), costs.memory_mb[part].at(market.symbols)
    return Need(part, pods, cpu / 1000, memory, in_mb_s, out_mb_s, _beyond(market, costs, part))


def _beyond(market: Market, costs: Costs, part: str) -> float:
    return market.symbols / costs.cpu_ms[part].most


def limits(market: Market, costs: Costs) -> list[Limit]:
    """Where things are full, the earliest first: those of symbols of one venue, then those of viewers."""
    found = [*_symbol_limits(costs), *_rest_limits(), *_topic_limits(costs)]
    return sorted((one for one in found if one.at < inf), key=lambda one: one.at) + _viewer_limits(market, costs)


def _symbol_limits(costs: Costs) -> Iterator[Limit]:
    full = BUSY * 1000
    for part, knob in (
        ("producer", "a producer for some of the symbols each (`exchange.symbols`)"),
        ("windows: Python", f"`windows.parallelism`, up to {SYMBOL_PARTITIONS}"),
        ("candles: Python", f"`candles.parallelism`, up to {SYMBOL_PARTITIONS}"),
        ("server", "a set of topics for some of the symbols, with servers of its own"),
        ("archive", "an archive for some of the topics each (`archive.topics`)"),
    ):
        yield Limit(part, f"{BUSY:.0%} of a core, in the mean", costs.cpu_ms[part].place_of(full), "symbols", knob)
    yield Limit(
        "windows: Python", "an hour away takes two to catch up with", costs.klines_a_second / 1.5, "symbols", "`windows.parallelism`"
    )
    yield Limit("candles: Python", "midnight takes a second", 1000 / costs.candles_burst_ms, "symbols", "`candles.parallelism`")
    yield Limit("producer", "a second's frames take a second", costs.frames_a_second, "symbols", "a producer for some of the symbols each")
    yield Limit(
        "server", "its store takes no further symbol", costs.symbols_of_a_server, "symbols", "a set of topics for some of the symbols"
    )


def _rest_limits() -> Iterator[Limit]:
    """By the exchange's weight of 6,000 a minute, 90 % for what is urgent, half for the rest; see klinestream/runtime/weights.py."""
    knob = "an address of its own for some of the symbols' producers"
    yield Limit("producer", "a gap of a quarter of an hour of all symbols refilled within a minute", 5400 / 2, "symbols", knob)
    yield Limit(
        "producer", "every symbol compared within `producer.reconcile_s`", 600 / 60 * 3000 / (2 + 4), "symbols", "`producer.reconcile_s`"
    )
    yield Limit("producer", "history of all symbols and intervals fetched within an hour", 60 * 3000 / (7 * 2), "symbols", knob)


def _topic_limits(costs: Costs) -> Iterator[Limit]:
    for topic in (KLINES, WINDOWS):
        day = records_a_day(topic.name) * costs.log_bytes[topic.name].at(inf)
        at = topic.partitions * topic.retention_bytes / day
        yield Limit("broker", f"a day of `{topic.name}` doesn't fit any more", at, "symbols", "`retention_bytes` of the topic")


def _viewer_limits(market: Market, costs: Costs) -> list[Limit]:
    told = {
        "core": (f"{BUSY:.0%} of a core", "replicas of the server"),
        "latency": (f"p99 is known to stay within {LATENCY_MS:.0f} ms up to here, and no further", "replicas of the server, or patience"),
    }
    found = [Limit("server", told[name][0], at, "viewers", told[name][1]) for name, at in viewers_of_a_server(market, costs).items()]
    of_wire = 0.6 * 10e9 / 8 / costs.client_bytes.at(market.followed)
    found.append(Limit("server's node", "60 % of a wire of 10 Gbit/s", of_wire, "viewers", "`server.compress`, or fewer servers a node"))
    return sorted(found, key=lambda one: one.at)
