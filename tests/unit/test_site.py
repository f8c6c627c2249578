"""The docs as a site: every page has its place, every link and anchor leads somewhere, and nothing comes from elsewhere."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from mkdocs.utils.yaml import get_yaml_loader

from scripts.site import ROOT, ROOT_PAGES, linked

# What a browser fetches by itself; <a> is followed by a person.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
LINK = re.compile(r"\]\(([a-z]+://[^)\s]+)\)")
WELL_FORMED = re.compile(r"(https://[\w-]+(\.[\w-]+)+|http://(localhost|127\.0\.0\.1)(:\d+)?)(/[\w./~%+-]*)?(\?[\w=&%.,-]*)?(#[\w-]+)?")


def navigation(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        for inner in entries.values():
            yield from navigation(inner)
    elif isinstance(entries, list):
        for inner in entries:
            yield from navigation(inner)


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """What a page makes a browser load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name == LOADED.get(tag) and value]


def test_every_page_is_in_the_navigation_once() -> None:
    """mkdocs.yml's nav names each page below docs/ and each at the root, and none that isn't there."""
    nav = list(navigation(yaml.load((ROOT / "mkdocs.yml").read_text(), get_yaml_loader())["nav"]))  # noqa: S506  # our own file
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(nav) == sorted([*pages, *ROOT_PAGES.values()])


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    """The strict build passes; the root's pages are in it, and the files that they link to."""
    assert {"index.html", "SECURITY.html", "CONTRIBUTING.html", "CHANGELOG.html", "asyncapi.yaml", "LICENSE"} <= {
        file.name for file in site.iterdir()
    }


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are all the site's own."""
    pages = {str(page.relative_to(site)): page.read_text() for page in site.rglob("*.html")}
    assert len(pages) > 20
    foreign = {}
    for name, text in pages.items():
        parser = Loads()
        parser.feed(text)
        assert parser.found
        foreign[name] = [address for address in parser.found if re.match(r"[a-z]*:?//", address)]
    assert {name: found for name, found in foreign.items() if found} == {}
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.findall(r"url\((?!data:)['\"]?[a-z]*:?//[^)]*\)|@import", styles)


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """Each kind of broken link is a warning, which ends the strict build; so the test above could fail."""
    for name in ("mkdocs.yml", "scripts", "LICENSE", "docker-compose.yml", *ROOT_PAGES):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").mkdir()
    broken = ("nothing.md", "chart.md#nothing", "#nowhere", "../nothing.txt", "../SECURITY.md#nothing")
    (tmp_path / "docs" / "chart.md").write_text("\n".join(["# The chart", *(f"[a]({target})" for target in broken)]))
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert [target for target in broken if f"'chart.md' contains a link '{target.removeprefix('../')}'" not in done.stderr] == []


def test_addresses_of_elsewhere_are_well_formed() -> None:
    """Links to other sites are whole https addresses; nobody is asked for them here."""
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / page for page in ROOT_PAGES)]
    found = [(page.name, address) for page in pages for address in LINK.findall(page.read_text())]
    assert found
    assert [(page, address) for page, address in found if not WELL_FORMED.fullmatch(address)] == []


@pytest.mark.parametrize(
    ("place", "link", "there"),
    [
        ("index.md", "[a](docs/chart.md#keys)", "[a](chart.md#keys)"),
        ("index.md", "![a](docs/images/chart.png)", "![a](images/chart.png)"),
        ("index.md", "[a](CHANGELOG.md)", "[a](CHANGELOG.md)"),
        ("chart.md", "[a](../README.md#try-it)", "[a](index.md#try-it)"),
        ("essays/fan-out.md", "[a](../../SECURITY.md)", "[a](../SECURITY.md)"),
        ("essays/fan-out.md", "[a](../benchmarks.md#serving)", "[a](../benchmarks.md#serving)"),
        ("chart.md", "[a](../docker-compose.yml)", "[a](docker-compose.yml)"),
        ("chart.md", "[the folder](../deploy/)", "the folder"),
        ("chart.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("chart.md", "[a](#keys)", "[a](#keys)"),
    ],
)
def test_links_are_moved_with_their_pages(place: str, link: str, there: str) -> None:
    """A link means in the site what it means in the checkout."""
    assert linked(link, place) == there
