"""docker-compose.yml and deploy/compose are valid, keep to this machine, and run what `klinestream up` runs.

No engine is asked: what is looked at is what the files say, put together as Compose puts them together (tests/compose.py).
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from klinestream import __version__
from klinestream.cli.main import app
from klinestream.stack import commands, database
from klinestream.stack.extras import EXTRAS
from klinestream.stack.jobs import name_of
from klinestream.stack.supervisor import JOBS
from tests.compose import ROOT, Service, files, services, volumes

SERVICES = services()
OURS = [service for service in SERVICES.values() if service.ours]
FOREIGN = [service for service in SERVICES.values() if not service.ours]
PROFILES = sorted({profile for service in SERVICES.values() for profile in service.profiles})
REQUIRED = ROOT / "deploy" / "compose" / "required"
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY")
# Which section of the configuration a service listens by; all others are called as their section is.
SECTIONS = {"alerts": "signals", "model": "models", "store-postgres": "postgres"}
# A part beside its database can't be called like it.
NAMES = {"postgres": "store-postgres"}
FLINK_PORTS = {"job-manager": 8081, "task-manager": 9249}


def program() -> list[str] | None:
    """Docker Compose, where it is installed; it needs no engine to read files."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0:
            return words
    return None


def asked_for() -> set[str]:
    """The variables without which some profile doesn't start."""
    return {name for file in REQUIRED.iterdir() for name in re.findall(r"\$\{([A-Z_]+):\?", file.read_text())}


def listening_port(service: Service) -> int:
    """On which port the configuration, with the service's variables, lets it answer."""
    if service.name in FLINK_PORTS:
        return FLINK_PORTS[service.name]
    section = getattr(commands.Config(), SECTIONS.get(service.name, service.name), None)
    if section is None or service.name == "standin":
        return commands.Config().stack.standin_port
    if service.name in {"server", "ingest"}:
        return int(section.port)
    return int(section.metrics_port)


def test_they_fit_the_compose_schema() -> None:
    """Each file is valid by Compose's own schema."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *map(str, files())]
    found = subprocess.run(check, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.mark.skipif(program() is None, reason="needs Docker Compose")
def test_compose_itself_reads_them_alike() -> None:
    """Without secrets Compose stops with what is missing; with them it makes of the files what these tests take them for."""
    read = [*(program() or ()), "--file", str(ROOT / "docker-compose.yml"), "--env-file", os.devnull, "--profile", "*", "config"]
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    refused = subprocess.run(read, capture_output=True, text=True, env=bare, check=False)
    assert refused.returncode != 0
    assert re.search(r"required variable [A-Z_]+ is missing a value: (is|are) ", refused.stderr)
    given = bare | dict.fromkeys(asked_for(), "given")
    found = yaml.safe_load(subprocess.run(read, capture_output=True, text=True, env=given, check=True).stdout)["services"]
    assert found.keys() == SERVICES.keys()
    for name, service in SERVICES.items():
        for key in ("image", "command", "read_only", "user", "profiles", "cap_drop", "cap_add", "pids_limit", "tmpfs", "pull_policy"):
            assert found[name].get(key) == service.plain.get(key), (name, key)
        assert found[name].get("environment", {}).keys() >= {key for key, value in service.environment.items() if value is not None}
        bound = {Path(volume["source"]) for volume in found[name].get("volumes", ()) if volume["type"] == "bind"}
        assert bound == set(service.mounted()), name


def test_every_file_of_the_folder_is_used() -> None:
    """No file lies in deploy/compose that nothing includes or reads, and none is missing."""
    read = {REQUIRED / Path(name).name for service in SERVICES.values() for name in service.plain.get("env_file", ())}
    assert set((ROOT / "deploy" / "compose").glob("*.yml")) == set(files()) - {ROOT / "docker-compose.yml"}
    assert set(REQUIRED.iterdir()) == read


def test_its_commands_are_those_of_the_local_stack() -> None:
    """Each part of ours is started by the command that `klinestream up` starts it with, which other tests run."""
    parts = {"topics": commands.TOPICS, "standin": commands.STANDIN, "producer": commands.PRODUCER, "server": commands.SERVER}
    parts |= {"repair": commands.REPAIR, "alerts": commands.ALERTS, "archive": commands.ARCHIVE, "proof": commands.PROOF}
    parts |= {NAMES.get(name, name): extra.argv for name, extra in EXTRAS.items()}
    assert {name: tuple(SERVICES[name].plain["command"]) for name in parts} == parts
    assert SERVICES["job-manager"].plain["command"][:2] == ["jobmanager.sh", "start-foreground"]
    assert SERVICES["task-manager"].plain["command"][:2] == ["taskmanager.sh", "start-foreground"]
    for job in (*JOBS, *(extra.job for extra in EXTRAS.values() if extra.job)):
        assert SERVICES[job].plain["command"][:3] == ["klinestream", "job", job]
        assert SERVICES[job].environment["HEALTH_JOB"] == name_of(job)


@pytest.mark.parametrize("name", ["job-manager", "task-manager"])
def test_settings_of_flink_are_words_of_their_own(name: str) -> None:
    """Each `-D` is followed by a setting: jobmanager.sh takes `-Dkey=value` for the name of a host, and doesn't start."""
    words = SERVICES[name].plain["command"][2:]
    assert set(words[::2]) == {"-D"}
    assert all(re.fullmatch(r"[a-z][a-zA-Z.-]+=\S+", setting) for setting in words[1::2])


