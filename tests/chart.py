"""The Helm chart as tests see it: rendered without a cluster, and the files in it that are made from the program.

`python -m tests.chart` writes those files anew: topics from `market/topics.py`, Flink's settings from `flink-conf/config.yaml`, and the
schema of `config` in the values from the configuration's own models.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml
from pydantic import SecretStr

from klinestream.market.topics import TOPICS
from klinestream.runtime.config import Config

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "klinestream"
RELEASE, NAMESPACE = "market", "klinestream"
SECTIONS_LEFT_OUT = frozenset({"client", "stack", "standin"})
"""Sections of no part that runs on Kubernetes."""
KEYS_LEFT_OUT = {
    "kafka": {"bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "ssl_cafile", "ssl_certfile", "ssl_keyfile"},
    "server": {"host", "public", "observe", "flink_url", "name"},
    "ingest": {"host"},
    "producer": {"name"},
}
"""What the chart fills in by itself; every `metrics_host` too."""
OF_ONE_MACHINE = (
    "env.java.opts.client",
    "env.log.max",
    "jobmanager.memory.jvm-overhead.",
    "taskmanager.memory.jvm-overhead.",
    "metrics.reporter.prom.port",
    "resourcemanager.standalone.",
    "rest.retry.",
)
"""Settings of `flink-conf` that a cluster of pods has no use for, by how they begin."""
OF_PODS = {
    # A pod's memory less what Flink counts is Python's and RocksDB's: whatever is left, between these.
    "jobmanager.memory.jvm-overhead.min": "64m",
    "jobmanager.memory.jvm-overhead.max": "64g",
    "taskmanager.memory.jvm-overhead.min": "96m",
    "taskmanager.memory.jvm-overhead.max": "64g",
}
_MADE = "# Made by `python -m tests.chart` from {source}.\n"


def values(*names: str) -> dict[str, Any]:
    """A file of values beside the chart's own, such as `small`, or several over each other."""
    found: dict[str, Any] = {}
    for name in names:
        found = over(found, yaml.safe_load((CHART / f"values-{name}.yaml").read_text()))
    return found


def rendered(chosen: Mapping[str, Any], where: Path = CHART, release: str = RELEASE) -> list[dict[str, Any]]:
    """All resources that these values give. Raises helm_python's errors."""
    with helm_python.Chart.load(where) as chart:
        texts = chart.render(values=dict(chosen), name=release, namespace=NAMESPACE)
    return [found for text in texts.values() for found in yaml.load_all(text, yaml.CSafeLoader) if isinstance(found, dict)]


@cache
def parts() -> dict[str, dict[str, Any]]:
    """The chart's own table of the parts."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((CHART / "files" / "parts.yaml").read_text())
    return found


def topics_file() -> str:
    """files/topics.yaml: what a broker has to know of each topic; how often it is replicated is the values' choice."""
    topics = [{"name": topic.name, "partitions": topic.partitions, "settings": topic.settings()} for topic in TOPICS]
    text: str = yaml.safe_dump({"topics": topics}, sort_keys=False, width=140)
    return _MADE.format(source="klinestream/market/topics.py") + text


