"""Make a release into dist/: `make release`, or `python -m scripts.release`.

dist/
├── klinestream-….whl, klinestream-….tar.gz
├── klinestream-….cdx.json    what it is made of, as CycloneDX
├── constraints.txt           the locked versions, for pip
├── THIRD_PARTY.md            the licence of each
└── SHA256SUMS                of all of these
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from klinestream import __version__
from klinestream.stack.jars import locked as locked_jars
from scripts.release import ROOT, ReleaseError, bill, building, licences, locks, third_party, trial

_DIST = ROOT / "dist"


def main() -> None:
    """Make everything, or say what is in the way and make nothing."""
    parser = argparse.ArgumentParser(prog="make release", description="Build and check a release into dist/.")
    parser.add_argument("--dirty", action="store_true", help="release what isn't committed: to try it")
    parser.add_argument("--no-trial", action="store_true", help="leave out the demo from the wheel, which takes some minutes")
    chosen = parser.parse_args()
    try:
        release(dirty=chosen.dirty, tried=not chosen.no_trial)
    except ReleaseError as error:
        sys.exit(str(error))


def release(*, dirty: bool, tried: bool) -> None:
    """Do all steps; dist/ is replaced only when they are done. Raises ReleaseError."""
    commit_s = committed(dirty=dirty)
    with tempfile.TemporaryDirectory(prefix="klinestream-release-") as scratch:
        made = Path(scratch)
        built = building.twice(made, commit_s)
        tell(f"{built.wheel.name} and {built.sdist.name}, built twice, are the same each time")
        write_papers(made, commit_s)
        write_sums(made)
        if tried:
            tell("trying the wheel in an empty environment; this takes some minutes")
            tell(f"the demo runs from it: the chart had data after {trial.trial(built.wheel):.0f} s")
        put_in_place(made)
    for file in sorted(_DIST.iterdir()):
        tell(f"{file.stat().st_size:>10,}  {file.relative_to(ROOT)}")
    if f"## {__version__}" not in (ROOT / "CHANGELOG.md").read_text():
        tell(f"note: CHANGELOG.md has no heading `## {__version__}` yet")


def committed(*, dirty: bool) -> int:
    """The time in seconds of the commit that is released. Raises ReleaseError if it isn't all, or its tag says another version."""
    if not dirty and (changed := _git("status", "--porcelain")):
        raise ReleaseError(f"expected everything to be committed, but there is:\n{changed}\ncommit it, or try it with --dirty")
    tags = [tag for tag in _git("tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    if tags and f"v{__version__}" not in tags:
        raise ReleaseError(
            f"expected the tag v{__version__}, since klinestream/__init__.py says so, got {', '.join(tags)}: mend one of them"
        )
    return int(os.environ.get(building.EPOCH) or _git("log", "-1", "--format=%ct"))


def write_papers(made: Path, commit_s: int) -> None:
    """Bill of materials, licences and constraints into the folder. Raises ReleaseError for what must not be released."""
    rules, said = licences.Rules.read(), licences.metadata()
    jars = locked_jars()
    everything = licences.packages(locks.locked(locks.ML), said, rules)
    licensed_jars = dict(zip(licences.jars(jars, rules), jars, strict=True))
    in_images = licences.jars(licences.jars_of_images(), rules)
    if wrong := list(licences.faults((*everything, *licensed_jars, *in_images), rules)):
        raise ReleaseError("\n".join(wrong))
    tell(f"licences of {len({*everything, *licensed_jars, *in_images})} packages and jars are allowed")
    running = licences.packages(locks.locked(locks.RUN), said, rules)
    needs = bill.needs(package.name for package in running)
    text = bill.bill(running, licensed_jars, needs, datetime.fromtimestamp(commit_s, UTC))
    (made / f"klinestream-{__version__}.cdx.json").write_text(text)
    tell(f"the bill of materials names {len(running)} packages and {len(jars)} jars, and is valid by CycloneDX's schema")
    (made / "THIRD_PARTY.md").write_text(third_party.page(everything, tuple(licensed_jars), in_images, needs, rules))
    (made / "constraints.txt").write_text(locks.constraints(locks.ML))


def write_sums(made: Path) -> None:
    """SHA256SUMS of all that is in the folder, as `sha256sum --check` reads it."""
    lines = [f"{building.sha256(file)}  {file.name}\n" for file in sorted(made.iterdir())]
    (made / "SHA256SUMS").write_text("".join(lines))


def put_in_place(made: Path) -> None:
    """Replace dist/ by what was made."""
    shutil.rmtree(_DIST, ignore_errors=True)
    shutil.copytree(made, _DIST)


def tell(line: str) -> None:
    """Say to who looks on what is done."""
    print(line, flush=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607  # the developer's own
    if done.returncode:
        raise ReleaseError(f"expected a git checkout at {ROOT}, git said: {done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
