"""The scripts behind `make check` and `make test`, over programs that stand in for those they call."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
UNAUDITED = "Dependency not found on PyPI and could not be audited: thing (1.0)"


def program(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(("#!/bin/sh", *lines)) + "\n")
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "code", "passes"),
    [
        (("No known vulnerabilities found",), 0, True),
        (("Found 1 known vulnerability in 1 package",), 1, False),
        (("Found 2 known vulnerabilities in 1 package", UNAUDITED), 1, False),
        ((UNAUDITED,), 0, True),
        (("requests.exceptions.ConnectionError: Max retries exceeded",), 1, True),
    ],
)
def test_a_known_vulnerability_fails_the_audit(said: tuple[str, ...], code: int, passes: bool, tmp_path: Path) -> None:
    """It fails whatever else could not be looked up; only where nothing is known does it pass."""
    program(tmp_path / ".venv" / "bin" / "pip-audit", *(f"echo '{line}'" for line in said), f"exit {code}")
    done = subprocess.run([SCRIPTS / "audit.sh"], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert (done.returncode == 0) is passes, done.stdout + done.stderr


@pytest.mark.parametrize("user", ["0", "1000"])
def test_without_prometheus_its_tests_are_skipped(user: str, tmp_path: Path) -> None:
    """Lists of packages that can't be renewed, as root or by sudo, end nothing: the script says what is skipped, and is content."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPTS / "prometheus.sh", tmp_path / "scripts")
    programs = tmp_path / "bin"
    program(programs / "apt-get", "exit 100")
    program(programs / "sudo", 'shift; exec "$@"')
    program(programs / "id", f"echo {user}")
    for needed in ("bash", "env", "dirname", "mktemp", "rm", "chmod", "true"):
        (programs / needed).symlink_to(shutil.which(needed) or "")
    program(programs / "dpkg-deb", "exit 1")
    done = subprocess.run(
        [tmp_path / "scripts" / "prometheus.sh"], env={"PATH": str(programs)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "will be skipped" in done.stderr) == (0, True), done.stderr
