"""Runs of workflows, as their events tell of them: read in a thread of its own, held by the event loop, bounded.

A server where no workflow ever ran is the same: then there are none.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from klinestream.market.codec import decode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import WORKFLOW, PipelineEvent
from klinestream.market.topics import PIPELINE_EVENTS
from klinestream.market.workflows import Runs
from klinestream.runtime.kafka import Reader, Record
from server.hand_over import HandOver
from server.metrics import Metrics
from server.pipeline.asking import without_addresses
from server.pipeline.model import WorkflowRun, WorkflowStep
from server.reading import Reading

RUNS_SHOWN = 10
LOOK_AGAIN_S = 30.0
_KEY = WORKFLOW.encode()

log = structlog.get_logger()


class WorkflowFeed:
    """Reads the topic from its beginning, then whatever comes."""

    def __init__(self, open_reader: Callable[[], Reader], metrics: Metrics) -> None:
        """`open_reader` is called again after each trouble with the broker."""
        self._metrics = metrics
        self._runs = Runs()
        starts = {PIPELINE_EVENTS.name: lambda reader: {place: first for place, (first, _) in reader.bounds(PIPELINE_EVENTS.name).items()}}
        self._reading = Reading("workflows", open_reader, starts, self, wait_most_s=LOOK_AGAIN_S)
        self._hand_over = HandOver(self._reading.stopping)

    def start(self, loop: asyncio.AbstractEventLoop, after: Callable[[], bool]) -> None:
        """Start to read once `after` says so, or after 15 s; findings go to `loop`."""
        self._hand_over.to(loop)
        self._reading.start(after)

    def stop(self, timeout_s: float) -> None:
        """Stop reading, and wait for it up to `timeout_s`."""
        self._reading.stop(timeout_s)

    def newest(self) -> list[WorkflowRun]:
        """The newest runs, the newest first; in the event loop's thread."""
        return [
            WorkflowRun(
                workflow=run.workflow,
                run=run.run,
                state=run.state,
                started=run.started_ms,
                told=run.told_ms,
                ended=run.ended_ms,
                text=without_addresses(run.text),
                steps=[
                    WorkflowStep(step.name, step.state, step.attempt, step.started_ms, step.ended_ms, without_addresses(step.text))
                    for step in run.steps.values()
                ],
            )
            for run in self._runs.newest(RUNS_SHOWN)
        ]

    def restart(self, topic: str, starts: Mapping[int, int]) -> None:  # noqa: ARG002  # as a sink is told it
        """What is held is void: see `reading.Sink`."""
        self._hand_over.call(self._forget)

    def take(self, records: Sequence[Record]) -> None:
        """Hand events of workflows over: see `reading.Sink`."""
        found = []
        for record in records:
            if (record.key or b"").startswith(_KEY):
                try:
                    found.append(decode_event(PipelineEvent, record.value or b""))
                except RecordError as error:
                    self._rejected(error)
        if found:
            self._hand_over.call(self._add, found)

    def lag(self, topic: str, partition: int, behind: int) -> None:
        """Show how much is left to read."""
        self._metrics.store_lag.labels(topic, partition).set(behind)

    def reconnecting(self) -> None:
        """Nothing is counted: a topic that lacks is no trouble."""

    def _forget(self) -> None:
        self._runs = Runs()

    def _add(self, events: Sequence[PipelineEvent]) -> None:
        for event in events:
            try:
                self._runs.take(event)
            except RecordError as error:
                self._rejected(error)

    def _rejected(self, error: RecordError) -> None:
        self._metrics.store_rejected.labels(PIPELINE_EVENTS.name).inc()
        log.warning("record is no event of a workflow", reason=str(error))
