"""The embedded broker: it keeps what was acknowledged, whatever happens to it."""

from contextlib import closing

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from tests.stack import TestBroker


def test_a_killed_broker_comes_back_with_its_records(broker: TestBroker) -> None:
    """What was acknowledged before kill -9 is there after the restart, on the same port."""
    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin:
        admin.create_topics([NewTopic("kept", 1, 1)])
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap_servers)) as producer:
        producer.send("kept", b"before").get(10)

    broker.kill()
    broker.start()

    with closing(KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")) as consumer:
        consumer.assign([TopicPartition("kept", 0)])
        records = consumer.poll(timeout_ms=20_000)
    assert [record.value for batch in records.values() for record in batch] == [b"before"]


def test_a_topic_that_nobody_made_stays_unmade(broker: TestBroker) -> None:
    """Asking for an unknown topic does not create it."""
    with (
        closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)) as admin,
        closing(KafkaConsumer(bootstrap_servers=broker.bootstrap_servers)) as consumer,
    ):
        assert not consumer.partitions_for_topic("never-made")
        assert "never-made" not in admin.list_topics()
