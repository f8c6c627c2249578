"""`klinestream up --with postgres`: rows in a real database, from the first start on and after the next one."""

from pathlib import Path

import psycopg
import pytest

from klinestream.stack import database
from klinestream.stack.layout import Layout
from klinestream.stack.process import marked
from tests.eventually import eventually
from tests.ports import free_ports
from tests.whole_stack import TestStack

SOON_S = 60.0


@pytest.mark.soak
def test_rows_come_and_stay(tmp_path: Path) -> None:
    """A fresh folder: a database is made and filled. Killed, the database and the sink come back; stopped, nothing is left; started again,
    the rows of before are there, and more come."""
    port, metrics_port = free_ports(2)
    tables = {"stack": {"postgres_port": port}, "postgres": {"metrics_port": metrics_port}}
    before = 0
    for life in range(2):
        stack = TestStack(tmp_path, also=("postgres",), **tables)
        try:
            stack.start()
            rows = eventually(lambda: _windows(tmp_path, port) > before and _windows(tmp_path, port), SOON_S, "rows come")  # noqa: B023
            if not life:
                for part in ("database", "postgres"):
                    stack.kill(part)
                    rows = eventually(lambda: _windows(tmp_path, port) > rows and _windows(tmp_path, port), SOON_S, f"rows after {part}")  # noqa: B023
            before = rows
        finally:
            stack.stop()
        assert not list(marked(f"{tmp_path}#"))
        assert _windows(tmp_path, port) == 0


def _windows(folder: Path, port: int) -> int:
    """How many windows stand in the database; 0 while it is away."""
    try:
        with psycopg.connect(database.url(port), password=database.password(Layout(folder)), connect_timeout=2) as connection:
            [count] = connection.execute("SELECT count(*) FROM klinestream.windows").fetchone() or (0,)
    except psycopg.Error:
        return 0
    return int(count)
