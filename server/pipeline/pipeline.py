"""The pipeline as it flows, for /api/v1/pipeline: the parts' own metrics, Flink's REST interface and the ledger of gaps, put together.

Nobody is asked unless somebody looks, and then once a second at most, however many look:

    GET ─┐                              ┌─► /metrics and /healthz of each part
    GET ─┼─► the look of this second ───┼─► Flink
    GET ─┘                              └─► our own registry, our readers, the ledger
"""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import orjson

from klinestream.market.events import GapState
from klinestream.market.ledger import Gap, Ledger
from klinestream.market.topics import CANDLES, INDICATORS, KLINES, PROVISIONAL_CANDLES, SIGNALS, TRADE_WINDOWS
from klinestream.runtime.server_sections import ServerConfig
from server.pipeline.asking import Asker, AwayError, without_addresses
from server.pipeline.faults import FaultLog
from server.pipeline.flink import JOBS, OPTIONAL, Cluster, Clusters
from server.pipeline.model import Flow, Gaps, Part, State, Told, WorkflowRun
from server.pipeline.parts import Answer, exchange, flink, history, job_of, part_of
from server.pipeline.samples import STARTED, Look, Samples, Trail
from server.rest import tables
from server.rest.errors import RestError
from server.rest.sources import Sources

KEPT_S = 1.0
SPAN_S = 60.0
"""Rates and percentiles are over about a minute, once somebody has looked that long."""
LEDGER_WITHIN_S = 0.3
"""It takes longer where there are many gaps: then it tells of them at the next look."""
GAPS_SHOWN = 10
FAULTS_SHOWN = 12
LINES_MOST = 5
STORED = (CANDLES.name, INDICATORS.name, SIGNALS.name, PROVISIONAL_CANDLES.name)


