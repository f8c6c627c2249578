"""The Helm chart: what it renders for each file of values is valid, fits together, and is what the program is."""

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pyflink.version
import pytest
import yaml
from pydantic import SecretStr
from typer.testing import CliRunner

from klinestream import __version__
from klinestream.cli.main import app
from klinestream.ingest.gate import PROBES as INGEST_PROBES
from klinestream.market.topics import TOPICS
from klinestream.runtime.config import PREFIX, Config, load
from klinestream.runtime.sections import KafkaConfig
from klinestream.stack import commands, jars
from klinestream.stack.commands import script_of
from klinestream.stack.extras import EXTRAS, observed
from server.access.guards import PROBES as SERVER_PROBES
from tests import chart

KUBERNETES = ("1.31", "1.36")
NATIVE = {"v1", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "rbac.authorization.k8s.io"}
PROVIDED_BY_STRIMZI = {f"{name}{suffix}" for name in ("market-klinestream", "binance") for suffix in ("", "-kafka-cluster-ca-cert")}
"""Secrets that its operators make: the authority's certificate, and the user's password or certificate."""
EVERY = pytest.mark.parametrize("file", chart.CHOSEN)
MODEL = {"enabled": True, "volume": {"persistentVolumeClaim": {"claimName": "market-klinestream-workflow", "readOnly": True}}}


# The library reads its megabytes of schemas anew for each resource.
_schema = cache(kubernetes_validate.utils.schema_contents)


@cache
def _rendered(file: str) -> list[dict[str, Any]]:
    return chart.rendered(chart.CHOSEN[file])


def rendered(file: str, *kinds: str) -> list[dict[str, Any]]:
    """The resources of some kinds; of all, if none is named."""
    return [copy.deepcopy(each) for each in _rendered(file) if not kinds or each["kind"] in kinds]


def pods(file: str) -> dict[str, dict[str, str]]:
    """What makes pods → the labels of these."""
    found = {}
    for each in rendered(file, "Deployment", "Job", "FlinkDeployment"):
        template = each["spec"].get("template") or each["spec"]["podTemplate"]
        found[each["metadata"]["name"]] = template["metadata"]["labels"]
    return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """As Kubernetes reads a selector of labels."""
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", selector).items())


def named(node: Any, key: str) -> Iterator[Any]:
    """All that stands under a key, anywhere."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from named(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from named(value, key)


def test_what_is_made_from_the_program_is_up_to_date() -> None:
    """Topics, Flink's settings and the schema of the configuration are the program's; `python -m tests.chart` makes them anew."""
    assert {name: (chart.CHART / name).read_text() for name in chart.MADE} == {name: make() for name, make in chart.MADE.items()}


def test_its_versions_are_the_programs() -> None:
    """Chart and application have the program's version, and so has the image that is run."""
    told = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert told["version"] == told["appVersion"] == __version__
    images = {one["image"] for each in rendered("small") for one in chart.containers(each) if "image" in one}
    assert images == {f"klinestream:{__version__}"}
    assert f"--tag registry.example/klinestream:{__version__} ." in (chart.ROOT / "docs" / "kubernetes.md").read_text()


@EVERY
def test_helm_finds_nothing_to_mend(file: str) -> None:
    """`helm lint` has neither errors nor warnings."""
    report = helm_python.lint(chart.CHART, chart.CHOSEN[file], strict=True)
    assert [one for one in report["messages"] if one["severity"] > 1] == report["errors"] == []


def test_the_packaged_chart_has_all_that_it_needs(tmp_path: Path) -> None:
    """What `helm package` makes renders the same resources: no file of it is only a link into the checkout."""
    with helm_python.Chart.load(chart.CHART) as loaded:
        package = Path(loaded.save(tmp_path))
    assert package.name == f"klinestream-{__version__}.tgz"
    assert chart.rendered(chart.CHOSEN["large"], package) == rendered("large")


