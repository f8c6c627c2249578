"""The wheel holds all that klinestream needs, and nothing else, and works outside of the checkout; `make soak` runs the demo from it."""

import os
import subprocess
import sys
import tarfile
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from klinestream import __version__
from scripts.release import ROOT, building, trial
from scripts.release.building import Built

PACKAGES = ("klinestream", "producer", "jobs", "server")
# Folder or file of the checkout → its place in the wheel.
MOVED = {"static": "server/static", "flink-conf": "klinestream/stack/flink-conf", "jgo.lock.toml": "klinestream/stack/jgo.lock.toml"}
INFO = f"klinestream-{__version__}.dist-info"
# Run where the wheel was put, with nothing of the checkout on the path: everything that is read beside the code.
READ_ALL = """
import sys
from pathlib import Path
import jobs.dataflow, klinestream, producer, server.pages
from klinestream.runtime import config
from klinestream.stack import broker, jars
from klinestream.stack.layout import shipped

place = Path(sys.argv[1])
for module in (klinestream, producer, jobs.dataflow, server.pages):
    assert Path(module.__file__).is_relative_to(place), module.__file__
assert config.load(None).server.port == 8084
assert len(jars.locked()) > 40
assert (server.pages.static_folder() / "chart.html").is_relative_to(place)
assert (server.pages.static_folder() / "js" / "main.js").is_file()
assert (shipped("flink-conf") / "config.yaml").is_relative_to(place)
assert Path(broker.__file__).with_name("broker-log4j2.properties").is_file()
assert list(jobs.dataflow.SQL.glob("*.sql"))
print("all there")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Wheel and sdist of the checkout as it is."""
    return building.twice(tmp_path_factory.mktemp("dist"), epoch=1_700_000_000)


@pytest.fixture(scope="module")
def place(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, put into a folder by pip; what it depends on is that of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(built.wheel)]
    subprocess.run(install, check=True)
    return folder


def outside(place: Path, folder: Path, *command: str) -> str:
    """What a command says that runs in an empty folder, with the installed wheel on its path."""
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_the_wheel(built: Built) -> None:
    """Whatever lies below the packages, and the folders that join them, is there: code, SQL, pages, configuration, data of any kind."""
    files = [file for name in (*PACKAGES, *MOVED) for file in [ROOT / name, *(ROOT / name).rglob("*")] if file.is_file()]
    wanted = {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}
    for source, target in MOVED.items():
        wanted = {f"{target}{path.removeprefix(source)}" if path.split("/")[0] == source else path for path in wanted}
    assert {path for path in wanted if not path.endswith(".py")}
    assert wanted - building.contents(built.wheel) == set()


def test_nothing_else_is_in_it(built: Built) -> None:
    """No tests, benchmarks or scripts; the licence is there."""
    contents = building.contents(built.wheel)
    assert {path.split("/")[0] for path in contents} == {*PACKAGES, INFO}
    assert not [path for path in contents if "test" in path.lower().split("/") or path.endswith((".pyc", ".jar"))]
    assert f"{INFO}/licenses/LICENSE" in contents


def test_its_metadata_is_the_projects(built: Built) -> None:
    """Version, licence, Pythons and extras; no address that nobody gave; what each extra says it brings."""
    with ZipFile(built.wheel) as wheel:
        metadata = Parser().parsestr(wheel.read(f"{INFO}/METADATA").decode())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == "<3.13,>=3.11"
    assert metadata.get_all("Project-URL") is None
    assert metadata["Home-page"] is None
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    for extra, lines in project["optional-dependencies"].items():
        brought = {found.name for found in requirements if found.marker and found.marker.evaluate({"extra": extra})}
        assert brought == {Requirement(line).name for line in lines}


def test_the_sdist_builds_the_same_wheel(built: Built, tmp_path: Path) -> None:
    """What is in the sdist is enough, and gives the wheel bit by bit."""
    with tarfile.open(built.sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    (tmp_path / "dist").mkdir()
    again = building.build(tmp_path / "dist", tmp_path / f"klinestream-{__version__}", epoch=1_700_000_000)
    assert building.sha256(again.wheel) == building.sha256(built.wheel)


def test_what_is_installed_finds_its_files(place: Path, tmp_path: Path) -> None:
    """In an empty folder, without the checkout: pages, SQL, Flink's and the broker's configuration, the jars' lock."""
    assert outside(place, tmp_path, sys.executable, "-c", READ_ALL, str(place)) == "all there\n"


def test_the_installed_command_runs(place: Path, tmp_path: Path) -> None:
    """`klinestream --help` in an empty folder lists the commands; nothing is written there."""
    program = place / "bin" / "klinestream"
    assert {"up", "doctor", "producer", "server"} <= set(outside(place, tmp_path, str(program), "--help").replace("│", " ").split())
    assert outside(place, tmp_path, str(program), "--version") == f"klinestream {__version__}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_demo_runs_from_it_alone(built: Built, kind: str) -> None:
    """In an environment, home and folder that are empty, without Java: doctor, the whole stack, the chart with data, and nothing left."""
    trial.trial(getattr(built, kind))
