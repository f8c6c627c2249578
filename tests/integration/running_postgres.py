"""A real PostgreSQL server of a test's own, on a free port, that can be killed and started again; and connections to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from klinestream.stack import database
from klinestream.stack.layout import Layout
from klinestream.stack.process import Process
from tests.eventually import eventually
from tests.ports import free_ports

_START_S = 90.0
_STOP_S = 30.0


class TestPostgres:
    """The server that `klinestream up --with postgres` runs. `config()` is what the table [postgres] needs to reach it."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        """Make its data folder; `start` starts it."""
        self.layout = Layout.of(folder)
        [self.port] = free_ports(1)
        database.prepare(self.layout, self.port)
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where it is; the password is in `password`."""
        return database.url(self.port)

    @property
    def password(self) -> str:
        """Of the user in the address."""
        return database.password(self.layout)

    def config(self, **settings: Any) -> dict[str, Any]:
        """The table [postgres] of a configuration."""
        return {"url": self.url, "password": self.password, "metrics_port": 0} | settings

    def start(self) -> None:
        """Start it, on the same port and data; returns when it takes connections."""
        if not database.is_formatted(self.layout):
            database.make_room(self.layout)
            made = Process(database.format_command(self.layout), self.layout.logs / "initdb.log", self._mark)
            eventually(lambda: made.poll() is not None, _START_S, "the data folder is made")
            assert made.poll() == 0, made.last_words()
        database.take_name(self.layout)
        self._launch()
        eventually(self._answers, _START_S, "the database takes connections")

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()

    def stop(self) -> None:
        """End it cleanly."""
        if self._process is not None:
            self._process.stop(_STOP_S)

    def connect(self, namespace: str = "klinestream") -> "psycopg.Connection[tuple[Any, ...]]":
        """A connection that sees the tables of a schema."""
        return psycopg.connect(self.url, password=self.password, autocommit=True, options=f"-c search_path={namespace} -c timezone=UTC")

    def rows(self, query: str, namespace: str = "klinestream") -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self.connect(namespace) as connection:
            return connection.execute(query.encode()).fetchall()

    def drop(self, namespace: str) -> None:
        """Forget a schema."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(namespace)))

    def _launch(self) -> None:
        self._process = Process(database.command(self.layout), self.layout.logs / "database.log", self._mark)

    @property
    def _mark(self) -> str:
        return f"{self.layout.root}#test"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            # Children of a killed server hold its memory for a moment: the stack's supervisor starts it again as well.
            words = self._process.last_words()
            self._launch()
            raise AssertionError(words)
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_postgres(folder: Path) -> Iterator[TestPostgres]:
    """A server that runs, and ends whatever happens."""
    server = TestPostgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
