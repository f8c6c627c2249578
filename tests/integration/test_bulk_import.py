"""`klinestream archive import` as people run it: killed in the middle and started again, and as docs/archive.md has it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import duckdb
import pytest
from click.testing import Result
from typer.testing import CliRunner

from klinestream.cli.main import app
from tests.bulk import LAST_OF_MS, of_market
from tests.eventually import eventually

PAGE = Path(__file__).parents[2] / "docs" / "archive.md"
KLINESTREAM = (sys.executable, "-m", "klinestream.cli.main")


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"KLINESTREAM_ARCHIVE__URL": str(folder)}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "_lock"}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*KLINESTREAM, "archive", *arguments]
    return subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=False)


def killed(folder: Path, bulk: Path, sources: int) -> bool:
    """An import, killed as soon as a file waits aside after so many bulk files; false if it was quicker than that."""
    with subprocess.Popen([*KLINESTREAM, "archive", "import", str(bulk)], env=environment(folder), stdout=subprocess.DEVNULL) as process:
        eventually(
            lambda: (len(list(folder.rglob("*.json"))) >= sources and list(folder.rglob("*.aside"))) or process.poll() is not None,
            60,
            "an import that is under way",
        )
        process.kill()
    return process.returncode == -signal.SIGKILL


def test_a_killed_import_comes_to_the_same(tmp_path: Path) -> None:
    """Wherever it was killed, the next one goes on, leaves nothing aside, and every file is the same to the last byte."""
    bulk = tmp_path / "bulk"
    of_market(bulk, "trades", first=LAST_OF_MS)
    of_market(bulk, "klines", "1h", date(2024, 5, 1), date(2024, 5, 3))
    assert run(tmp_path / "whole", "import", str(bulk)).returncode == 0
    assert sum(killed(tmp_path / "killed", bulk, sources) for sources in (3, 4)) > 0
    done = run(tmp_path / "killed", "import", str(bulk), "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["files"]) == 5
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "whole")
    proved = run(tmp_path / "killed", "verify")
    assert (proved.returncode, "nothing is missing" in proved.stdout) == (0, True), proved.stderr


def invoked(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, arguments)


def test_what_was_refused_is_told_of(empty_folder: Path) -> None:
    """With the exit code, and whatever is good is taken even so; a place that isn't there is an error."""
    paths = of_market(empty_folder / "bulk", "klines", "1h", date(2024, 5, 1), date(2024, 5, 2))
    paths[0].with_name(f"{paths[0].name}.CHECKSUM").unlink()
    some = invoked("archive", "import", "bulk")
    assert (some.exit_code, "1 files imported, 0 passed over, 1 refused" in some.output) == (1, True)
    assert "--without-checksum" in some.output
    more = invoked("archive", "import", "bulk", "--without-checksum")
    assert (more.exit_code, "1 files imported, 1 passed over, 0 refused" in more.output) == (0, True)
    assert re.search(r"crypto_candle_history 1h .* 2024-05 .* 48 ", invoked("archive", "import", "--list").output)
    told = json.loads(invoked("archive", "import", "--list", "--json").output)
    assert [each["rows"] for each in told["files"]] == [24, 24]
    assert "expected files or folders that are there" in str(invoked("archive", "import", "nowhere").exception)
    assert "or --list" in str(invoked("archive", "import").exception)


def test_the_page_s_commands_run(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the section on bulk files, one after the other, and its query finds what they brought."""
    monkeypatch.setenv("KLINESTREAM_STANDIN__SYMBOLS", "5")
    section = PAGE.read_text().partition("## Bulk files")[2].partition("\n## ")[0]
    commands = [shlex.split(line) for line in re.findall(r"^    klinestream (.+)$", section, re.MULTILINE)]
    assert len(commands) >= 4
    for arguments in commands:
        done = invoked(*arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
    assert (empty_folder / ".klinestream" / "archive" / "imported").is_dir()
    [query] = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    [(symbol, day, klines, quiet, volume)] = duckdb.sql(query).fetchall()
    assert (symbol, str(day), klines) == ("BTCUSDT", "2025-01-01", 86_400)
    assert 0 < quiet < klines
    assert volume > 0
