"""The Kafka part of the configuration as options of Flink's SQL connector."""

from pathlib import Path

from klinestream.runtime.sections import KafkaConfig

# The SQL connector's jar carries the Kafka client under another name.
_MODULES = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security"


def connector_options(config: KafkaConfig) -> str:
    """Lines for the WITH clause of a table, each with a comma before it. Holds the password, so never log it.

    >>> print(connector_options(KafkaConfig(bootstrap_servers="broker:9092")))
    ,
        'properties.bootstrap.servers' = 'broker:9092',
        'properties.security.protocol' = 'PLAINTEXT'
    """
    return "".join(f",\n    '{key}' = '{_quoted(value)}'" for key, value in properties(config).items())


def properties(config: KafkaConfig) -> dict[str, str]:
    """Option → value, prefixed as the connector wants them."""
    options = {"bootstrap.servers": config.bootstrap_servers, "security.protocol": config.security_protocol}
    if config.security_protocol.startswith("SASL"):
        options["sasl.mechanism"] = config.sasl_mechanism
        options["sasl.jaas.config"] = _login(config)
    if config.security_protocol.endswith("SSL"):
        options |= _certificates(config)
    return {f"properties.{key}": value for key, value in options.items()}


def _login(config: KafkaConfig) -> str:
    module = f"{_MODULES}.plain.PlainLoginModule" if config.sasl_mechanism == "PLAIN" else f"{_MODULES}.scram.ScramLoginModule"
    user, password = (
        text.replace("\\", "\\\\").replace('"', '\\"') for text in (config.sasl_username, config.sasl_password.get_secret_value())
    )
    return f'{module} required username="{user}" password="{password}";'


def _certificates(config: KafkaConfig) -> dict[str, str]:
    options: dict[str, str] = {}
    if config.ssl_cafile:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": config.ssl_cafile}
    if config.ssl_certfile:
        # Java wants key and certificate in one PEM file; ours are two, as Python's clients take them.
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _text(config.ssl_certfile),
            "ssl.keystore.key": _text(config.ssl_keyfile),
        }
    return options


def _text(file: str) -> str:
    return Path(file).read_text()


def _quoted(value: str) -> str:
    return value.replace("'", "''")
