"""The contract of `Publisher` and `Reader`, kept by both client libraries against a real broker."""

import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from structlog.testing import capture_logs

from klinestream.market.errors import BrokerError, ConfigError, DeliveryError
from klinestream.market.partitions import partition_of
from klinestream.runtime.kafka import Publisher, Reader, Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker

PARTITIONS = 4
CLIENTS = ("kafka-python", "confluent-kafka")


@pytest.fixture(params=CLIENTS)
def config(request: pytest.FixtureRequest, broker: TestBroker) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client=request.param)


@pytest.fixture
def new_topic(broker: TestBroker) -> Iterator[Callable[..., str]]:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)

    def make(**settings: str) -> str:
        name = f"contract-{uuid.uuid4()}"
        admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs={"retention.ms": "-1"} | settings)])
        return name

    yield make
    admin.close()


@pytest.fixture
def publisher(config: KafkaConfig) -> Iterator[Publisher]:
    opened = open_publisher(config, "contract")
    yield opened
    opened.close(5)


@pytest.fixture
def reader(config: KafkaConfig) -> Iterator[Reader]:
    opened = open_reader(config, "contract")
    yield opened
    opened.close()


def read(reader: Reader, topic: str, count: int, offset: int = 0) -> list[Record]:
    """So many records of a topic, and no more than there are."""
    reader.assign({(topic, partition): offset for partition in range(PARTITIONS)})
    found: list[Record] = []

    def enough() -> bool:
        found.extend(reader.poll(0.2))
        return len(found) >= count

    eventually(enough, 20, f"{count} records of {topic}")
    return found


