"""ClickHouse's engine as tests see it: rows out of it, and an end as hard as kill -9."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from klinestream.market.events import Kind
from klinestream.market.tables import Column, Table

REPOSITORY = Path(__file__).parents[1]
# The columns of a Kafka table, those that the engine itself adds among them.
_BY_HAND = "raw String, _topic String, _partition UInt64, _offset UInt64, _timestamp_ms Nullable(DateTime64(3))"


class ClickHouseError(Exception):
    """What the engine said."""


class ClickHouse:
    """An engine in a process of its own, over a folder; what was stored there is there again after `start`."""

    def __init__(self, folder: Path, config_file: Path | None = None, environment: dict[str, str] | None = None) -> None:
        """`config_file` is a server's, in XML; it takes the values of variables from the environment."""
        self._address = f"{folder}?config-file={config_file}" if config_file else str(folder)
        self._environment = os.environ | (environment or {})
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it; background work goes on at once."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chdb_server", self._address],
            cwd=REPOSITORY,
            env=self._environment,
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
        # Parameters are read as TabSeparated has them.
        given = {name: str(value).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t") for name, value in params.items()}
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


def typed(column: Column, value: Any) -> Any:
    """A value of a row as it is meant."""
    if value is None:
        return None
    if column.kind is Kind.TIME_MS:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    if column.kind is Kind.NUMBER:
        return float(value)  # a great one stands as an integer
    if column.kind is Kind.NUMBERS:
        return {name: None if number is None else float(number) for name, number in value.items()}
    return Decimal(value) if column.kind in (Kind.PRICE, Kind.VOLUME) else value


def table_rows(engine: ClickHouse, table: Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Identity → row, as a reader of the table's view sees it. Fails where an identity has two rows."""
    found = {}
    for raw in engine.rows(f"SELECT * FROM klinestream.{table.name}_final"):  # noqa: S608  # a table's own name
        row = {column.name: typed(column, raw[column.name]) for column in table.columns}
        identity = tuple(row[name] for name in table.identity)
        assert identity not in found, f"expected one row an identity, got two of {identity}"
        found[identity] = row
    return found


def made(statements: Iterable[str], engine: ClickHouse) -> None:
    """Run statements, with a table that takes lines from our hands in place of each that would read a topic: all else is as in a server."""
    for statement in statements:
        topic = re.search(r"EXISTS (\S+_topic) ", statement)
        engine.run(f"CREATE TABLE IF NOT EXISTS {topic[1]} ({_BY_HAND}) ENGINE = Null" if topic else statement)


def feed(engine: ClickHouse, table: Table, lines: Iterable[bytes], file: Path) -> None:
    """Put lines where the messages of a table's topic come in; the file is written on the way."""
    file.write_text("\n".join(line.hex() for line in lines))
    engine.run(
        f"INSERT INTO klinestream_intake.{table.name}_topic "  # noqa: S608  # a table's own name
        f"SELECT unhex(line), '{table.topic.name}', 0, rowNumberInAllBlocks(), now64(3) FROM file('{file}', LineAsString)"
    )
