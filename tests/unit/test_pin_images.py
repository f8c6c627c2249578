"""scripts/pin_images.py writes the digests that a registry gives, over the registry's own protocol, spoken by a small one on localhost."""

import doctest
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts import pin_images
from tests.compose import files

ROOT = Path(__file__).parents[2]
INDEX = "application/vnd.oci.image.index.v1+json"


class Registry(http.server.ThreadingHTTPServer):
    """Has `tools/kafka-ui` and `python`, each with one tag; readers need a token for just that repository, as on Docker Hub."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.host = f"127.0.0.1:{self.server_port}"
        self.manifests = {"python/manifests/3.11.15": b'{"manifests": [1]}', "tools/kafka-ui/manifests/v1.5.0": b'{"manifests": [2]}'}
        self.lies = False
        self.asked: list[str] = []

    def digest(self, path: str) -> str:
        return "sha256:" + hashlib.sha256(self.manifests[path]).hexdigest()


class Answers(http.server.BaseHTTPRequestHandler):
    """Refuses whoever has no token, and says where one is to be had."""

    server: Registry

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append(url.path)
        if url.path == "/token":
            scope = parse_qs(url.query)["scope"][0]
            assert parse_qs(url.query)["service"] == ["registry.test"]
            return self.say(200, json.dumps({"token": f"for {scope}"}).encode())
        name = url.path.removeprefix("/v2/")
        scope = f"repository:{name.partition('/manifests/')[0]}:pull"
        if self.headers.get("Authorization") != f"Bearer for {scope}":
            challenge = f'Bearer realm="http://{self.server.host}/token",service="registry.test",scope="{scope}"'
            return self.say(401, b"{}", {"WWW-Authenticate": challenge})
        if name not in self.server.manifests or INDEX not in self.headers["Accept"]:
            return self.say(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        told = "sha256:" + "0" * 64 if self.server.lies else self.server.digest(name)
        return self.say(200, self.server.manifests[name], {"Content-Type": INDEX, "Docker-Content-Digest": told})

    def say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def written(registry: Registry, tmp_path: Path) -> tuple[Path, Path]:
    """A Dockerfile and a Compose file that name the registry's images."""
    dockerfile, compose = tmp_path / "Dockerfile", tmp_path / "docker-compose.yml"
    dockerfile.write_text(
        f"# FROM comes twice\nFROM {registry.host}/python:3.11.15 AS build\nRUN true\n\nFROM build AS other\n"
        f"FROM {registry.host}/python:3.11.15\nCOPY --from=build /a /a\n"
    )
    compose.write_text(
        "services:\n  ours:\n    image: klinestream:0.1.0  # built\n  larger:\n    image: klinestream-ml:0.1.0\n"
        f"  page:\n    image: {registry.host}/tools/kafka-ui:v1.5.0\n    ports: [127.0.0.1:8088:8080]\n"
    )
    return dockerfile, compose


def pin(*arguments: str | Path) -> int:
    return pin_images.main([str(argument) for argument in arguments])


def test_digests_come_behind_tags_and_nothing_else_changes(registry: Registry, written: tuple[Path, Path]) -> None:
    """Every foreign image gets the digest of its tag; comments, our own images and stages stay; a second run changes nothing."""
    before = [file.read_text() for file in written]
    assert pin(*written) == 0
    python, page = registry.digest("python/manifests/3.11.15"), registry.digest("tools/kafka-ui/manifests/v1.5.0")
    after = [file.read_text() for file in written]
    assert [after[0].count(f"/python:3.11.15@{python}"), after[1].count(f"/kafka-ui:v1.5.0@{page}")] == [2, 1]
    assert [text.replace(f"@{python}", "").replace(f"@{page}", "") for text in after] == before
    assert pin(*written) == 0
    assert [file.read_text() for file in written] == after


def test_a_tag_that_moved_on_is_noticed_and_followed(
    registry: Registry, written: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """--check writes nothing, and fails while a digest is missing or old."""
    assert pin("--check", *written) == 1
    assert "@sha256" not in written[0].read_text()
    pin(*written)
    assert pin("--check", *written) == 0
    capsys.readouterr()
    old = registry.digest("python/manifests/3.11.15")
    registry.manifests["python/manifests/3.11.15"] = b'{"manifests": [3]}'
    assert (pin("--check", *written), pin(*written)) == (1, 0)
    assert capsys.readouterr().out == f"{written[0]}: differs\n{written[0]}: pinned\n"
    assert old not in written[0].read_text()
    assert pin("--check", *written) == 0


def test_what_cannot_be_had_leaves_all_files_as_they_are(registry: Registry, written: tuple[Path, Path]) -> None:
    """A tag that isn't there, or a manifest that isn't what its header says, is an error that names it, and nothing is written."""
    before = [file.read_text() for file in written]
    del registry.manifests["tools/kafka-ui/manifests/v1.5.0"]
    with pytest.raises(pin_images.PinningError, match=r"kafka-ui/manifests/v1\.5\.0, got: .*404"):
        pin(*written)
    registry.lies = True
    with pytest.raises(pin_images.PinningError, match="what its header says"):
        pin(written[0])
    assert [file.read_text() for file in written] == before


def test_it_finds_every_image_that_this_repository_names() -> None:
    """Each image of the Dockerfile and of Compose's files is one that the script would pin, or ours; and its examples are right."""
    assert doctest.testmod(pin_images) == (0, 2)
    for file in (ROOT / "deploy" / "Dockerfile", *files()):
        text = file.read_text()
        named = [found["image"] for found in pin_images.NAMED.finditer(text)]
        lines = [line for line in text.splitlines() if line.startswith("FROM python") or line.lstrip().startswith("image:")]
        assert len(named) == len(lines), file
        assert all(pin_images.OURS.match(image) or pin_images.Image.of(image).registry.startswith("https://") for image in named)