@pytest.mark.parametrize("service", [s for s in OURS if s.plain["command"][0] == "klinestream"], ids=lambda service: service.name)
def test_klinestream_takes_the_command(service: Service) -> None:
    """Every word of it is a command, an option or an argument that klinestream knows."""
    words = service.plain["command"][1:]
    told = CliRunner().invoke(app, [*words, "--help"])
    assert (told.exit_code, told.stderr) == (0, "")
    path = told.output.partition("Usage: root ")[2].partition(" [")[0].split()
    assert path
    assert path == words[: len(path)]
    assert CliRunner().invoke(app, [*words, "--no-such-option"]).exit_code == 2


def test_published_ports_are_bound_to_localhost() -> None:
    """Nothing is reachable from outside this machine, and no two services want the same port."""
    published = [port for service in SERVICES.values() for port in service.plain.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_every_variable_is_one_of_the_configuration() -> None:
    """Variables of klinestream name keys that exist."""
    known = {f"KLINESTREAM_{s}__{k}".upper() for s, table in commands.Config() for k in type(table).model_fields}
    required = {file for service in OURS for file in service.plain.get("env_file", ())}
    asked = {line.partition("=")[0] for file in required for line in (REQUIRED / Path(file).name).read_text().splitlines()}
    used = {name for name in asked.union(*(service.environment for service in OURS)) if name.startswith("KLINESTREAM")}
    assert used
    assert used <= known


def test_a_check_asks_where_the_part_answers() -> None:
    """HEALTH_URL is the port of the part's own section, and a path that it serves; whoever serves nothing isn't asked."""
    asked = {service.name: urlsplit(str(service.environment["HEALTH_URL"])) for service in OURS if "HEALTH_URL" in service.environment}
    own = {name: url for name, url in asked.items() if "HEALTH_JOB" not in SERVICES[name].environment}
    assert {name: url.port for name, url in own.items()} == {name: listening_port(SERVICES[name]) for name in own}
    assert {url.hostname for url in own.values()} == {"localhost"}
    assert {url.path for url in own.values()} <= {"/metrics", "/healthz", "/overview", "/api/v3/ping"}
    assert {url.netloc for name, url in asked.items() if name not in own} == {"job-manager:8081"}
    assert {service.name for service in OURS} - asked.keys() == {"topics"}
    assert SERVICES["topics"].plain["healthcheck"]["disable"]


def test_status_asks_services_that_are_there() -> None:
    """Whom the server observes, by which address: a service of these files, on its port."""
    observed = yaml.safe_load(str(SERVICES["server"].environment["KLINESTREAM_SERVER__OBSERVE"]))
    for name, _, address in (entry.partition("=") for entry in observed):
        url = urlsplit(address)
        assert (url.hostname, url.port) == (NAMES.get(name, name), listening_port(SERVICES[NAMES.get(name, name)]))


@pytest.mark.parametrize("service", SERVICES.values(), ids=lambda service: service.name)
def test_it_is_bounded_and_may_do_nothing_more_than_it_must(service: Service) -> None:
    """Memory, processes and logs have bounds, it comes back, gains no rights, and says whether it is well."""
    plain = service.plain
    assert plain.keys() >= {"mem_limit", "pids_limit", "logging", "restart", "healthcheck"}
    assert plain["logging"]["options"].keys() == {"max-size", "max-file"}
    assert plain["cap_drop"] == ["ALL"]
    assert plain["security_opt"] == ["no-new-privileges:true"]
    assert set(plain.get("cap_add", ())) <= {"NET_BIND_SERVICE"}
    assert not plain.get("privileged")
    assert not service.ours or plain["read_only"]


def test_every_variable_of_yours_is_told_of() -> None:
    """docs/compose.md names whatever these files take from the environment."""
    text = (ROOT / "docs" / "compose.md").read_text()
    taken = {name for file in files() for name in re.findall(r"\$\{([A-Z_]+)", file.read_text())}
    passed = {name for service in SERVICES.values() for name, value in service.environment.items() if value is None}
    assert not [name for name in asked_for() | taken | passed if name not in text]


def test_what_it_needs_is_told() -> None:
    """docs/compose.md tells the sum of the limits of the core and of each profile, to half a GB."""
    told = dict(re.findall(r"^\| `?([a-z]+)`? \| ([\d.]+) GB", (ROOT / "docs" / "compose.md").read_text(), re.MULTILINE))
    assert told.keys() == {"core", "feeds", "stores", "dashboards", "tools", "ml"}
    for name, gigabytes in told.items():
        # What several profiles share is told with the first of them.
        limits = [s.plain["mem_limit"] for s in SERVICES.values() if s.plain.get("profiles", ["core"])[0] == name]
        assert abs(sum(float(limit[:-1]) / (1024 if limit[-1] == "m" else 1) for limit in limits) - float(gigabytes)) <= 0.5, name


def test_each_profile_is_whole() -> None:
    """What a service waits for runs with every profile that the service runs with."""
    for service in SERVICES.values():
        for needed, how in service.plain.get("depends_on", {}).items():
            always = not SERVICES[needed].profiles
            assert always or (service.profiles and service.profiles <= SERVICES[needed].profiles), f"{service.name} needs {needed}"
            assert how["condition"] == "service_completed_successfully" or not SERVICES[needed].plain["healthcheck"].get("disable")


def test_every_profile_is_told_of() -> None:
    """docker-compose.yml and docs/compose.md name each profile, and no other one."""
    for file in ("docker-compose.yml", "docs/compose.md"):
        text = (ROOT / file).read_text()
        told = {name.strip() for names in re.findall(r"--profile ((?:[a-z]+, )*[a-z]+)", text) for name in names.split(",")}
        assert told == set(PROFILES), file


def test_whatever_is_mounted_is_there() -> None:
    """Files and folders that services see stand in the checkout, and each volume is declared and used."""
    missing = [path for service in SERVICES.values() for path in service.mounted() if not path.exists()]
    assert not missing
    assert set().union(*(service.volumes() for service in SERVICES.values())) == volumes()


def test_what_lasts_has_a_volume() -> None:
    """Broker, Flink, archive and databases keep theirs in volumes; what others write to is memory that ends with them."""
    keeping = ("broker", "job-manager", "task-manager", "archive", "proof", "postgres", "clickhouse", "prometheus", "grafana")
    assert all(SERVICES[name].plain["volumes"] for name in keeping)
    native = ["/tmp:mode=1777,size=512m,exec"]  # noqa: S108  # a container's own
    assert [SERVICES[name].plain["tmpfs"] for name in ("job-manager", "task-manager")] == [native, native]
    assert all(service.plain["tmpfs"] for service in SERVICES.values() if service.plain.get("read_only") and service.name != "prometheus")


def test_volumes_are_copied_by_who_may_read_them() -> None:
    """docs/compose.md copies volumes that there are: the archive, which is ours, as our user; all others as root, with their owners."""
    copies = re.findall(r"docker run --rm (--user 0 )?.*klinestream_([a-z-]+):.* cp (-\w+) ", (ROOT / "docs" / "compose.md").read_text())
    assert {volume for _, volume, _ in copies} >= {"archive", "postgres-data"}
    assert {volume for _, volume, _ in copies} <= volumes()
    assert all((bool(root), how) == ((False, "-ru") if volume == "archive" else (True, "-a")) for root, volume, how in copies)


def test_no_secret_stands_in_them() -> None:
    """No line gives a password or a token a value: where one is needed it comes from the environment, and its absence is told."""
    given = [name for service in SERVICES.values() for name, value in service.environment.items() if value is not None]
    assert not [name for name in given if SECRET.search(name)]
    for file in REQUIRED.iterdir():
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(r"[A-Z_]+=\$\{[A-Z_]+:\?[^{}]+\}", line) for line in lines), file


