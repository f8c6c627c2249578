"""deploy/Dockerfile is sound as far as can be told without an engine: lint, sources, locks, and its check run for real."""

import fnmatch
import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from klinestream import __version__
from klinestream.stack import commands, jars
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "image"
FILE = ROOT / "deploy" / "Dockerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the file and what follows it, on one line."""
    lines = "\n".join(line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    whole = [re.sub(r"\s+", " ", line).strip() for line in lines.replace("\\\n", " ").splitlines()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in whole) if word]


def copied() -> list[str]:
    """What comes from the checkout into any stage."""
    words = [shlex.split(rest) for word, rest in instructions() if word == "COPY" and "--from=" not in rest]
    return [source for found in words for source in [word for word in found if not word.startswith("--")][:-1]]


def sent() -> list[str]:
    """What .dockerignore lets through, as patterns of files of the checkout."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


def in_checkout() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return listed.stdout.splitlines()


def test_hadolint_has_nothing_to_say() -> None:
    """The file follows the rules of hadolint, all of them."""
    found = subprocess.run([HADOLINT, "--failure-threshold", "style", FILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_whatever_is_copied_is_there_and_is_sent() -> None:
    """Each source of a COPY is in the checkout, and .dockerignore lets it through; and it lets through nothing else."""
    kept = in_checkout()
    for source in copied():
        assert any(file == source or file.startswith(f"{source}/") for file in kept), source
        assert any(fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in sent()), source
    for pattern in sent():
        assert any(fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/") for source in copied()), pattern


def test_the_wheel_is_made_from_all_that_it_needs() -> None:
    """What pyproject.toml puts into the wheel is copied to where it is made."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"], *project["project"]["license-files"]}
    assert not [path for path in needed if not any(path == source or path.startswith(f"{source}/") for source in copied())]


def test_everything_is_pinned() -> None:
    """Base images by all numbers and a Debian release, packages of Python by hash, of Debian by version."""
    text = FILE.read_text()
    bases = {rest.split()[0] for word, rest in instructions() if word == "FROM"} - {rest.split()[-1] for _, rest in instructions()}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases.pop())
    for command in re.findall(r"pip (?:sync|install) [^&\n]+", text.replace("\\\n", " ")):
        assert "--require-hashes" in command or "--no-index" in command, command
    for lock in re.findall(r"\S+\.lock\b", " ".join(rest for word, rest in instructions() if word == "RUN")):
        assert (ROOT / lock).exists()


def test_what_changes_often_comes_late() -> None:
    """Packages are installed before our code is copied, and labels, which tell the commit, come after all that is slow."""
    stages = " ".join(f"\n{word} {rest}" if word == "FROM" else f"{word} {rest}" for word, rest in instructions()).splitlines()
    packages = next(stage for stage in stages if stage.startswith("FROM tools AS packages"))
    assert not re.search(r"COPY (klinestream|pyproject\.toml)|--from", packages)
    base = next(stage for stage in stages if " AS base" in stage)
    assert base.rindex("RUN ") < base.index("ARG VERSION") < base.index("LABEL ")


def test_it_carries_the_version_and_says_what_it_is() -> None:
    """The labels of the Open Container Initiative are there, with this version and the base that it is made from."""
    said = dict(re.findall(r'org\.opencontainers\.image\.([a-z.]+)="([^"]*)"', FILE.read_text()))
    assert said.keys() >= {"title", "description", "licenses", "version", "revision", "base.name"}
    assert ("ARG", f"VERSION={__version__}") in instructions()
    assert ("FROM", f"{said['base.name'].removeprefix('docker.io/library/')} AS base") in [
        (word, re.sub(r"@sha256:[0-9a-f]{64}", "", rest)) for word, rest in instructions()
    ]


def test_what_runs_is_nobody_special() -> None:
    """Both images end as a user by number, which Kubernetes can tell from root, and hold nothing that was only for building."""
    words = [word for word, _ in instructions()]
    assert re.search(r"groupadd --gid 10001 .*useradd .*--uid 10001 --gid 10001 ", " ".join(rest for _, rest in instructions()))
    assert [rest for word, rest in instructions() if word == "USER"] == ["10001:10001"]
    assert words.index("USER") < len(words) - 1 - words[::-1].index("FROM")
    final = FILE.read_text().partition(" AS base")[2]
    assert "pip uninstall" in final
    assert not re.search(r"gcc|make\b|build-essential|git\b", final.replace("scripts/", ""))


