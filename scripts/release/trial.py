"""The demo from a wheel alone, as somebody has it who knows nothing of a checkout: `python -m scripts.release.trial WHEEL`.

An environment of its own, an empty HOME, an empty folder to work in, no Java on PATH, ports that are free. What has to be fetched
(packages, jars) is fetched for real. Then `klinestream doctor`, `klinestream up --symbols 10`, the pages with what they load, windows with
values, and Ctrl-C, after which nothing may be left.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import psutil

from scripts.release import ReleaseError, locks
from tests.ports import free_ports

# Of the caller's environment only what says how the network is reached, and the language.
_KEPT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "JGO_CONFIG_FILE", "LANG")
_KEPT_PREFIX = "PIP_"
_PORTS = ("STACK__BROKER_PORT", "STACK__CONTROLLER_PORT", "STACK__FLINK_PORT", "STACK__FLINK_RPC_PORT", "STACK__STANDIN_PORT")
_METRICS = ("PRODUCER__METRICS_PORT", "REPAIR__METRICS_PORT", "ARCHIVE__METRICS_PORT", "PROOF__METRICS_PORT")
_SERVER = "SERVER__PORT"
_PAGES = ("chart", "market", "graph", "status", "static/js/main.js", "static/chart.css", "vendor/plotly.min.js", "api/openapi.json")
_START_S, _STOP_S, _ASK_S, _EVERY_S = 300.0, 20.0, 5.0, 0.5


def trial(archive: Path, python: str = sys.executable) -> float:
    """Do all of it with a wheel or an sdist; returns the seconds from `klinestream up` to a chart with data. Raises ReleaseError."""
    with tempfile.TemporaryDirectory(prefix="klinestream-trial-") as folder:
        place = Place(Path(folder), python)
        place.install(archive)
        place.run("klinestream", "--version")
        place.run("klinestream", "doctor")
        with place.stack() as address:
            started = time.monotonic()
            place.wait_for_data(address)
            took = time.monotonic() - started
            look(address)
        if left := place.left_behind():
            raise ReleaseError(f"expected no process after Ctrl-C, but these are left: {left}")
        return took


class Place:
    """A folder with an environment, a home and a working directory of its own."""

    def __init__(self, folder: Path, python: str) -> None:
        """Make all three; nothing is installed yet."""
        self._folder = folder
        self._scripts = folder / "environment" / "bin"
        self._work, home = folder / "work", folder / "home"
        for made in (self._work, home):
            made.mkdir()
        subprocess.run([python, "-m", "venv", str(folder / "environment")], check=True)
        ports = dict(zip((*_PORTS, *_METRICS, _SERVER), free_ports(len(_PORTS) + len(_METRICS) + 1), strict=True))
        self._server = f"http://127.0.0.1:{ports[_SERVER]}"
        self._environment = _kept(os.environ) | {
            "HOME": str(home),
            "PATH": f"{self._scripts}:{_without_java(folder / 'programs')}",
            **{f"KLINESTREAM_{key}": str(port) for key, port in ports.items()},
        }

    def install(self, archive: Path) -> None:
        """Install it by pip, with the versions that are locked."""
        constraints = self._folder / "constraints.txt"
        constraints.write_text(locks.constraints(locks.ML))
        self.run("python", "-m", "pip", "install", "--quiet", "--constraint", str(constraints), str(archive))

    def run(self, *command: str) -> str:
        """Run a program to its end; its output. Raises ReleaseError with that where it fails."""
        done = subprocess.run(self._resolved(command), cwd=self._work, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ReleaseError(f"expected `{' '.join(command)}` to work in an empty environment, it said:\n{done.stdout}{done.stderr}")
        return done.stdout

    @contextmanager
    def stack(self) -> Iterator[str]:
        """`klinestream up` runs; the server's address. Ends with Ctrl-C. Raises ReleaseError if that takes too long."""
        with (self._folder / "up.log").open("w") as log:
            up = subprocess.Popen(
                self._resolved(("klinestream", "up", "--symbols", "10", "--no-table")),
                cwd=self._work,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._up = up
        try:
            yield self._server
        finally:
            up.send_signal(signal.SIGINT)
            try:
                up.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                up.kill()
                raise ReleaseError(f"expected Ctrl-C to end everything within {_STOP_S:.0f} s, it didn't:\n{self._said()}") from None

    def wait_for_data(self, address: str) -> None:
        """Return when the chart has data. Raises ReleaseError with what the stack said."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self._up.poll() is None:
            if _status(f"{address}/readyz") == httpx.codes.OK:
                return
            time.sleep(_EVERY_S)
        raise ReleaseError(f"expected a chart with data within {_START_S:.0f} s, `klinestream up` said:\n{self._said()}")

    def left_behind(self) -> list[str]:
        """Command lines of processes that still run from here."""
        lines = (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
        return [line for line in lines if str(self._folder) in line]

    def _resolved(self, command: tuple[str, ...]) -> list[str]:
        return [str(self._scripts / command[0]), *command[1:]]

    def _said(self) -> str:
        return (self._folder / "up.log").read_text()


def look(address: str) -> None:
    """Every page and what it loads is there, and windows have values. Raises ReleaseError."""
    if missing := [page for page in _PAGES if _status(f"{address}/{page}") != httpx.codes.OK]:
        raise ReleaseError(f"expected {', '.join(missing)} from the installed server, they are not there: see what the wheel holds")
    windows = _http().get(f"{address}/api/v1/windows", params={"symbol": "BTCUSDT", "limit": 10})
    if windows.status_code != httpx.codes.OK or not windows.json():
        raise ReleaseError(f"expected windows of BTCUSDT, got {windows.status_code} {windows.text}: see what the jobs say")


def _status(url: str) -> int:
    try:
        return _http().get(url).status_code
    except httpx.HTTPError:
        return 0


@cache
def _http() -> httpx.Client:
    # No proxy stands between a machine and itself.
    return httpx.Client(timeout=_ASK_S, trust_env=False)


def _kept(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.upper() in _KEPT or name.startswith(_KEPT_PREFIX)}


def _without_java(folder: Path) -> Path:
    """A folder of links to all programs of the system but Java's, as the only further one on PATH."""
    folder.mkdir()
    for program in (file for place in ("/usr/local/bin", "/usr/bin", "/bin") if Path(place).is_dir() for file in Path(place).iterdir()):
        link = folder / program.name
        if not program.name.startswith("java") and not link.is_symlink():
            link.symlink_to(program)
    return folder


def main() -> None:
    """Try the wheel or sdist that is named; what went wrong is told, with exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m scripts.release.trial", description="The demo from a wheel or an sdist alone.")
    parser.add_argument("archive", type=Path, help="dist/klinestream-….whl or .tar.gz")
    parser.add_argument("--python", default=sys.executable, help="the Python that the environment is made with; this one by default")
    chosen = parser.parse_args()
    try:
        took = trial(chosen.archive.absolute(), chosen.python)
    except ReleaseError as error:
        sys.exit(str(error))
    print(f"{chosen.archive.name} in an empty environment: the chart had data after {took:.0f} s")


if __name__ == "__main__":
    main()
