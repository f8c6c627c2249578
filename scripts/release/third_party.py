"""THIRD_PARTY.md: every package and jar that klinestream is locked to, by what it is there for, with its licence."""

from collections.abc import Callable, Iterable, Sequence

from klinestream import __version__
from scripts.release import locks
from scripts.release.bill import Needs
from scripts.release.licences import Licensed, Rules

_HEAD = """# What klinestream {version} stands on

klinestream is under the Apache License 2.0. Its own wheel carries nothing of others; `pip install` fetches the packages, and
`klinestream up` the jars, each with its own licence text. Images carry them with those texts. Versions are those that this release was
tested with.
"""


def page(packages: Sequence[Licensed], jars: Sequence[Licensed], in_images: Sequence[Licensed], needs: Needs, rules: Rules) -> str:
    """The page. `packages` are all that are locked, `needs` says which of them run; jars `in_images` stand there alone."""
    run = locks.names(locks.RUN)
    dev = locks.names(locks.DEV)
    extra = "Packages of the extra `ml`, and what they bring"
    parts: list[tuple[str, Callable[[str], bool]]] = [
        ("Packages that run", lambda name: name in needs.required),
        ("Packages of the extra `postgres`", lambda name: name in needs.optional),
        (extra, lambda name: name not in dev),
        ("What installs them", lambda name: name in run - needs.required - needs.optional),
        ("What klinestream is built, tested and checked with", lambda name: name in dev - run),
    ]
    sections = [_section(title, [entry for entry in packages if wanted(entry.name)], rules) for title, wanted in parts]
    java = [_section("Jars that run", jars, rules), *([_section("Jars of images", in_images, rules)] if in_images else [])]
    return "\n".join([_HEAD.format(version=__version__), sections[0], *java, *sections[1:]])


def _section(title: str, entries: Iterable[Licensed], rules: Rules) -> str:
    lines = [f"| {entry.name} | {entry.version} | {entry.licence}{_note(entry, rules)} |" for entry in sorted(set(entries), key=_order)]
    return "\n".join([f"## {title}", "", "| name | version | licence |", "|---|---|---|", *lines, ""])


def _note(entry: Licensed, rules: Rules) -> str:
    exempt = rules.exceptions.get(entry.name)
    return f": {exempt.reason}" if exempt is not None else ""


def _order(entry: Licensed) -> tuple[str, str]:
    return entry.name, entry.version
