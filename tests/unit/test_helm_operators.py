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


@pytest.mark.parametrize("file", chart.CHOSEN)
def test_resources_of_operators_fit_their_schemas(file: str, schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """Each is valid, and has no field that its operator doesn't know."""
    found = [each for each in chart.rendered(chart.CHOSEN[file]) if each["apiVersion"].partition("/")[0] in GROUPS]
    assert found
    wrong = {each["metadata"]["name"]: operators.faults(each, schemas[each["apiVersion"], each["kind"]]) for each in found}
    assert not {name: faults for name, faults in wrong.items() if faults}


def test_a_misspelt_field_is_found(schemas: Mapping[tuple[str, str], dict[str, Any]]) -> None:
    """The check itself can fail: a field that the operator would pass over in silence is named."""
    topic = next(each for each in chart.rendered(chart.values("small")) if each["kind"] == "KafkaTopic")
    topic["spec"]["partition"] = topic["spec"].pop("partitions")
    assert any("partition" in fault for fault in operators.faults(topic, schemas[topic["apiVersion"], topic["kind"]]))
