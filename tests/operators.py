"""Schemas of the resources that operators bring, from the operators' own jars, and a check as strict as a cluster's.

A cluster drops fields that a schema doesn't know, with a warning at most; here they are faults, since a misspelt field is a setting
that isn't made.
"""

import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from klinestream.stack import jars
from klinestream.stack.java import java

LOCK = Path(__file__).parent / "operators.lock.toml"
_FLINK = "META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"
_STRIMZI = {
    "Kafka": "io.strimzi.api.kafka.model.kafka.Kafka",
    "KafkaNodePool": "io.strimzi.api.kafka.model.nodepool.KafkaNodePool",
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}
_FLINK_NEWER = ("v2_0", "v2_1", "v2_2")
"""Versions of Flink that the operator has learnt since the jar of its API was last published."""


def schemas(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """(apiVersion, kind) → schema of a resource, from the locked jars, which are brought into `folder`. Raises StackError."""
    locked = {jar.artifact: jar for jar in jars.locked(LOCK)}
    jars.fetch(folder, tuple(locked.values()))
    found = _by_version(_flink(folder / locked["flink-kubernetes-operator-api"].file_name))
    for definition in _strimzi(folder, folder / locked["crd-generator"].file_name, folder / locked["api"].file_name):
        found |= _by_version(definition)
    flink_version = found["flink.apache.org/v1beta1", "FlinkDeployment"]["properties"]["spec"]["properties"]["flinkVersion"]
    flink_version["enum"] += _FLINK_NEWER
    return found


def faults(resource: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What is wrong with a resource, a line each; empty if nothing is."""
    validator = jsonschema.Draft202012Validator(_strict(schema))
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in validator.iter_errors(resource)]


def _flink(jar: Path) -> dict[str, Any]:
    with zipfile.ZipFile(jar) as archive:
        definition: dict[str, Any] = yaml.load(archive.read(_FLINK), yaml.CSafeLoader)
    return definition


def _strimzi(folder: Path, generator: Path, api: Path) -> list[dict[str, Any]]:
    files = {name: folder / f"{kind}.yaml" for kind, name in _STRIMZI.items()}
    command = [str(java()), "-cp", f"{generator}:{api}", "io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--target-kube", "1.30+"]
    subprocess.run([*command, *(f"{name}={file}" for name, file in files.items())], check=True, capture_output=True, timeout=120)
    return [yaml.load(file.read_bytes(), yaml.CSafeLoader) for file in files.values()]


def _by_version(definition: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    spec = definition["spec"]
    return {
        (f"{spec['group']}/{version['name']}", spec["names"]["kind"]): version["schema"]["openAPIV3Schema"] for version in spec["versions"]
    }


def _strict(schema: Any, inside: bool = False) -> Any:
    """The schema with unknown fields forbidden, and Kubernetes' own words for kinds made JSON Schema's."""
    if not isinstance(schema, Mapping):
        return schema
    found = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key not in {"description", "format"}}
    if "properties" in found:
        found["properties"] = {name: _strict(each, inside=True) for name, each in found["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            known = found["properties"] if inside else found["properties"] | dict.fromkeys(("apiVersion", "kind", "metadata"), True)
            found |= {"properties": known, "additionalProperties": False}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _strict(found[key], inside=True)
    return found