def test_record_comes_back_whole(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """Key, value, timestamp and headers of a record are read as they were published."""
    topic = new_topic()
    sent = Record(topic, b"BTCUSDT", b'{"c":"1.00000000"}', 1_723_161_600_999, (("schema", b"1"), ("published_ms", b"1723161601005")))
    publisher.publish(sent)
    publisher.flush(10)

    (found,) = read(reader, topic, 1)

    assert (found.topic, found.key, found.value, found.timestamp_ms, found.headers) == (
        topic,
        sent.key,
        sent.value,
        sent.timestamp_ms,
        sent.headers,
    )
    assert (found.partition, found.offset) == (partition_of("BTCUSDT", PARTITIONS), 0)


def test_record_without_headers_or_value(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A tombstone without headers comes back as one."""
    topic = new_topic()
    publisher.publish(Record(topic, b"k", None, 1))
    publisher.flush(10)
    (found,) = read(reader, topic, 1)
    assert found.value is None
    assert found.headers == ()


def test_key_decides_the_partition(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """Every client writes a key to the partition that partition_of says, so a symbol has one partition whoever writes it."""
    topic = new_topic()
    keys = [f"SYMBOL{n}USDT" for n in range(500)] + ["A", "AB", "ABC", "ABCD", "币安"]
    for key in keys:
        publisher.publish(Record(topic, key.encode(), b"v", 1))
    publisher.flush(10)
    found = read(reader, topic, len(keys))
    assert {(record.key or b"").decode(): record.partition for record in found} == {key: partition_of(key, PARTITIONS) for key in keys}


def test_order_is_kept_in_a_partition(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """Records of one key are read in the order in which they were published, each once."""
    topic = new_topic()
    for n in range(5000):
        publisher.publish(Record(topic, b"BTCUSDT", b"%d" % n, n))
    publisher.flush(20)
    assert [int(record.value or b"") for record in read(reader, topic, 5000)] == list(range(5000))
    assert publisher.queued() == 0


def test_queue_is_bounded(config: KafkaConfig, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A full queue blocks the publisher, and nothing is lost by it."""
    topic = new_topic()
    publisher = open_publisher(config.model_copy(update={"queue_records": 1000}), "contract")
    most = 0
    for n in range(4000):
        publisher.publish(Record(topic, b"k%d" % n, b"v" * 300, 1))
        most = max(most, publisher.queued())
    publisher.close(20)
    assert most <= 1000
    assert len(read(reader, topic, 4000)) == 4000


def test_acknowledgements_are_told(config: KafkaConfig, new_topic: Callable[..., str]) -> None:
    """Each acknowledged record is told once, with the seconds it took."""
    told: list[float] = []
    topic = new_topic()
    publisher = open_publisher(config, "contract", told.append)
    for n in range(10):
        publisher.publish(Record(topic, b"k%d" % n, b"v", 1))
    publisher.close(10)
    assert len(told) == 10
    assert all(0 < seconds < 10 for seconds in told)


def test_each_record_is_settled_by_itself(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """Who asks is told once of each record, without a further call, where it stands; of a lost one why, and then it raises nowhere."""
    topic = new_topic(**{"message.timestamp.after.max.ms": "60000"})
    told: dict[int, list[tuple[str | None, int, int]]] = {n: [] for n in range(6)}
    for n in range(5):
        publisher.publish(Record(topic, b"k%d" % n, b"%d" % n, 1), lambda *what, n=n: told[n].append(what))
    eventually(lambda: all(told[n] for n in range(5)), 20, "all are settled")
    publisher.publish(Record(topic, b"k", b"v", 4_102_444_800_000), lambda *what: told[5].append(what))
    eventually(lambda: told[5], 20, "the refused one is settled too")
    publisher.flush(10)

    stand = {int(record.value or b""): (None, record.partition, record.offset) for record in read(reader, topic, 5)}
    assert {n: told[n] for n in range(5)} == {n: [place] for n, place in stand.items()}
    ((reason, *place),) = told[5]
    assert reason
    assert place == [-1, -1]


def test_refused_record_surfaces(publisher: Publisher, new_topic: Callable[..., str]) -> None:
    """A record that the broker refuses raises DeliveryError at a later call, once, and names topic and key."""
    topic = new_topic(**{"message.timestamp.after.max.ms": "60000"})
    year_2100_ms = 4_102_444_800_000
    publisher.publish(Record(topic, b"BTCUSDT", b"v", year_2100_ms))
    with pytest.raises(DeliveryError, match=rf"1 record\(s\) were not acknowledged.*{topic}.*BTCUSDT"):
        publisher.flush(10)
    publisher.flush(10)


def test_too_large_record_is_refused(publisher: Publisher, new_topic: Callable[..., str]) -> None:
    """A record beyond what a broker takes raises DeliveryError that tells its size."""
    topic = new_topic()
    with pytest.raises(DeliveryError, match="2000000 bytes"):
        publisher.publish(Record(topic, b"k", b"v" * 2_000_000, 1))


def test_missing_topic(publisher: Publisher, reader: Reader) -> None:
    """A topic that does not exist is an error that says how to make it, for writers and readers."""

    def fill() -> None:
        publisher.publish(Record("contract-nowhere", b"k", b"v", 1))
        publisher.flush(30)

    with pytest.raises(DeliveryError, match=r"topic contract-nowhere.*klinestream topics create"):
        fill()
    with pytest.raises(BrokerError, match=r"topic contract-nowhere.*klinestream topics create"):
        reader.partitions("contract-nowhere")


def test_partitions_bounds_and_times(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A reader tells partitions, the bounds of each, and where a time begins; the end where nothing is that new."""
    topic = new_topic()
    here = partition_of("BTCUSDT", PARTITIONS)
    for n in range(10):
        publisher.publish(Record(topic, b"BTCUSDT", b"v", 1_000_000_000_000 + 1000 * n))
    publisher.flush(10)
    empty = dict.fromkeys(range(PARTITIONS), (0, 0))
    assert list(reader.partitions(topic)) == list(range(PARTITIONS))
    assert reader.bounds(topic) == empty | {here: (0, 10)}
    assert reader.offsets_at(topic, 1_000_000_003_500)[here] == 4
    assert reader.offsets_at(topic, 1_000_000_099_999)[here] == 10


def test_assign_reads_from_there(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A reader reads just what is assigned, from the offset given, again and again without a group."""
    topic, other = new_topic(), new_topic()
    here = partition_of("BTCUSDT", PARTITIONS)
    for n in range(10):
        publisher.publish(Record(topic, b"BTCUSDT", b"%d" % n, 1))
        publisher.publish(Record(other, b"BTCUSDT", b"other", 1))
    publisher.flush(10)
    for start in (7, 2):
        reader.assign({(topic, here): start})
        found: list[Record] = []

        def ended(found: list[Record] = found) -> bool:
            found.extend(reader.poll(0.2))
            return bool(found) and found[-1].offset == 9

        eventually(ended, 20, "the last record")
        assert [(record.topic, record.offset) for record in found] == [(topic, offset) for offset in range(start, 10)]


def test_offset_out_of_range_is_told(reader: Reader, new_topic: Callable[..., str]) -> None:
    """Reading from an offset that isn't held raises BrokerError; nothing is skipped in silence."""
    topic = new_topic()
    reader.assign({(topic, 0): 1000})

    def keep_polling() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reader.poll(0.2)

    with pytest.raises(BrokerError):
        keep_polling()


def test_poll_waits_and_returns_at_once(publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A poll returns nothing after its wait, and returns as soon as a record is there."""
    topic = new_topic()
    reader.assign({(topic, partition): 0 for partition in range(PARTITIONS)})
    assert list(reader.poll(0.1)) == []
    timer = threading.Timer(0.2, lambda: publisher.publish(Record(topic, b"k", b"v", 1)))
    timer.start()
    found = reader.poll(20)
    timer.join()
    assert [record.value for record in found] == [b"v"]


def test_aborted_records_are_not_read(broker: TestBroker, publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """A reader sees committed records only."""
    topic = new_topic()
    transactional = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id=f"contract-{uuid.uuid4()}")
    transactional.init_transactions()
    transactional.begin_transaction()
    transactional.send(topic, b"aborted", key=b"k")
    transactional.flush()
    transactional.abort_transaction()
    transactional.close()
    publisher.publish(Record(topic, b"k", b"committed", 1))
    publisher.flush(10)
    assert [record.value for record in read(reader, topic, 1)] == [b"committed"]


def test_broker_that_is_down_is_waited_for(config: KafkaConfig) -> None:
    """A broker that is away at the start is tried for a while; the error then says where, how long, and what to check."""
    (port,) = free_ports(1)
    away = config.model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}", "connect_timeout_s": 1.5})
    for attempt in (open_publisher, open_reader):
        expected = rf"Kafka broker at 127\.0\.0\.1:{port}.*in 1\.5 s.*refused.*check that it runs.*bootstrap_servers"
        with capture_logs() as logs, pytest.raises(BrokerError, match=expected):
            attempt(away, "contract")
        assert {entry["event"] for entry in logs} == {"kafka not reachable, trying again"}


def test_broker_that_restarts_is_survived(broker: TestBroker, publisher: Publisher, reader: Reader, new_topic: Callable[..., str]) -> None:
    """While the broker is killed and started again, what is published waits; all of it is read, in order, each once."""
    topic = new_topic()
    publisher.publish(Record(topic, b"BTCUSDT", b"0", 1))
    publisher.flush(10)
    assert [record.value for record in read(reader, topic, 1)] == [b"0"]
    broker.kill()
    for n in range(1, 1000):
        publisher.publish(Record(topic, b"BTCUSDT", b"%d" % n, 1))
    assert publisher.queued() > 0
    broker.start()
    publisher.flush(60)
    found: list[Record] = []

    def all_read() -> bool:
        found.extend(reader.poll(0.2))
        return len(found) >= 999

    eventually(all_read, 60, "what was published meanwhile")
    assert [int(record.value or b"") for record in found] == list(range(1, 1000))


def test_flush_and_close_end_in_time_without_a_broker(config: KafkaConfig, broker: TestBroker, new_topic: Callable[..., str]) -> None:
    """With the broker away, flush and close raise DeliveryError that counts what is open, and don't hang."""
    topic = new_topic()
    publisher = open_publisher(config, "contract")
    publisher.publish(Record(topic, b"k", b"v", 1))
    publisher.flush(10)
    broker.kill()
    try:
        publisher.publish(Record(topic, b"k", b"v", 1))
        began_s = time.monotonic()
        with pytest.raises(DeliveryError, match=r"1 record\(s\) were not acknowledged by Kafka within 0\.5 s"):
            publisher.flush(0.5)
        with pytest.raises(DeliveryError):
            publisher.close(0.5)
        assert time.monotonic() - began_s < 30
    finally:
        broker.start()


def test_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra's library, choosing it is a ConfigError that names the extra."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    for attempt in (open_publisher, open_reader):
        with pytest.raises(ConfigError, match=r"klinestream\[fast\]"):
            attempt(KafkaConfig(client="confluent-kafka"), "contract")
