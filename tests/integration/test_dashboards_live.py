"""`klinestream up --with postgres`, as somebody runs it, and the dashboards over the database that it fills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from klinestream.stack import database
from klinestream.stack.layout import Layout
from tests.dashboard_queries import empty
from tests.eventually import eventually
from tests.grafana import Look
from tests.ports import free_ports

UP_S = 240.0
# What a healthy pipeline may not have in its first minutes: signals, gaps, events, and a whole day of any symbol.
_SIGNALS = ("Buy", "Sell", "By rule", "A day", "Withdrawn")
SELDOM = (*(f"signals: {name}" for name in _SIGNALS), "market: Buy", "market: Sell", "health: ", "aggregates: Up", "aggregates: Down")


@pytest.fixture
def up(tmp_path: Path) -> Iterator[str]:
    """A connection string of the database of a stack that runs."""
    names = [f"STACK__{name}_PORT" for name in ("BROKER", "CONTROLLER", "FLINK", "FLINK_RPC", "STANDIN", "POSTGRES")]
    names += ["SERVER__PORT", *(f"{part}__METRICS_PORT" for part in ("PRODUCER", "REPAIR", "ARCHIVE", "PROOF", "POSTGRES"))]
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    settings = ports | {"STACK__STATE_DIR": str(tmp_path), "SIGNALS__RULES": '["rsi", "macd_cross", "ema_cross"]'}
    environment = os.environ | {f"KLINESTREAM_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "klinestream.cli.main", "up", "--with", "postgres", "--symbols", "BTCUSDT,ETHUSDT", "--no-table"]
    with (tmp_path / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            layout = Layout.of(tmp_path)
            eventually(lambda: process.poll() is not None or database.password(layout), UP_S, "the database has a password")
            url = database.url(int(ports["STACK__POSTGRES_PORT"]))
            yield psycopg.conninfo.make_conninfo(url, password=database.password(layout))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


@pytest.mark.soak
def test_the_dashboards_show_a_stack_that_was_just_started(up: str) -> None:
    """Candles with indicators that have converged, windows, all symbols: every query but those of signals and gaps gives rows."""

    def all_there() -> bool:
        now_ms = time.time_ns() // 1_000_000
        try:
            with psycopg.connect(up, autocommit=True) as reader:
                found = empty(lambda sql: reader.execute(sql.encode()).fetchall(), Look(now_ms - 6 * 3_600_000, now_ms, "15s"))
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable) as error:
            raise AssertionError(error) from None
        assert [name for name in found if not name.startswith(SELDOM)] == []
        return True

    eventually(all_there, UP_S, "every panel has rows")