def test_its_variables_are_known() -> None:
    """Variables of klinestream name keys that exist."""
    known = {f"KLINESTREAM_{s}__{k}".upper() for s, table in commands.Config() for k in type(table).model_fields}
    used = set(re.findall(r"\bKLINESTREAM_[A-Z_]+\b", FILE.read_text()))
    assert used == {"KLINESTREAM_STACK__STATE_DIR"}
    assert used <= known


def test_what_arranges_it_names_files_that_are_there() -> None:
    """Files that arrange.sh reads are copied beside it, and both scripts are sound to their shells."""
    beside = {Path(source).name for source in copied()}
    text = (FOLDER / "arrange.sh").read_text()
    named = set(re.findall(r"[\w-]+\.(?:properties|lock\.toml)", text))
    assert named == {"log4j-console.properties", "flink-plugins.lock.toml"}
    assert named <= beside
    for script, shell in (("arrange.sh", "bash"), ("docker-entrypoint.sh", "sh")):
        subprocess.run([shell, "-n", FOLDER / script], check=True)


def test_what_flink_is_given_beside_fits_it() -> None:
    """The plugins of the image are locked by hash, and are of Flink's own release line."""
    plugins = jars.locked(FOLDER / "flink-plugins.lock.toml")
    line = version("apache-flink").rsplit(".", 1)[0]
    assert plugins
    assert all(len(jar.sha256) == 64 and jar.version.rsplit(".", 1)[0] == line for jar in plugins)


def test_the_log_in_a_container_leaves_out_what_the_log_leaves_out() -> None:
    """Both configurations of Flink's log quieten the same loggers; the image's also writes to the console."""
    ours, image = ((folder / "log4j-console.properties").read_text() for folder in (ROOT / "flink-conf", FOLDER))
    assert re.findall(r"^logger\..*", image, re.MULTILINE) == re.findall(r"^logger\..*", ours, re.MULTILINE)
    assert "rootLogger.appenderRef.console.ref = Console" in image


def test_the_larger_image_adds_what_the_extra_names() -> None:
    """requirements-image-ml.lock has the packages of `ml`, in the versions that are tested, and no tools."""

    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([\w.\[\]-]+==[^\s\\]+)", (ROOT / name).read_text(), re.MULTILINE))

    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ml"]
    image = pins("requirements-image-ml.lock")
    assert {re.split(r"[>=<]", wanted)[0] for wanted in extra} <= {pin.partition("==")[0] for pin in image}
    assert image - {pin for pin in image if pin.startswith("colorama")} <= pins("requirements-ml.lock")
    assert not {"pytest", "ruff", "mypy", "pip", "uv"} & {pin.partition("==")[0] for pin in image}


class Answers(http.server.BaseHTTPRequestHandler):
    """Well at /healthz, unwell elsewhere, and a Flink cluster with one job."""

    def do_GET(self) -> None:
        jobs = {"jobs": [{"name": "klinestream windows", "state": "RUNNING"}, {"name": "klinestream candles", "state": "FAILED"}]}
        self.send_response(200 if self.path in {"/healthz", "/jobs/overview"} else 503)
        self.end_headers()
        self.wfile.write(json.dumps(jobs).encode())

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def address() -> Iterator[str]:
    """Of something that answers as parts and as a cluster do."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def checked(**environment: str) -> tuple[int, str]:
    """Exit code and complaint of the image's check."""
    found = subprocess.run([sys.executable, "-I", FOLDER / "healthy.py"], env=environment, capture_output=True, text=True, check=False)
    return found.returncode, found.stderr


def test_the_check_says_whether_a_part_is_well(address: str) -> None:
    """Well is what answers with 200, and what isn't asked; what answers otherwise or not at all isn't, and the check says why."""
    assert checked(HEALTH_URL=f"{address}/healthz") == (0, "")
    assert checked() == (0, "")
    code, said = checked(HEALTH_URL=f"{address}/readyz")
    assert (code, "503" in said) == (1, True)
    code, said = checked(HEALTH_URL=f"http://127.0.0.1:{free_ports(1)[0]}/healthz")
    assert (code, "refused" in said) == (1, True)


def test_the_check_says_whether_a_job_runs(address: str) -> None:
    """A job is well while the cluster has it in state RUNNING; one that failed, or isn't there, is told with those that run."""
    assert checked(HEALTH_URL=address, HEALTH_JOB="klinestream windows") == (0, "")
    for job in ("klinestream candles", "klinestream trade_windows"):
        code, said = checked(HEALTH_URL=address, HEALTH_JOB=job)
        assert (code, f"expected the job '{job}' to run" in said, "these do: klinestream windows" in said) == (1, True, True)
