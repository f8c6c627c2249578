"""`klinestream topics` on a real broker: made as defined, differences told, what exists left alone."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from klinestream.market.topics import KLINES, TOPICS, Topic
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import Position, TopicAdmin, differences
from klinestream.stack.java import scripts
from tests.stack import TestBroker


@pytest.fixture
def admin(broker: TestBroker) -> Iterator[TopicAdmin]:
    """Topics on the broker."""
    with TopicAdmin(KafkaConfig(bootstrap_servers=broker.bootstrap_servers)) as opened:
        yield opened


def own(suffix: str) -> tuple[Topic, ...]:
    """All topics under names of this test's own."""
    return tuple(replace(topic, name=f"{topic.name}_{suffix}") for topic in TOPICS)


def test_topics_are_made_as_defined_and_only_once(admin: TopicAdmin) -> None:
    """All missing topics are created with partitions and settings as defined; a second time creates none."""
    topics = own("made")
    assert differences(topics, admin.existing(topics)) == [
        f"{topic.name}: expected, but it does not exist; run `klinestream topics create`" for topic in topics
    ]
    assert admin.create(topics) == [topic.name for topic in topics]
    assert differences(topics, admin.existing(topics)) == []
    assert admin.create(topics) == []


def test_what_differs_is_told_and_left_alone(broker: TestBroker, admin: TopicAdmin) -> None:
    """A topic with other partitions and settings is told line by line, and not changed."""
    (topic,) = (replace(KLINES, name="differs"),)
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as client:
        client.create_topics({"differs": {"num_partitions": 3, "configs": topic.settings() | {"retention.ms": "1000"}}})
    found = differences([topic], admin.existing([topic]))
    assert len(found) == 2
    assert found[0].startswith(f"differs: expected {topic.partitions} partitions, it has 3; they can't be changed")
    assert found[1].startswith(f"differs: expected retention.ms={topic.retention_ms}, it is 1000")
    assert admin.create([topic]) == []
    assert differences([topic], admin.existing([topic])) == found


def test_positions_tell_how_far_a_topic_has_come(broker: TestBroker, admin: TopicAdmin) -> None:
    """Records over all partitions and the newest time; -1 while empty; an unknown topic is left out."""
    topic = replace(KLINES, name="positions", future_ms=None)
    admin.create([topic])
    assert admin.positions([topic]) == {"positions": Position(0, -1)}
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        for number in range(3):
            producer.send("positions", b"x", partition=number, timestamp_ms=1_700_000_000_000 + number).get(10)
    assert admin.positions([topic]) == {"positions": Position(3, 1_700_000_000_002)}
    assert admin.positions([replace(KLINES, name="never_made")]) == {}
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as client:
        client.delete_records({TopicPartition("positions", 1): 1})
    assert admin.bounds([topic, replace(KLINES, name="never_made")]) == {"positions": {0: (0, 1), 1: (1, 1), 2: (0, 1), 3: (0, 0)}}
    assert admin.bounds([replace(KLINES, name="never_made")]) == {}


def test_the_command_creates_checks_and_fails_clearly(broker: TestBroker) -> None:
    """`topics check` fails before `topics create` and passes after it; an unreachable broker is one line and exit code 1."""

    def command(*arguments: str, servers: str = broker.bootstrap_servers) -> subprocess.CompletedProcess[str]:
        environment = {
            "KLINESTREAM_KAFKA__BOOTSTRAP_SERVERS": servers,
            "KLINESTREAM_KAFKA__CONNECT_TIMEOUT_S": "2" if servers.endswith(":1") else "20",  # nobody listens there
            "PATH": "/usr/bin:/bin",
        }
        return subprocess.run(
            [scripts() / "klinestream", "topics", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    with TopicAdmin(KafkaConfig(bootstrap_servers=broker.bootstrap_servers)) as admin:
        missing = not admin.existing(TOPICS)
    if missing:  # other tests on this broker may have made them
        assert command("check").returncode == 1
    created = command("create")
    assert created.returncode == 0, created.stderr
    assert command("check").stdout == "all topics are as defined\n"
    failed = command("check", servers="127.0.0.1:1")
    assert failed.returncode == 1
    assert "klinestream: expected a Kafka broker at 127.0.0.1:1" in failed.stderr
    assert "Traceback" not in failed.stderr