def test_what_needs_a_secret_asks_for_it() -> None:
    """Foreign services that come with a default password, or without any, read a file that insists on one."""
    asking = {service.name: Path(service.plain["env_file"][0]).stem for service in FOREIGN if "env_file" in service.plain}
    assert asking == {"postgres": "postgres", "clickhouse": "clickhouse", "grafana": "grafana", "pgadmin": "pgadmin"}


@pytest.mark.parametrize("service", SERVICES.values(), ids=lambda service: service.name)
def test_its_image_is_pinned(service: Service) -> None:
    """Ours by the version of the code, others by all numbers of theirs, and a digest once a release was made."""
    image = service.plain["image"]
    if service.ours:
        assert image in {f"klinestream:{__version__}", f"klinestream-ml:{__version__}"}
    else:
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)*(-[a-z0-9.]+)?(@sha256:[0-9a-f]{64})?", image)


def test_each_image_of_ours_is_built_for_one_service() -> None:
    """Builds of one image side by side would race for its name; all others take what is there, and ask no registry for it."""
    built = {service.name: service for service in OURS if "build" in service.plain}
    images = {name: service.plain["image"].partition(":")[0] for name, service in built.items()}
    assert images == {"topics": "klinestream", "workflow": "klinestream-ml"}
    assert not built["topics"].profiles
    for name, service in built.items():
        build = service.plain["build"]
        assert build["target"] == images[name].removeprefix("klinestream-")
        assert (service.folder / build["context"] / build["dockerfile"]).samefile(ROOT / "deploy" / "Dockerfile")
    assert {service.plain["pull_policy"] for service in OURS} == {"never"}
    assert not [service.name for service in FOREIGN if service.plain.keys() & {"build", "pull_policy"}]


def test_broker_and_databases_are_those_that_tests_run() -> None:
    """The images have the versions of what tests and `klinestream up` start: Kafka's jars, PostgreSQL's programs, ClickHouse's engine."""
    images = {name: SERVICES[name].plain["image"].partition("@")[0] for name in ("broker", "postgres", "clickhouse")}
    locked = tomllib.loads((ROOT / "jgo.lock.toml").read_text())["dependencies"]
    kafka = next(jar["version"] for jar in locked if jar["artifactId"] == "kafka_2.13")
    postgres = subprocess.run([database.programs() / "postgres", "--version"], capture_output=True, text=True, check=True).stdout.split()[
        -1
    ]
    clickhouse = ".".join(version("chdb-core").split(".")[:2])
    assert images["broker"] == f"apache/kafka:{kafka}"
    assert images["postgres"].startswith(f"postgres:{postgres}-")
    assert images["clickhouse"].startswith(f"clickhouse/clickhouse-server:{clickhouse}.")