@EVERY
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_resource_fits_kubernetes(file: str, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is valid by Kubernetes' own schemas, with no unknown field; those of operators are known by name."""
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", _schema)
    of_operators = set()
    for each in rendered(file):
        group = each["apiVersion"].partition("/")[0]
        if group in NATIVE:
            kubernetes_validate.validate(each, version, strict=True)
        else:
            of_operators.add(group)
    assert of_operators <= {"kafka.strimzi.io", "flink.apache.org", "monitoring.coreos.com", "gateway.networking.k8s.io"}


@EVERY
def test_no_two_resources_share_a_name(file: str) -> None:
    """A second resource of the same kind and name would take the place of the first."""
    found = [(each["kind"], each["metadata"]["name"]) for each in rendered(file)]
    assert len(found) == len(set(found))
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", name) for _, name in found)
    assert {each["metadata"]["namespace"] for each in rendered(file)} == {chart.NAMESPACE}


@EVERY
def test_the_configuration_is_one_that_the_program_takes(file: str, empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files are read by the program's own loader, together with every variable that a container has."""
    for each in (each for each in rendered(file, "ConfigMap") if "klinestream.toml" in each["data"]):
        where = empty_folder / f"{each['metadata']['name']}.toml"
        where.write_text(each["data"]["klinestream.toml"])
        assert load(where).kafka.bootstrap_servers != KafkaConfig().bootstrap_servers
    variables = {one["name"]: one for each in rendered(file) for container in chart.containers(each) for one in container.get("env", ())}
    for name, one in variables.items():
        if name.startswith(PREFIX):
            monkeypatch.setenv(name, one.get("value", "x" * 32))
    monkeypatch.setenv("KLINESTREAM_SIGNALS__WEBHOOK_URL", "https://hooks.example/1")
    load(next(empty_folder.glob("*-config.toml")))


@EVERY
def test_secrets_are_named_and_never_there(file: str) -> None:
    """No Secret is rendered, a secret key is never given a value, and each one named was named in the values or is Strimzi's."""
    secret = {f"{PREFIX}{section}__{key}".upper() for section, table in Config() for key, value in table if isinstance(value, SecretStr)}
    assert not rendered(file, "Secret")
    for each in rendered(file):
        for one in (one for container in chart.containers(each) for one in container.get("env", ())):
            assert one["name"] not in secret or "secretKeyRef" in one["valueFrom"]
    text = json.dumps(chart.CHOSEN[file])
    wanted = {one["name"] for one in named(rendered(file), "secretKeyRef")} | {one["secretName"] for one in named(rendered(file), "secret")}
    assert not [name for name in wanted - PROVIDED_BY_STRIMZI if f'"{name}"' not in text]


@EVERY
def test_what_pods_refer_to_is_there(file: str) -> None:
    """ConfigMaps, volumes and accounts that pods name are rendered, too, and each mount has its volume."""
    names = {kind: {each["metadata"]["name"] for each in rendered(file, kind)} for kind in ("ConfigMap", "ServiceAccount")}
    claims = {each["metadata"]["name"] for each in rendered(file, "PersistentVolumeClaim")}
    for each in rendered(file, "Deployment", "Job", "FlinkDeployment"):
        pod = chart.pod_of(each)
        assert pod.get("serviceAccountName", each["spec"].get("serviceAccount")) in names["ServiceAccount"]
        assert {one["name"] for one in named(pod, "configMap")} <= names["ConfigMap"]
        assert {one["claimName"] for one in named(pod, "persistentVolumeClaim")} <= claims
        volumes = {one["name"] for one in pod["volumes"]}
        assert {one["name"] for container in pod["containers"] for one in container["volumeMounts"]} == volumes


@EVERY
def test_selectors_find_what_they_are_meant_for(file: str) -> None:
    """Deployments, Services, budgets, policies and monitors select pods that there are; autoscalers and routes name what there is."""
    labels = pods(file)
    for each in rendered(file, "Deployment"):
        assert selects(each["spec"]["selector"], labels[each["metadata"]["name"]])
        assert sum(selects(each["spec"]["selector"], one) for one in labels.values()) == 1
    for each in rendered(file, "Service", "PodDisruptionBudget", "PodMonitor"):
        if "strimzi.io/cluster" not in json.dumps(each["spec"]["selector"]):
            assert any(selects(each["spec"]["selector"], one) for one in labels.values()), each["metadata"]["name"]
    for each in rendered(file, "HorizontalPodAutoscaler"):
        assert each["spec"]["scaleTargetRef"]["name"] in labels
    services = {each["metadata"]["name"]: each for each in rendered(file, "Service")}
    for backend in named(rendered(file, "Ingress"), "backend"):
        assert backend["service"]["name"] in services
    for backends in named(rendered(file, "HTTPRoute"), "backendRefs"):
        assert all(one["port"] == services[one["name"]]["spec"]["ports"][0]["port"] for one in backends)


@EVERY
def test_pods_may_do_nothing_but_their_work(file: str) -> None:
    """Not as root, nothing written but volumes, no rights of the kernel's; no token but for Flink's managers, which start pods."""
    for each in rendered(file, "Deployment", "Job", "FlinkDeployment"):
        pod = chart.pod_of(each)
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["enableServiceLinks"] is False  # KLINESTREAM_SERVER_PORT would be an unknown key
        assert each["kind"] == "FlinkDeployment" or pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert each["kind"] == "FlinkDeployment" or container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("part", chart.parts())
def test_a_part_is_what_the_program_has(part: str) -> None:
    """Its port is the default of its section, its probes are paths that it answers, and its command that of `klinestream up`."""
    facts = chart.parts()[part]
    section = getattr(Config(), facts["section"])
    assert getattr(section, facts["portKey"]) == facts["port"]
    assert "metricsPort" not in facts or section.metrics_port == facts["metricsPort"]
    routes = {"server": {*SERVER_PROBES, "/metrics"}, "ingest": {*INGEST_PROBES}}.get(part, {"/metrics", "/healthz"})
    assert {facts["live"], facts["ready"]} <= routes
    own = {"producer": commands.PRODUCER, "server": commands.SERVER, "repair": commands.REPAIR, "alerts": commands.ALERTS}
    own |= {"archive": commands.ARCHIVE, "proof": commands.PROOF} | {name: extra.argv for name, extra in EXTRAS.items()}
    assert part not in own or ("klinestream", *facts["command"]) == own[part]
    assert part not in EXTRAS or facts.get("observed", observed(part)) == observed(part)


@EVERY
def test_every_command_is_one_of_the_program(file: str, empty_folder: Path) -> None:
    """The command line parses every container's command, with the configuration that is mounted there."""
    config = next(each for each in rendered(file, "ConfigMap") if each["metadata"]["name"].endswith("-config"))
    where = empty_folder / "klinestream.toml"
    where.write_text(config["data"]["klinestream.toml"])
    found = [one["command"] for each in rendered(file, "Deployment", "Job") for one in chart.containers(each)]
    assert found
    for program, *arguments in found:
        assert program == "klinestream"
        said = CliRunner().invoke(app, [str(where) if one.startswith("/etc/") else one for one in arguments] + ["--help"])
        assert said.exit_code == 0, said.output


def test_two_producers_stand_in_different_zones() -> None:
    """Each is a Deployment of its own with a name of its own, kept out of the other's zone, and one at least is never evicted."""
    producers = [each for each in rendered("managed-kafka", "Deployment") if "producer" in each["metadata"]["name"]]
    assert [each["spec"]["replicas"] for each in producers] == [1, 1]
    variables = [one for each in producers for container in chart.containers(each) for one in container["env"]]
    told = {one["value"] for one in variables if one["name"] == "KLINESTREAM_PRODUCER__NAME"}
    assert told == {"producer-a", "producer-b"}
    for each in producers:
        [term] = chart.pod_of(each)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "topology.kubernetes.io/zone"
        [other] = term["labelSelector"]["matchExpressions"]
        assert (other["operator"], other["values"]) == (
            "NotIn",
            [pods("managed-kafka")[each["metadata"]["name"]]["klinestream.io/instance"]],
        )
    [budget] = [each for each in rendered("managed-kafka", "PodDisruptionBudget") if "producer" in each["metadata"]["name"]]
    assert budget["spec"]["minAvailable"] == 1


def test_topics_are_those_of_the_program() -> None:
    """Strimzi gets a resource of each topic, with its partitions and settings, and the user may read and write all of them."""
    found = {each["spec"]["topicName"]: each["spec"] for each in rendered("large", "KafkaTopic")}
    assert found.keys() == {topic.name for topic in TOPICS}
    for topic in TOPICS:
        assert found[topic.name]["partitions"] == topic.partitions
        assert found[topic.name]["replicas"] == 3
        assert found[topic.name]["config"] == topic.settings() | {"min.insync.replicas": "2"}
    [user] = rendered("large", "KafkaUser")
    prefix = next(acl["resource"]["name"] for acl in user["spec"]["authorization"]["acls"] if acl["resource"]["type"] == "topic")
    assert all(topic.name.startswith(prefix) for topic in TOPICS)
    assert {each["spec"]["replicas"] for each in rendered("small", "KafkaTopic")} == {1}
    assert not rendered("managed-kafka", "KafkaTopic", "Kafka", "KafkaUser", "KafkaNodePool")


def alerts(file: str) -> dict[str, dict[str, Any]]:
    """The chart's rules by name, in order."""
    [rules] = rendered(file, "PrometheusRule")
    return {one["alert"]: one for group in rules["spec"]["groups"] for one in group["rules"]}


def test_alerts_and_dashboards_are_those_of_the_program() -> None:
    """Every alert is there; every dashboard has a ConfigMap of its own."""
    kept = yaml.safe_load((chart.ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert list(alerts("large")) == [one["alert"] for group in kept["groups"] for one in group["rules"]]
    boards = (chart.ROOT / "deploy" / "grafana" / "provisioning" / "dashboards").glob("*.json")
    held = {name: text for each in rendered("large", "ConfigMap") for name, text in each["data"].items() if name.endswith(".json")}
    assert {name: json.loads(text) for name, text in held.items()} == {file.name: json.loads(file.read_text()) for file in boards}


IN_NAMESPACE = re.compile(r'(?:[a-zA-Z_:][\w:]*)?\{namespace="klinestream"(?:,[^{}]*)?\}')
NO_METRICS = {"absent", "changes", "count_over_time", "group", "increase", "max", "min", "sum", "time"}
NO_METRICS |= {"and", "by", "group_left", "offset", "on", "or", "unless"}
NO_METRICS |= {"feed", "field", "instance", "job", "job_name", "topic"}
"""What stands in an expression beside selectors: functions, operators, labels."""


def test_alerts_ask_for_nothing_of_another_namespace() -> None:
    """Each selector names the release's namespace, and outside of selectors no word is a metric's name, whatever it is called."""
    for name, rule in alerts("large").items():
        left = IN_NAMESPACE.sub("", rule["expr"])
        assert left != rule["expr"], name
        assert "{" not in left, (name, left)
        assert set(re.findall(r"[a-zA-Z_:][\w:]*", re.sub(r"\[\w+\]|\boffset \w+", "", left))) <= NO_METRICS, (name, left)


def test_alerts_of_two_releases_are_not_taken_for_one() -> None:
    """An alert carries the namespace also where its expression sums over everything; Alertmanager knows alerts by their labels alone."""
    assert {rule["labels"]["namespace"] for rule in alerts("large").values()} == {chart.NAMESPACE}


def test_another_version_of_the_chart_leaves_the_brokers_alone() -> None:
    """Strimzi hands labels on to its pods, and starts them anew for another one: what it gets are those that it keeps to itself."""
    for each in rendered("large", "Kafka", "KafkaNodePool"):
        assert all(label.startswith(("app.kubernetes.io/", "strimzi.io/")) for label in each["metadata"]["labels"])
        assert "app.kubernetes.io/part-of" not in each["metadata"]["labels"]


OTHER_TOPICS_JOB: dict[str, dict[str, Any]] = {
    "tag": {"image": {"tag": "9.9.9"}},
    "repository": {"image": {"repository": "registry.example/klinestream"}},
    "pull policy": {"image": {"pullPolicy": "Always"}},
    "pull secrets": {"image": {"pullSecrets": [{"name": "registry"}]}},
    "prefix": {"config": {"kafka": {"topic_prefix": "replay."}}},
    "patience": {"config": {"kafka": {"connect_timeout_s": 60}}},
    "brokers": {"kafka": {"external": {"bootstrapServers": "other.example:9096"}}},
    "password": {"kafka": {"external": {"saslPasswordSecret": {"name": "other"}}}},
}


@pytest.mark.parametrize("case", OTHER_TOPICS_JOB)
def test_a_job_that_makes_topics_is_another_one_for_whatever_it_does_otherwise(case: str) -> None:
    """Kubernetes doesn't let a job be changed: what makes it do another thing gives it another name."""

    def name(chosen: dict[str, Any]) -> str:
        found = chart.rendered(chart.over(chart.values("managed-kafka"), chosen))
        return next(str(each["metadata"]["name"]) for each in found if each["kind"] == "Job")

    assert name({}) == name({"config": {"server": {"max_clients": 10}}})
    assert name({}) != name(OTHER_TOPICS_JOB[case])


def test_names_fit_however_long_that_of_the_release_is() -> None:
    """Pods of Strimzi may have 63 characters, `cluster-pool-number`, and Flink's clusters 45: at 53 characters, Helm's own limit, too."""
    found = chart.rendered(chart.over(chart.values("small"), {"flink": {"jobs": {"trade_windows": {"enabled": True}}}}), release="r" * 53)
    [cluster] = [each["metadata"]["name"] for each in found if each["kind"] == "Kafka"]
    pools = [each["metadata"]["name"] for each in found if each["kind"] == "KafkaNodePool"]
    assert len(set(pools)) == 2
    assert all(len(f"{cluster}-{pool}-99") <= 63 for pool in pools)
    assert all(len(each["metadata"]["name"]) <= 45 for each in found if each["kind"] == "FlinkDeployment")
    assert all(len(each["metadata"]["name"]) <= 63 for each in found if each["kind"] in {"Service", "Deployment"})


def test_pools_of_two_releases_in_a_namespace_have_different_names() -> None:
    """A pool is a resource of the namespace, and its name is short."""
    names = [{each["metadata"]["name"] for each in chart.rendered(chart.values("small"), release=name)} for name in ("one", "two")]
    assert not names[0] & names[1]


SHARING: dict[str, tuple[dict[str, Any], set[str]]] = {
    "the archive": ({}, {"archive", "proof"}),
    "workflows beside it": ({"parts": {"workflow": {"enabled": True}}}, {"archive", "proof", "workflow"}),
    "a model from there": ({"parts": {"workflow": {"enabled": True}, "model": MODEL}}, {"archive", "proof", "workflow", "model"}),
    "a model from there, the archive elsewhere": (
        {"config": {"archive": {"url": "s3://bucket"}}, "parts": {"workflow": {"enabled": True}, "model": MODEL}},
        {"workflow", "model"},
    ),
    "a model of before": ({"parts": {"model": MODEL}}, {"archive", "proof"}),
    "a volume for many": ({"archive": {"accessModes": ["ReadWriteMany"]}, "parts": {"workflow": {"enabled": True}}}, set()),
}


@pytest.mark.parametrize("case", SHARING)
def test_who_shares_a_volume_stands_on_one_machine(case: str) -> None:
    """All who have it ask for each other, by one label and in one term: none of them may start first on another machine."""
    chosen, expected = SHARING[case]
    found = [each for each in chart.rendered(chart.over(chart.values("small"), chosen)) if each["kind"] == "Deployment"]
    asking = {}
    for each in found:
        if "podAffinity" in chart.pod_of(each).get("affinity", {}):
            [term] = chart.pod_of(each)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term["topologyKey"] == "kubernetes.io/hostname"
            asking[each["metadata"]["labels"]["app.kubernetes.io/component"]] = term["labelSelector"]
    assert asking.keys() == expected
    labels = {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["metadata"]["labels"] for each in found}
    for selector in asking.values():
        assert {part for part in labels if selects(selector, labels[part])} == expected


def test_a_small_cluster_needs_no_labels_of_zones() -> None:
    """A broker without its node's zone stays away for good: of one zone, the machine is asked for, whose name each node has."""
    [kafka] = rendered("small", "Kafka")
    assert kafka["spec"]["kafka"]["rack"] == {"topologyKey": "kubernetes.io/hostname"}
    spread = [one for each in rendered("small", "KafkaNodePool") for one in named(each, "topologySpreadConstraints")]
    assert {one["topologyKey"] for [one] in spread} == {"kubernetes.io/hostname"}


def test_a_prefix_of_topics_is_one_everywhere() -> None:
    """With `kafka.topic_prefix` topics, rights and configuration have it alike."""
    chosen = chart.values("small")
    chosen["config"] = {"kafka": {"topic_prefix": "replay."}}
    found = chart.rendered(chosen)
    assert all(each["spec"]["topicName"].startswith("replay.crypto_") for each in found if each["kind"] == "KafkaTopic")
    acls = next(each for each in found if each["kind"] == "KafkaUser")["spec"]["authorization"]["acls"]
    assert {one["resource"].get("name") for one in acls} == {"replay.crypto_", "replay.klinestream", None}


@EVERY
def test_jobs_run_what_the_image_has_and_keep_what_they_know(file: str) -> None:
    """Each job is a module, the connector is the locked one, the settings are flink-conf's, and no state is lost on an upgrade."""
    tuned = yaml.safe_load((chart.ROOT / "flink-conf" / "config.yaml").read_text())
    for each in rendered(file, "FlinkDeployment"):
        spec, settings = each["spec"], each["spec"]["flinkConfiguration"]
        assert script_of(spec["job"]["args"][spec["job"]["args"].index("-pym") + 1].removeprefix("jobs.")).is_file()
        assert settings["pipeline.classpaths"].endswith(f"/{jars.connector(Path()).name}")
        assert spec["job"]["jarURI"].endswith(f"/flink-python-{pyflink.version.__version__}.jar")
        assert spec["flinkVersion"] == "v" + "_".join(pyflink.version.__version__.split(".")[:2])
        assert (spec["job"]["upgradeMode"], spec["job"]["allowNonRestoredState"]) == ("savepoint", False)
        same = [key for key in tuned if key.startswith(("restart-strategy.", "heartbeat."))]
        assert {key: settings[key] for key in same} == {key: str(tuned[key]) for key in same}
        assert settings["high-availability.type"] == "kubernetes"
        assert len({settings[key] for key in settings if key.endswith(("checkpointing.dir", "savepoint-dir", "storageDir"))}) == 3
        assert all(isinstance(value, str) for value in settings.values())
    folders = [each["spec"]["flinkConfiguration"]["execution.checkpointing.dir"] for each in rendered(file, "FlinkDeployment")]
    assert len(folders) == len(set(folders)) >= 2


def test_jobs_start_anew_only_for_what_they_read() -> None:
    """Another setting of the server leaves the jobs as they are; another setting of theirs is another revision of them."""

    def annotations(**config: dict[str, Any]) -> list[dict[str, str]]:
        chosen = chart.values("small") | {"config": config}
        found = [each["spec"] for each in chart.rendered(chosen) if each["kind"] == "FlinkDeployment"]
        return [spec["podTemplate"]["metadata"]["annotations"] for spec in found]

    assert annotations() == annotations(server={"max_clients": 10})
    assert annotations() != annotations(candles={"batch_ms": 50})


def test_a_job_can_begin_from_a_savepoint() -> None:
    """`restore` names where, and its nonce makes it begin there once more."""
    chosen = chart.values("small")
    chosen["flink"]["jobs"]["candles"] |= {"restore": {"from": "s3://bucket/savepoint-1", "nonce": 7}, "state": "suspended"}
    found = [each for each in chart.rendered(chosen) if each["kind"] == "FlinkDeployment"]
    job = next(each["spec"]["job"] for each in found if each["metadata"]["name"].endswith("-candles"))
    told = (job["initialSavepointPath"], job["savepointRedeployNonce"], job["state"])
    assert told == ("s3://bucket/savepoint-1", 7, "suspended")


@EVERY
def test_nothing_flows_but_what_has_to(file: str) -> None:
    """By the policies: the server reaches each part and each job, a job itself, nobody else anybody; who reads topics reaches Kafka."""
    labels = pods(file)
    # The last one is that of the metrics, if they have one of their own.
    ports = {each["metadata"]["name"]: chart.pod_of(each)["containers"][0]["ports"][-1] for each in rendered(file, "Deployment")}
    server = next(name for name in labels if name.endswith("-server"))
    jobs = {each["metadata"]["name"] for each in rendered(file, "FlinkDeployment")}
    for source, target in ((a, b) for a in labels for b in labels):
        open_ports = flows(file, labels[source], labels[target])
        if source == target and source in jobs:
            assert None in open_ports
        elif source == server:
            assert open_ports == ({8081} if target in jobs else {ports[target]["name"]} if target in ports else set())
        else:
            assert not open_ports, (source, target)
    reaching = {name for name, found in labels.items() if found.get("klinestream.io/reaches-kafka")}
    assert labels.keys() - reaching <= {f"{server.removesuffix('-server')}-proof"}


def test_ingestion_tells_prometheus_what_it_does_without_a_token() -> None:
    """Its metrics have a port of their own, which Prometheus and the server may reach, and clients may not; probes ask the public one."""
    [ingest] = [each for each in rendered("large", "Deployment") if each["metadata"]["name"].endswith("-ingest")]
    [container] = chart.pod_of(ingest)["containers"]
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {"http": 8085, "metrics": 9119}
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {"http"}
    [monitor] = [each for each in rendered("large", "PodMonitor") if each["metadata"]["name"].endswith("-ingest")]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert "authorization" not in endpoint
    [policy] = [each for each in rendered("large", "NetworkPolicy") if each["metadata"]["name"].endswith("-at-ingest")]
    parts, clients = policy["spec"]["ingress"]
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())["networkPolicies"]
    assert parts["from"][1:] == values["monitoring"]
    assert clients == {"from": values["ingestClients"], "ports": [{"port": "http", "protocol": "TCP"}]}
    [config] = [each["data"]["klinestream.toml"] for each in rendered("large", "ConfigMap") if each["metadata"]["name"].endswith("-config")]
    assert "ingest=http://market-klinestream-ingest:9119" in tomllib.loads(config)["server"]["observe"]
    assert tomllib.loads(config)["ingest"]["metrics_host"] == "0.0.0.0"  # noqa: S104  # Prometheus reads it from another pod


def flows(file: str, source: Mapping[str, str], target: Mapping[str, str]) -> set[Any]:
    """Ports that policies open from pods with some labels to others of this release: what may leave one and enter the other."""
    leaving: set[Any] = set()
    entering: set[Any] = set()
    for policy in rendered(file, "NetworkPolicy"):
        spec = policy["spec"]
        for rules, side, pod, peer in ((leaving, "egress", source, target), (entering, "ingress", target, source)):
            if selects(spec["podSelector"], pod):
                for rule in spec.get(side, ()):
                    peers = rule["to" if side == "egress" else "from"]
                    if any(selects(one["podSelector"], peer) for one in peers if one.keys() == {"podSelector"}):
                        rules.update([one["port"] for one in rule.get("ports", ())] or [None])
    return entering if None in leaving else leaving & entering
