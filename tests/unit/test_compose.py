"""docker-compose.yml is valid, keeps to this machine, and runs what `klinestream up` runs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from klinestream.stack import commands
from klinestream.stack.extras import EXTRAS, POSTGRES
from klinestream.stack.supervisor import JOBS

FILE = Path(__file__).parents[2] / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def service(name: str) -> str:
    """The service that is a part of the local stack; a database has its own name there, and its sink another one."""
    return "store-postgres" if name == POSTGRES else name


def test_it_fits_the_compose_schema() -> None:
    """The file is valid by Compose's own schema."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    found = subprocess.run(check, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_its_commands_are_those_of_the_local_stack() -> None:
    """Each part of ours is started by the command that `klinestream up` starts it with."""
    parts = {"topics": commands.TOPICS, "standin": commands.STANDIN, "producer": commands.PRODUCER, "server": commands.SERVER}
    parts |= {"repair": commands.REPAIR, "alerts": commands.ALERTS, "archive": commands.ARCHIVE, "proof": commands.PROOF}
    parts |= {service(name): extra.argv for name, extra in EXTRAS.items()}
    assert {name: tuple(SERVICES[name]["command"]) for name in parts} == parts
    assert SERVICES["job-manager"]["command"][:2] == ["jobmanager.sh", "start-foreground"]
    assert SERVICES["task-manager"]["command"][:2] == ["taskmanager.sh", "start-foreground"]
    for job in JOBS:
        assert SERVICES[job]["command"][:3] == ["klinestream", "job", job]


def test_published_ports_are_bound_to_localhost() -> None:
    """Nothing is reachable from outside this machine."""
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_variable_is_one_of_the_configuration() -> None:
    """Variables of klinestream name keys that exist."""
    known = {f"KLINESTREAM_{s}__{k}".upper() for s, table in commands.Config() for k in type(table).model_fields}
    used = {name for service in SERVICES.values() for name in service.get("environment", {}) if name.startswith("KLINESTREAM")}
    assert used
    assert used <= known


def test_no_secret_stands_in_it() -> None:
    """No line gives a password or a token a value."""
    given = {name for service in SERVICES.values() for name, value in service.get("environment", {}).items() if value is not None}
    assert not [name for name in given if "PASSWORD" in name or "TOKEN" in name or "SECRET" in name]


def test_what_lasts_has_a_volume_and_what_serves_a_healthcheck() -> None:
    """Broker, Flink and archive keep theirs in volumes; all that serve say whether they are well."""
    assert all(SERVICES[name]["volumes"] for name in ("broker", "job-manager", "task-manager", "archive", "proof"))
    serving = ("broker", "standin", "producer", "job-manager", "repair", "alerts", "archive", "proof", "server")
    assert all("healthcheck" in SERVICES[name] for name in (*serving, *map(service, EXTRAS)))
