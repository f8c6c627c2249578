"""A model where `klinestream model serve` takes it: there as a whole, and changed from one to the next in one step.

TO/versions/9f86d081/   a copy, each file checked     written aside, then renamed
   current ─► versions/9f86d081                       a link, put in place of the one before by a rename
"""

import os
import shutil
from pathlib import Path

from klinestream.market.errors import ModelError
from klinestream.models.storage import Stored, load

VERSIONS, CURRENT = "versions", "current"
_ASIDE = ".aside"


def publish(model: Path, to: Path, keep: int) -> tuple[Stored, bool]:
    """Make a model the current one; it, and whether it was so already. Keeps the newest `keep` versions. Raises ModelError."""
    stored = load(model)
    version, current = to / VERSIONS / stored.id, to / CURRENT
    if current.exists() and not current.is_symlink():
        raise ModelError(f"expected {current} to be a link that `klinestream model publish` made, but it isn't: choose another --to")
    try:
        if not _is_whole(version, stored):
            _copy(model, version)
        was = current.is_symlink() and current.resolve() == version.resolve()
        if not was:
            _point(current, Path(VERSIONS) / stored.id)
        os.utime(version)
        _forget(to, keep)
    except OSError as error:
        raise ModelError(f"{to} can't be written ({error}): check that there is room, and that the folder may be written to") from None
    return stored, was


def _is_whole(version: Path, stored: Stored) -> bool:
    try:
        return version.is_dir() and load(version).id == stored.id
    except ModelError:
        return False


def _copy(model: Path, version: Path) -> None:
    aside = version.with_name(version.name + _ASIDE)
    for left in (aside, version):  # a version that isn't whole: somebody has changed it
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(model, aside)
    for path in (*aside.iterdir(), aside):
        _on_disk(path)
    aside.rename(version)
    _on_disk(version.parent)


def _point(current: Path, at: Path) -> None:
    aside = current.with_name(current.name + _ASIDE)
    aside.unlink(missing_ok=True)
    aside.symlink_to(at)
    aside.replace(current)
    _on_disk(current.parent)


def _forget(to: Path, keep: int) -> None:
    """Remove the oldest versions, and what was left aside; never the current one."""
    current = (to / CURRENT).resolve()
    versions = sorted((to / VERSIONS).iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    whole = [path for path in versions if path.suffix != _ASIDE]
    for path in (set(versions) - set(whole[:keep])) - {to / VERSIONS / current.name}:
        shutil.rmtree(path, ignore_errors=True)


def _on_disk(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
