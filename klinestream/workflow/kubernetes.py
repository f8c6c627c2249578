"""The Jobs of one run, from the definition that the local runner takes: a Job a step, all over one state.

    Job train-RUN-load        klinestream workflow step train load --run RUN
    Job train-RUN-features    waits until load is done in the state ─► klinestream workflow step train features --run RUN
    …                                                  │
                                      one volume, which all pods may write to

A Job for each step, so that each has its own processor, memory and attempts. The order stands in the shared state, where the steps
themselves look before they begin: nothing else has to be trusted, and to apply the same Jobs again does nothing again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from klinestream.market.errors import ConfigError
from klinestream.workflow.definition import WAITING, Definition, Step

USER = 10001
"""Of the image."""
_WAITING = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
_START_S = 600.0
"""Until a pod is there: images are pulled, nodes are made."""
_NAME_MOST = 63  # a Job's name is a label of its pods, too
_KEPT_S = 7 * 86_400
_STATE, _SCRATCH = "state", "scratch"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the Jobs need to know of where they run."""

    image: str
    namespace: str = ""
    claim: str = "klinestream-state"
    """Volume claim that all pods may write to at once."""
    folder: str = "/data"
    """Where it is mounted: the commands' working directory."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of the configuration."""
    config_maps: Sequence[str] = ()
    secrets: Sequence[str] = ()
    """Whose entries are variables too; only their names stand here."""
    service_account: str = ""


def jobs(definition: Definition, parameters: Mapping[str, str], run: str, cluster: Cluster) -> list[dict[str, Any]]:
    """The Jobs of a run, as Kubernetes takes them. Raises ConfigError where a name is too long for it."""
    given = [word for name, value in sorted(parameters.items()) for word in ("--set", f"{name}={value}")]
    found, before_s = [], 0.0
    for place, step in enumerate(definition.steps):
        command = ["klinestream", "workflow", "step", definition.name, step.name, "--run", run, *given]
        waiting = ["klinestream", "workflow", "wait", definition.name, step.name, "--run", run, "--timeout", f"{before_s:g}"]
        containers = {"containers": [_container(step.name, command, cluster, _resources(step))]}
        if place:
            containers["initContainers"] = [_container(WAITING, waiting, cluster, _WAITING)]
        longest_s = _longest_s(step)
        name = _job_name(definition, step, run)
        labels = _labels(definition, step, run)
        metadata = {"name": name, "labels": labels, **({"namespace": cluster.namespace} if cluster.namespace else {})}
        spec = _spec(step, labels, _pod(cluster, containers), before_s + longest_s)
        found.append({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
        before_s += longest_s
    return found


def _job_name(definition: Definition, step: Step, run: str) -> str:
    name = f"{definition.name}-{run}-{step.name}".replace("_", "-")
    if len(name) > _NAME_MOST:
        raise ConfigError(
            f"expected a Job's name of up to {_NAME_MOST} characters, got {name}: give a shorter --run, or the workflow or its step a "
            "shorter name"
        )
    return name


def _longest_s(step: Step) -> float:
    """With all its attempts, the time that its pods take to be there, and what Kubernetes waits between them (up to 6 min)."""
    return step.attempts * (step.timeout_s + _START_S)


def _labels(definition: Definition, step: Step, run: str) -> dict[str, str]:
    of_app = {"app.kubernetes.io/name": "klinestream", "app.kubernetes.io/component": "workflow"}
    return of_app | {"klinestream/workflow": definition.name, "klinestream/run": run, "klinestream/step": step.name}


def _pod(cluster: Cluster, containers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",  # a failed pod stays to be read; the Job makes another one
        "automountServiceAccountToken": False,
        "securityContext": {
            **{"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **containers,
        "volumes": [{"name": _STATE, "persistentVolumeClaim": {"claimName": cluster.claim}}, {"name": _SCRATCH, "emptyDir": {}}],
        **({"serviceAccountName": cluster.service_account} if cluster.service_account else {}),
    }


def _spec(step: Step, labels: Mapping[str, str], pod: Mapping[str, Any], longest_s: float) -> dict[str, Any]:
    return {
        "backoffLimit": step.attempts - 1,
        "completions": 1,
        "parallelism": 1,
        "activeDeadlineSeconds": int(longest_s),
        "ttlSecondsAfterFinished": _KEPT_S,
        "template": {"metadata": {"labels": dict(labels)}, "spec": dict(pod)},
    }


def _container(name: str, command: Sequence[str], cluster: Cluster, resources: Mapping[str, Any]) -> dict[str, Any]:
    sources = [{"configMapRef": {"name": each}} for each in cluster.config_maps] + [
        {"secretRef": {"name": each}} for each in cluster.secrets
    ]
    return {
        "name": name.replace("_", "-"),
        "image": cluster.image,
        "command": list(command),
        "workingDir": cluster.folder,
        "env": [{"name": key, "value": value} for key, value in sorted(cluster.settings.items())],
        **({"envFrom": sources} if sources else {}),
        "resources": resources,
        "securityContext": {
            **{"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True},
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": _STATE, "mountPath": cluster.folder}, {"name": _SCRATCH, "mountPath": "/tmp"}],  # noqa: S108  # its own
    }


def _resources(step: Step) -> dict[str, Any]:
    return {"requests": {"cpu": step.cpu, "memory": step.memory}, "limits": {"memory": step.memory}}
