"""Opens publishers and readers with the configured client library; only that one is loaded."""

# ruff: noqa: PLC0415 -- confluent-kafka may not be installed, and a process loads one library only

from collections.abc import Callable

from klinestream.market.errors import ConfigError
from klinestream.runtime.kafka.delivery import addresses
from klinestream.runtime.kafka.interface import Publisher, Reader
from klinestream.runtime.kafka.prefixed import PrefixedPublisher, PrefixedReader
from klinestream.runtime.sections import KafkaConfig


def check_settings(config: KafkaConfig) -> None:
    """Raise ConfigError for what can be seen without a broker: addresses that are none, a library that isn't there."""
    addresses(config.bootstrap_servers)
    if config.client == "confluent-kafka":
        _require_confluent()


def open_publisher(config: KafkaConfig, client_id: str, acknowledged: Callable[[float], None] | None = None) -> Publisher:
    """Connect a publisher with the configured client library.

    `acknowledged`, if given, gets for each record the seconds from `publish` to the brokers' acknowledgement; it may be
    called from another thread. Raises BrokerError if no broker answers in `config.connect_timeout_s`, and ConfigError if
    the library isn't installed.
    """
    opened = _publisher(config, client_id, acknowledged)
    return PrefixedPublisher(opened, config.topic_prefix) if config.topic_prefix else opened


def open_reader(config: KafkaConfig, client_id: str) -> Reader:
    """Connect a reader with the configured client library; raises as `open_publisher` does."""
    opened = _reader(config, client_id)
    return PrefixedReader(opened, config.topic_prefix) if config.topic_prefix else opened


def _publisher(config: KafkaConfig, client_id: str, acknowledged: Callable[[float], None] | None) -> Publisher:
    if config.client == "confluent-kafka":
        _require_confluent()
        from klinestream.runtime.kafka.confluent import ConfluentPublisher

        return ConfluentPublisher(config, client_id, acknowledged)
    from klinestream.runtime.kafka.kafka_python import KafkaPythonPublisher

    return KafkaPythonPublisher(config, client_id, acknowledged)


def _reader(config: KafkaConfig, client_id: str) -> Reader:
    if config.client == "confluent-kafka":
        _require_confluent()
        from klinestream.runtime.kafka.confluent import ConfluentReader

        return ConfluentReader(config, client_id)
    from klinestream.runtime.kafka.kafka_python import KafkaPythonReader

    return KafkaPythonReader(config, client_id)


def _require_confluent() -> None:
    try:
        import confluent_kafka  # noqa: F401  # only whether it is there
    except ImportError:
        raise ConfigError(
            "kafka.client is confluent-kafka, but that library is not installed: "
            "install the extra with `pip install 'klinestream[fast]'`, or set kafka.client to kafka-python"
        ) from None
