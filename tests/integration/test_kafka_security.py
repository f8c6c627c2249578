"""Both clients over TLS with a user and password, against a real broker that asks for both.

The certificates in `tls/` were made for these tests alone, for 127.0.0.1 and a hundred years.
"""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from pydantic import SecretStr

from klinestream.market.errors import BrokerError
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from tests.clickhouse import ClickHouse
from tests.eventually import eventually
from tests.ports import free_ports
from tests.stack import TestBroker

TLS = Path(__file__).with_name("tls")
CLICKHOUSE_CONFIG = Path(__file__).parents[2] / "deploy" / "clickhouse" / "kafka-secured.xml"
TOPIC = "secured"
PASSWORD = "wonder,land"  # noqa: S105  # a test broker's
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


# kafka-python leaves the sockets of a connection that is refused to the garbage collector.
pytestmark = pytest.mark.filterwarnings(r"ignore:unclosed <(ssl\.SSLS|s)ocket:ResourceWarning")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a listener that asks for TLS and SASL."""
    broker = TestBroker(tmp_path_factory.mktemp("secured"))
    (port,) = free_ports(1)
    properties = broker.layout.kafka / "server.properties"
    lines = []
    for line in properties.read_text().splitlines():
        if line.startswith(("listeners=", "advertised.listeners=")):
            lines.append(f"{line},SECURED://127.0.0.1:{port}")
        elif line.startswith("listener.security.protocol.map="):
            lines.append(f"{line},SECURED:SASL_SSL")
        else:
            lines.append(line)
    lines += [
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={TLS / 'broker.pem'}",
        "listener.name.secured.sasl.enabled.mechanisms=PLAIN",
        f'listener.name.secured.plain.sasl.jaas.config={PLAIN_LOGIN} required user_alice="{PASSWORD}";',
    ]
    properties.write_text("\n".join(lines) + "\n")
    try:
        broker.start()
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        admin.create_topics([NewTopic(TOPIC, 1, 1)])
        admin.close()
        yield f"127.0.0.1:{port}"
    finally:
        broker.stop()


def config_of(secured: str, client: str) -> KafkaConfig:
    return KafkaConfig(
        bootstrap_servers=secured,
        client=client,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="alice",
        sasl_password=SecretStr(PASSWORD),
        ssl_cafile=str(TLS / "authority.pem"),
        connect_timeout_s=5,
    )


@pytest.fixture(params=["kafka-python", "confluent-kafka"])
def config(request: pytest.FixtureRequest, secured: str) -> KafkaConfig:
    return config_of(secured, request.param)


def test_publishes_and_reads(config: KafkaConfig) -> None:
    """With the right authority, user and password, records go in and come out."""
    publisher, reader = open_publisher(config, "secured"), open_reader(config, "secured")
    end = reader.bounds(TOPIC)[0][1]
    publisher.publish(Record(TOPIC, b"k", config.client.encode(), 1_790_000_000_000))
    publisher.close(10)
    reader.assign({(TOPIC, 0): end})
    found = eventually(lambda: reader.poll(0.2), 20, "the record")
    reader.close()
    assert [record.value for record in found] == [config.client.encode()]


def test_wrong_password_is_told(config: KafkaConfig) -> None:
    """A wrong password is a BrokerError that says so, and never shows it."""
    wrong = KafkaConfig(**config.model_dump() | {"sasl_password": "not-this-one", "connect_timeout_s": 3})
    with pytest.raises(BrokerError, match=r"(?i)authenticat|user's name and password") as caught:
        open_publisher(wrong, "secured")
    assert "not-this-one" not in str(caught.value)


def test_unknown_authority_is_refused(config: KafkaConfig) -> None:
    """A broker whose certificate our authorities don't vouch for is not talked to."""
    wrong = KafkaConfig(**config.model_dump() | {"ssl_cafile": "", "connect_timeout_s": 3})
    with pytest.raises(BrokerError, match=r"(?i)certificate|SSL"):
        open_publisher(wrong, "secured")


def test_clickhouse_reads_with_what_its_environment_says(secured: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By the configuration that we deploy a Kafka table comes through TLS and the login; none of it can be read from the server."""
    config = config_of(secured, "confluent-kafka")
    told = {
        name: getattr(config, name) for name in ("bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "ssl_cafile")
    }
    secrets = {f"KLINESTREAM_KAFKA__{name.upper()}": value for name, value in (told | {"sasl_password": PASSWORD}).items()}
    publisher = open_publisher(config, "secured")
    publisher.publish(Record(TOPIC, b"k", b"to a table", 1_790_000_000_000))
    publisher.close(10)
    engine = ClickHouse(tmp_path, CLICKHOUSE_CONFIG, secrets)
    engine.start()
    request.addfinalizer(engine.stop)
    settings = f"kafka_topic_list = '{TOPIC}', kafka_group_name = '{TOPIC}', kafka_format = 'RawBLOB', kafka_flush_interval_ms = 200"
    engine.run(f"CREATE TABLE topic (raw String) ENGINE = Kafka(klinestream_kafka) SETTINGS {settings}")
    engine.run("CREATE TABLE lines (raw String) ENGINE = MergeTree ORDER BY raw")
    engine.run("CREATE MATERIALIZED VIEW reads TO lines AS SELECT raw FROM topic")
    eventually(lambda: "to a table" in engine.run("SELECT raw FROM lines"), 30, "the record is in the table")
    assert PASSWORD not in engine.run("SELECT collection FROM system.named_collections") + engine.run("SHOW CREATE TABLE topic")
