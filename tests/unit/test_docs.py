"""What docs/topics.md says of topics and fields is what the code does."""

from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import pytest

from klinestream.market.events import FeedGap, GapSource, GapState, WorkflowCommand, wire_fields
from klinestream.market.intervals import DAY_MS, HOUR_MS
from klinestream.market.topics import MIB, TOPICS, Topic
from klinestream.market.workflows import Happened

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "topics.md").read_text()


def retention(topic: Topic) -> str:
    if topic.cleanup.startswith("compact"):
        return "newest of a key"
    time = f"{topic.retention_ms // DAY_MS} d" if topic.retention_ms % DAY_MS == 0 else f"{topic.retention_ms // HOUR_MS} h"
    return f"{time} or {topic.retention_bytes // MIB} MiB a partition"


def overview(topic: Topic) -> str:
    return f"| `{topic.name}` | {topic.key} | {topic.meaning} | {topic.partitions} | {retention(topic)} |"


def rows(event: type[Any]) -> Iterator[str]:
    for name, field in wire_fields(event).items():
        yield row(name, field)


def row(name: str, field: Field[Any]) -> str:
    kind = field.metadata["kind"].value
    if field.metadata["nullable"] and "null" not in kind:
        kind += " or null"
    return f"| `{name}` | {kind} | {field.metadata['meaning']} |"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_and_field_is_documented(topic: Topic) -> None:
    """docs/topics.md has a line for the topic and one for each field of its records, as the code has them."""
    missing = [line for line in (overview(topic), *rows(topic.event)) if line not in TEXT]
    assert not missing, "docs/topics.md lacks:\n" + "\n".join(missing)


def test_commands_of_workflows_are_documented() -> None:
    """The second kind of record of the control topic, and every event of a workflow."""
    assert not [line for line in rows(WorkflowCommand) if line not in TEXT]
    assert not [happened for happened in Happened if f"`{happened}`" not in TEXT]


@pytest.mark.parametrize(("field", "values"), [("state", GapState), ("source", GapSource)])
def test_every_value_of_a_gap_is_documented(field: str, values: type[GapState] | type[GapSource]) -> None:
    """What the page says of a gap's state and source names all that they can be."""
    meaning = wire_fields(FeedGap)[field].metadata["meaning"]
    assert not [value for value in values if value not in meaning]
