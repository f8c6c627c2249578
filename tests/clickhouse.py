"""ClickHouse's engine as tests see it: rows out of it, and an end as hard as kill -9."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]


class ClickHouseError(Exception):
    """What the engine said."""


class ClickHouse:
    """An engine in a process of its own, over a folder; what was stored there is there again after `start`."""

    def __init__(self, folder: Path, config_file: Path | None = None) -> None:
        """`config_file` is a server's, in XML."""
        self._address = f"{folder}?config-file={config_file}" if config_file else str(folder)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; background work goes on at once."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chdb_server", self._address],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, sql: str, form: str = "TabSeparated", **params: object) -> str:
        """What a statement answers, in one of ClickHouse's formats. Raises ClickHouseError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        given = {name: str(value) for name, value in params.items()}
        process.stdin.write(json.dumps({"sql": sql, "format": form, "params": given}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the engine's process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise ClickHouseError(answer["error"])
        return str(answer["data"])

    def rows(self, sql: str, **params: object) -> list[dict[str, Any]]:
        """A query's rows. Integers and decimals come as text where a float couldn't hold them."""
        settings = "output_format_json_quote_64bit_integers=0, output_format_json_quote_decimals=1"
        text = self.run(f"{sql.rstrip().rstrip(';')}\nSETTINGS {settings}", "JSONEachRow", **params)
        return [json.loads(line) for line in text.splitlines()]

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """End it cleanly."""
        if self._process is not None:
            self._end()

    def _end(self) -> None:
        assert self._process is not None
        # What was not flushed to a process that is dead is of no use to anybody.
        self._process.communicate()
        self._process = None