def flink_file() -> str:
    """files/flink.yaml: the settings that jobs are tuned with, for pods."""
    settings = yaml.safe_load((ROOT / "flink-conf" / "config.yaml").read_text())
    kept = {key: _text(value) for key, value in settings.items() if not key.startswith(OF_ONE_MACHINE)} | OF_PODS
    text: str = yaml.safe_dump(kept, sort_keys=True, width=1000)
    return _MADE.format(source="flink-conf/config.yaml") + text


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def schema_file() -> str:
    """values.schema.json, its `config` made anew."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"]["config"] = {
        "type": "object",
        "description": "klinestream.toml, section by section: docs/operations.md. Secrets and addresses don't belong here.",
        "additionalProperties": False,
        "properties": {name: _section(name) for name in Config.model_fields if name not in SECTIONS_LEFT_OUT},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


MADE = {"files/topics.yaml": topics_file, "files/flink.yaml": flink_file, "values.schema.json": schema_file}


def _section(name: str) -> dict[str, Any]:
    model: Any = Config.model_fields[name].annotation
    secret = {key for key, field in model.model_fields.items() if field.annotation is SecretStr}
    left_out = KEYS_LEFT_OUT.get(name, set()) | secret | {"metrics_host"}
    found = _plain(model.model_json_schema())
    properties = {key: value for key, value in found["properties"].items() if key not in left_out}
    return {"type": "object", "description": found["description"], "additionalProperties": False, "properties": properties}


def _plain(schema: Any) -> Any:
    """Without what says the same again: titles, and defaults, which are the program's own."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key not in {"title", "default"} or isinstance(value, dict)}
    return [_plain(value) for value in schema] if isinstance(schema, list) else schema


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as Helm puts them; None takes one away."""
    found = dict(below)
    for key, value in above.items():
        found[key] = over(found[key], value) if isinstance(value, dict) and isinstance(found.get(key), dict) else value
    return found


def containers(resource: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The containers of a Deployment, a Job or a FlinkDeployment."""
    yield from pod_of(resource).get("containers", ())


def pod_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    """The specification of the pods that a resource makes; empty if it makes none."""
    if resource["kind"] not in {"Deployment", "Job", "FlinkDeployment"}:
        return {}
    found: dict[str, Any] = (resource["spec"].get("template") or resource["spec"]["podTemplate"])["spec"]
    return found


UNUSUAL: dict[str, Any] = {
    "fullnameOverride": "binance",
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": [{"name": "registry"}]},
    "config": {"archive": {"url": "s3://bucket/archive"}, "windows": {"source": "trades"}},
    "kafka": {"strimzi": {"authentication": "tls", "version": "4.3.1", "metadataVersion": "4.3-IV0", "config": {"num.io.threads": 16}}},
    "flink": {
        "configuration": {"s3.endpoint": "https://minio.example", "s3.path.style.access": True, "task.cancellation.timeout": 30000},
        "secrets": {"AWS_ACCESS_KEY_ID": {"name": "storage", "key": "id"}},
        "serviceAccountAnnotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/klinestream"},
    },
    "parts": {
        "finnhub": {"enabled": True, "secrets": {"KLINESTREAM_FINNHUB__TOKEN": {"name": "finnhub", "key": "token"}}},
        "model": {
            "enabled": True,
            "volume": {"persistentVolumeClaim": {"claimName": "binance-workflow", "readOnly": True}},
            "folder": "models/train/current",
        },
        "server": {
            "env": {"HTTPS_PROXY": "http://proxy.example:3128"},
            "podAnnotations": {"example.com/team": "market"},
            "nodeSelector": {"kubernetes.io/arch": "amd64"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "priorityClassName": "high",
            "autoscaling": {"perPod": {"metric": "klinestream_server_clients", "average": 2000}},
            "ingress": {"enabled": True, "host": "chart.example", "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "60"}},
        },
    },
}
"""What no file of values chooses, all at once."""
UNUSUAL_BROKERS: dict[str, Any] = {
    "kafka": {"external": {"securityProtocol": "SSL", "caSecret": {"name": "brokers-ca"}, "certificateSecret": "brokers-me"}}
}
CHOSEN = {
    "managed-kafka": values("managed-kafka"),
    "small": values("small"),
    "large": values("large"),
    "large on managed": values("large", "managed-kafka"),
    "unusual": over(values("large"), UNUSUAL),
    "unusual brokers": over(values("managed-kafka"), UNUSUAL_BROKERS),
}
"""What tests render the chart with: each file of values, some over each other, and what no file chooses."""


def main() -> None:
    """Write the files that are made."""
    for name, make in MADE.items():
        (CHART / name).write_text(make())


if __name__ == "__main__":
    main()
