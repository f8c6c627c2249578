"""Values of the Helm chart that are wrong: each is an error before anything is sent to a cluster."""

import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest

from tests import chart

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown part": ({"parts": {"sever": {}}}, "sever"),
    "an unknown key of the configuration": ({"config": {"windows": {"slid_ms": 500}}}, "slid_ms"),
    "a value that a key can't have": ({"config": {"windows": {"slide_ms": "fast"}}}, "/config/windows/slide_ms"),
    "a secret in the configuration": ({"config": {"server": {"tokens": "x" * 20}}}, "tokens"),
    "an address that the chart fills in": ({"config": {"kafka": {"bootstrap_servers": "a:1"}}}, "bootstrap_servers"),
    "a key of the configuration as a variable": (
        {"parts": {"repair": {"env": {"KLINESTREAM_LOG__LEVEL": "info"}}}},
        "KLINESTREAM_LOG__LEVEL",
    ),
    "a secret that is no reference": ({"parts": {"repair": {"secrets": {"PGPASSWORD": "x"}}}}, "/parts/repair/secrets/PGPASSWORD"),
    "memory that Flink can't read": ({"flink": {"jobManager": {"memory": "1Gi"}}}, "/flink/jobManager/memory"),
    "no replicas": ({"parts": {"server": {"replicas": 0}}}, "/parts/server/replicas"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "/image/digest"),
    "no place for checkpoints": ({"flink": {"storage": ""}}, "flink.storage: expected a folder in object storage"),
    "no tokens": ({"parts": {"server": {"secrets": None}}}, "parts.server.secrets.KLINESTREAM_SERVER__TOKENS: expected"),
    "no tokens to post with": ({"parts": {"ingest": {"enabled": True}}}, "parts.ingest.secrets.KLINESTREAM_INGEST__TOKENS: expected"),
    "no brokers": (
        {"kafka": {"strimzi": {"enabled": False}, "external": {"saslPasswordSecret": {"name": "password"}}}},
        "kafka.external.bootstrapServers: expected host:port",
    ),
    "no password": (
        {"kafka": {"strimzi": {"enabled": False}, "external": {"bootstrapServers": "broker:9094", "saslUsername": "me"}}},
        "kafka.external.saslPasswordSecret.name: expected the name of a Secret",
    ),
    "no model": ({"parts": {"model": {"enabled": True}}}, "parts.model.volume: expected"),
    "no token for Prometheus": (
        {"monitoring": {"enabled": True}},
        "parts.server.metricsToken.name: expected {name, key} of a Secret with one of the server's tokens",
    ),
    "a token for metrics that need none": ({"parts": {"ingest": {"metricsToken": {"name": "a", "key": "b"}}}}, "metricsToken"),
    "no port for Prometheus": (
        {
            "config": {"ingest": {"metrics_port": 0}},
            "parts": {"ingest": {"enabled": True, "secrets": {"KLINESTREAM_INGEST__TOKENS": {"name": "a", "key": "b"}}}},
        },
        "config.ingest.metrics_port: expected a port",
    ),
    "a name that pods have no room for": ({"fullnameOverride": "n" * 32}, "/fullnameOverride"),
    "no port to probe": ({"config": {"repair": {"metrics_port": 0}}}, "config.repair.metrics_port: expected a port"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_an_error_that_names_it(case: str) -> None:
    """Before anything is sent to a cluster, and with a name that can be found in the values."""
    wrong, told = WRONG[case]
    with pytest.raises(helm_python.HelmError) as error:
        chart.rendered(chart.over(chart.values("small"), wrong))
    assert told in str(error.value)


def test_every_value_is_described_and_none_is_unknown_to_the_schema() -> None:
    """Each says what it is, and each table takes nothing that it doesn't name."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    named = [*properties(schema), *(found for each in schema["$defs"].values() for found in properties(each))]
    assert not [name for name, each in named if "$ref" not in each and not each.get("description")]
    tables = [(name, each) for name, each in named if "properties" in each]
    assert not [name for name, each in tables if each.get("additionalProperties") is not False]


def properties(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All properties of a schema, with where they stand, those of tables within included."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}/{name}", each
        yield from properties(each, f"{path}/{name}")
    for inside in ("items", "additionalProperties"):
        if isinstance(schema.get(inside), dict):
            yield from properties(schema[inside], f"{path}/*")
