"""Tells a runner what to do, in `crypto_control`, and waits for its answer in `crypto_pipeline_events`."""

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from uuid import uuid4

from klinestream.market.codec import decode_event, encode_event
from klinestream.market.errors import RecordError, WorkflowError
from klinestream.market.events import WORKFLOW, Order, PipelineEvent, WorkflowCommand
from klinestream.market.topics import CONTROL, PIPELINE_EVENTS, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.market.workflows import Happened, read_detail
from klinestream.runtime.kafka import Reader, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig

CLIENT_ID = "klinestream-workflow-command"
_WRITE_S = 15.0
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a runner said."""

    happened: Happened
    text: str
    fields: dict[str, str]


def command(config: KafkaConfig, workflow: str, order: Order, parameters: Sequence[str] = (), wait_s: float = 30.0) -> Answer:
    """Give a command and wait for the answer. Raises BrokerError, and WorkflowError where it is refused or none answers."""
    now_ms = time.time_ns() // 1_000_000
    told = WorkflowCommand(f"{WORKFLOW}{workflow}", order, tuple(parameters), uuid4().hex, now_ms, f"cli, process {os.getpid()}")
    with closing(open_reader(config, CLIENT_ID)) as reader:
        ends = {partition: end for partition, (_, end) in reader.bounds(PIPELINE_EVENTS.name).items()}
        reader.assign({(PIPELINE_EVENTS.name, partition): end for partition, end in ends.items()})
        _say(config, told)
        answer = _answered(reader, told, time.monotonic() + wait_s)
    if answer is None:
        raise WorkflowError(
            f"expected an answer of a runner within {wait_s:g} s, got none: see that `klinestream workflow serve` runs; the command "
            "stays, and one that starts soon obeys it"
        )
    if answer.happened is Happened.REFUSED:
        raise WorkflowError(f"refused: {answer.text.removeprefix(f'{order}: ')}")
    return answer


def _say(config: KafkaConfig, told: WorkflowCommand) -> None:
    headers = ((SCHEMA_HEADER, b"%d" % SCHEMA_VERSION), (PUBLISHED_HEADER, b"%d" % told.time_ms))
    publisher = open_publisher(config, CLIENT_ID)
    try:
        publisher.publish(Record(CONTROL.name, told.workflow.encode(), encode_event(told), told.time_ms, headers))
        publisher.flush(_WRITE_S)
    finally:
        publisher.close(1.0)


def _answered(reader: Reader, told: WorkflowCommand, deadline_s: float) -> Answer | None:
    while time.monotonic() < deadline_s:
        for record in reader.poll(_POLL_S):
            if record.key != told.workflow.encode():
                continue
            try:
                event = decode_event(PipelineEvent, record.value or b"")
                text, fields = read_detail(event.detail)
                if fields.get("re") == told.id:
                    return Answer(Happened(event.event), text, fields)
            except (RecordError, ValueError):
                continue  # it isn't ours to judge
    return None
