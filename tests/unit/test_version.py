"""The version stands in one place, klinestream/__init__.py, and everything that names one names that."""

import re
import tomllib
from pathlib import Path

import yaml
from typer.testing import CliRunner

from klinestream import __version__
from klinestream.cli.main import app
from klinestream.ingest.app import create_app as create_ingest
from klinestream.runtime.ingest_section import IngestConfig
from klinestream.runtime.kafka import Publisher, Reader
from klinestream.runtime.server_sections import ServerConfig
from server.app import create_app as create_server
from server.stream.messages import VERSION

ROOT = Path(__file__).parents[2]
# `klinestream:0.1.0`, `klinestream-producer:0.1.0`, and what stands for the tag where a variable may name another one.
IMAGE = re.compile(r"\bklinestream(?:-[a-z]+)*:(?:\$\{[A-Z_]+:-)?v?(\d+\.\d+[\w.+-]*)")
ARGUMENT = re.compile(r"\b(?:KLINESTREAM_VERSION|KLINESTREAM_TAG|ARG VERSION)\b[=:\" -]+v?(\d+\.\d+[\w.+-]*)")
TEXTS = ("*.yml", "*.yaml", "*.tpl", "*.json", "*.sh", "Dockerfile*")


def no_kafka(*_: object) -> Reader:
    raise NotImplementedError


def no_publisher(*_: object) -> Publisher:
    raise NotImplementedError


def test_the_package_takes_it_from_the_code() -> None:
    """pyproject.toml states no version of its own, but where it is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"] == {"path": "klinestream/__init__.py"}
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", __version__)


def test_the_command_says_it() -> None:
    """`klinestream --version` prints it."""
    assert CliRunner().invoke(app, ["--version"]).output == f"klinestream {__version__}\n"


def test_both_rest_interfaces_say_it() -> None:
    """/api/openapi.json of server and ingestion has it; docs/asyncapi.yaml has that of the websocket's protocol, which counts by itself."""
    server = create_server(ServerConfig(), no_kafka, lambda: 0)
    ingest = create_ingest(IngestConfig(), no_publisher, no_kafka, "described")
    assert [found.openapi()["info"]["version"] for found in (server, ingest)] == [__version__, __version__]
    assert yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())["info"]["version"] == str(VERSION)


def test_every_image_has_it_as_its_tag() -> None:
    """Wherever docker-compose.yml and deploy/ name an image of klinestream, its tag is the version."""
    files = [ROOT / "docker-compose.yml", *(file for kind in TEXTS for file in (ROOT / "deploy").rglob(kind))]
    named = {file.relative_to(ROOT): IMAGE.findall(text) + ARGUMENT.findall(text) for file in files for text in [file.read_text()]}
    assert named[Path("docker-compose.yml")]
    assert {str(file): tags for file, tags in named.items() if set(tags) - {__version__}} == {}


def test_every_chart_has_it() -> None:
    """A Helm chart's appVersion is the version; the chart's own too, since both are released together."""
    charts = {file: yaml.safe_load(file.read_text()) for file in (ROOT / "deploy").rglob("Chart.yaml")}
    assert {str(file): (chart["version"], chart["appVersion"]) for file, chart in charts.items()} == {
        str(file): (__version__, __version__) for file in charts
    }
