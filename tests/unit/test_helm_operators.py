"""What the chart asks of the operators, Strimzi's and Flink's, is what their own schemas know."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests import chart, operators

GROUPS = {"kafka.strimzi.io", "flink.apache.org"}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """Of every kind that the operators know."""
    return operators.schemas(tmp_path_factory.mktemp("operators"))


@pytest.mark.parametrize("names", [("managed-kafka",), ("small",), ("large",)], ids=lambda names: names[0])
def test_resources_of_operators_fit_their_schemas(names: tuple[str, ...], schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Each is valid, and has no field that its operator doesn't know."""
    found = [each for each in chart.rendered(chart.values(*names)) if each["apiVersion"].partition("/")[0] in GROUPS]
    assert found
    wrong = {each["metadata"]["name"]: operators.faults(each, schemas[each["apiVersion"], each["kind"]]) for each in found}
    assert not {name: faults for name, faults in wrong.items() if faults}


def test_users_may_prove_themselves_by_certificates(schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """With a certificate in place of a password all is valid, too."""
    chosen = chart.values("small")
    chosen["kafka"]["strimzi"]["authentication"] = "tls"
    found = [each for each in chart.rendered(chosen) if each["kind"] in {"Kafka", "KafkaUser"}]
    assert not [fault for each in found for fault in operators.faults(each, schemas[each["apiVersion"], each["kind"]])]


def test_a_misspelt_field_is_found(schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """The check itself can fail: a field that the operator would pass over in silence is named."""
    topic = next(each for each in chart.rendered(chart.values("small")) if each["kind"] == "KafkaTopic")
    topic["spec"]["partition"] = topic["spec"].pop("partitions")
    assert any("partition" in fault for fault in operators.faults(topic, schemas[topic["apiVersion"], topic["kind"]]))