class Pipeline:
    """Looks at the whole pipeline when it is asked; `clock_s` is a steady clock."""

    def __init__(
        self,
        config: ServerConfig,
        sources: Sources,
        clock_s: Callable[[], float] = time.monotonic,
        workflows: Callable[[], list[WorkflowRun]] = list,
    ) -> None:
        """Asks nobody yet; `workflows` gives the newest runs."""
        self._workflows = workflows
        self._sources = sources
        self._clock_s = clock_s
        self._asker = Asker()
        self._observed = config.observed
        self._flink = Clusters(config.flink_urls, self._asker)
        self._trails = {name: Trail(SPAN_S) for name in (*self._observed, "server", *JOBS)}
        self._reached: set[str] = set()
        self._faults = FaultLog()
        self._ledger: Ledger | None = None
        self._gaps = Gaps()
        self._task: asyncio.Task[bytes] | None = None
        self._until_s = 0.0

    async def told(self) -> bytes:
        """The pipeline as JSON, as it was a second ago at most."""
        if self._task is None or (self._task.done() and self._clock_s() >= self._until_s):
            self._until_s = self._clock_s() + KEPT_S
            self._task = asyncio.create_task(self._look())
        # Who goes away in between must not take the others' answer along.
        return await asyncio.shield(self._task)

    async def close(self) -> None:
        """Close the connections to the parts."""
        await self._asker.close()

    async def _look(self) -> bytes:
        now_ms = self._sources.now_ms()
        asked = asyncio.gather(*(self._ask(name, url, now_ms) for name, url in self._observed.items()))
        cluster, gaps, answers = await asyncio.gather(self._flink.look(now_ms), self._told_of_gaps(), asked)
        parts = self._parts({answer.name: answer for answer in answers}, cluster, now_ms)
        self._faults.note(parts, now_ms)
        of_flink = [fault for job in cluster.jobs.values() for fault in job.faults]
        flows = self._flows({part.name: part for part in parts})
        told = Told(now_ms, parts, flows, gaps, self._faults.newest(FAULTS_SHOWN, of_flink), self._workflows())
        return orjson.dumps(_rounded(asdict(told)))

    async def _ask(self, name: str, url: str, now_ms: int) -> Answer:
        trail = self._trails[name]
        try:
            text, health = await asyncio.gather(self._asker.get(f"{url}/metrics"), self._asker.get(f"{url}/healthz", faulty=True))
            # In a thread: to parse hundreds of lines takes milliseconds, in which a chart would wait.
            samples = await asyncio.to_thread(Samples.read, text)
        except AwayError as error:
            return Answer(name, trail, None, away=str(error), ever=name in self._reached)
        except (ValueError, KeyError, IndexError):
            return Answer(name, trail, None, away="it answered something else than metrics", ever=name in self._reached)
        self._reached.add(name)
        trail.add(Look(self._clock_s(), samples, _age_s(samples, now_ms)))
        lines = [without_addresses(line) for line in health.splitlines()[:LINES_MOST] if line and line != "ok"]
        return Answer(name, trail, samples, tuple(lines), ever=True)

    def _parts(self, answers: Mapping[str, Answer], cluster: Cluster, now_ms: int) -> list[Part]:
        jobs = [self._job(name, cluster, now_ms) for name in JOBS if name == self._shown or name not in OPTIONAL or _runs(cluster, name)]
        asked = [part_of(answer, now_ms) for answer in answers.values()]
        return [exchange(answers), *asked, self._broker(), flink(cluster), *jobs, history(answers), self._server(now_ms)]

    @property
    def _shown(self) -> str:
        """The job whose windows are served."""
        return "trade_windows" if self._sources.hub.history.topic is TRADE_WINDOWS else "windows"

    def _job(self, name: str, cluster: Cluster, now_ms: int) -> Part:
        job = cluster.jobs.get(name)
        if job is not None and job.counts:
            self._trails[name].add(Look(self._clock_s(), Samples.counted(job.counts)))
        newest_ms = None
        if name == self._shown:
            newest_ms = self._sources.hub.history.newest_end_ms
        elif name == "candles":
            newest_ms = self._sources.store.newest_provisional_ms()
        return job_of(name, cluster, self._trails[name], None if newest_ms is None else max(0, now_ms - newest_ms) / 1000)

    def _broker(self) -> Part:
        """The broker, as our own reader sees it."""
        state = self._sources.feed.state
        if state.fault is not None:
            return Part("broker", "broker", State.AWAY, without_addresses(state.fault))
        return Part("broker", "broker", State.RUNNING if state.caught_up else State.UNKNOWN, "" if state.caught_up else "it is being read")

    def _server(self, now_ms: int) -> Part:
        hub, trail = self._sources.hub, self._trails["server"]
        hub.metrics.show_history(hub.history.newest_end_ms, len(hub.history.symbols()), now_ms)
        samples = Samples(hub.metrics.registry.collect())
        trail.add(Look(self._clock_s(), samples, _age_s(samples, now_ms)))
        part = part_of(Answer("server", trail, samples, ever=True), now_ms)
        # Windows may end a little ahead of the clock, which is no age; without any there is none.
        return replace(part, age_s=None if hub.history.newest_end_ms is None or part.age_s is None else max(0.0, part.age_s))

    def _flows(self, parts: Mapping[str, Part]) -> list[Flow]:
        published = [part.per_s for part in parts.values() if part.kind == "producer" and part.per_s is not None]
        lags = [parts[name].behind for name in JOBS if name in parts]
        reached = self._sources.candle_feed.reached
        return [
            Flow(KLINES.name, sum(published) if published else None, max((lag for lag in lags if lag is not None), default=None)),
            Flow(self._sources.hub.history.topic.name, parts["server"].per_s, self._sources.feed.reached.behind),
            *(Flow(topic, reached[topic].per_s, reached[topic].behind) for topic in STORED),
        ]

    async def _told_of_gaps(self) -> Gaps:
        """What the ledger says; while it is being read, or can't be, what it said before."""
        fault = None
        try:
            async with asyncio.timeout(LEDGER_WITHIN_S):
                ledger = await self._sources.gaps.ledger()
            if ledger is not self._ledger:
                self._gaps = await self._sources.encodings.run(lambda: _summary(ledger))
                self._ledger = ledger
        except TimeoutError:
            fault = None if self._ledger is not None else "it is being read"
        except RestError as error:
            fault = without_addresses(f"expected {error.expected}, got {error.came}")
        return replace(self._gaps, fault=fault)


def _runs(cluster: Cluster, name: str) -> bool:
    """Flink knows a job of that name."""
    job = cluster.jobs.get(name)
    return job is not None and bool(job.id)


def _summary(ledger: Ledger) -> Gaps:
    gaps = ledger.gaps()
    counts = Counter(gap.record.state for gap in gaps)
    newest = heapq.nlargest(GAPS_SHOWN, gaps, key=_recency)
    shown = [row | {"reason": without_addresses(row["reason"])} for row in _rows(newest)]
    return Gaps(
        detected=counts[GapState.DETECTED],
        deferred=counts[GapState.DEFERRED],
        unfillable=counts[GapState.UNFILLABLE],
        refilled=counts[GapState.REFILLED],
        repaired=counts[GapState.REPAIRED],
        newest=shown,
    )


def _rows(gaps: list[Gap]) -> list[dict[str, Any]]:
    records = tables.gaps(gaps).records
    return [] if records is None else [dict(record) for record in records()]


def _recency(gap: Gap) -> tuple[int, int, str]:
    return gap.record.from_ms, gap.record.to_ms, gap.record.symbol


def _rounded(told: Any) -> Any:
    """The same with numbers as short as a person reads them: a count of a metric is a float that is whole."""
    if isinstance(told, dict):
        return {name: _rounded(value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [_rounded(value) for value in told]
    if isinstance(told, float):
        return int(told) if told.is_integer() else round(told, 3)
    return told


def _age_s(samples: Samples, now_ms: int) -> float | None:
    started_s = samples.greatest(STARTED)
    return None if started_s is None else max(0.0, now_ms / 1000 - started_s)
