"""A hook of mkdocs: the pages at the checkout's root join the site, and links out of docs/ lead somewhere.

docs/release.md ─── ](../SECURITY.md) ──────────► the page, which stands beside it in the site
README.md ───────── ](docs/chart.md#keys) ──────► the page
any of them ─────── ](../docker-compose.yml) ───► the file, taken in as it is
                    ](../deploy/) ──────────────► its text alone: a folder has no page
"""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES: Mapping[str, str] = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
}
"""Page at the root of the checkout → its place in the site."""

_DOCS = "docs/"
# [text](target#anchor) or ![text](target); what has a scheme, or is an anchor of the same page, is left alone.
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>(?![a-z]+:)[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
# ```json answer of /api/v1/status: what stands behind the language is the block's title.
_TITLE = re.compile(r'^(?P<fence>```\w+) (?P<title>[^"{}\n]+)$', re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the root's pages, and every file of the checkout that some page links to."""
    for page, place in ROOT_PAGES.items():
        files.append(File.generated(config, place, content=(ROOT / page).read_text()))
    texts = {origin(file.src_uri): file.content_string for file in files.documentation_pages()}
    wanted = {target for page, text in texts.items() for match in _LINK.finditer(text) if (target := _target(page, match))}
    for target in sorted(wanted):
        if not target.startswith(_DOCS) and target not in ROOT_PAGES and (ROOT / target).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links and titles of code as the site has them."""
    del config, files
    return _TITLE.sub(r'\g<fence> title="\g<title>"', linked(markdown, page.file.src_uri))


def linked(markdown: str, place: str) -> str:
    """The text of the page at `place`, with its links as the site has them; those within docs/ stay as they are."""
    page = origin(place)

    def moved(match: re.Match[str]) -> str:
        target = _target(page, match)
        if page.startswith(_DOCS) and target.startswith(_DOCS):
            return match[0]
        if (ROOT / target).is_dir():
            return match["text"][1:-1]
        there = ROOT_PAGES.get(target, target.removeprefix(_DOCS))
        return f"{match['text']}({posixpath.relpath(there, posixpath.dirname(place) or '.')}{match['anchor'] or ''})"

    return _LINK.sub(moved, markdown)


def origin(place: str) -> str:
    """Where the page of the site stands in the checkout."""
    roots = {there: page for page, there in ROOT_PAGES.items()}
    return roots.get(place, f"{_DOCS}{place}")


def _target(page: str, match: re.Match[str]) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), match["target"]))
