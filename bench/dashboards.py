"""How long the dashboards' queries take at 10 million rows: the tables of a market of 1,400 symbols, in PostgreSQL's real schema.

windows ▕██████████▏ half an hour, two a second      5.04 million     written in order of time, as the sink writes:
candles ▕█████▏      1m and 5m of 25 hours           2.52             the rows of a symbol lie apart
aggregates ▕████▏    24 hours                        2.02
indicators ▕█▏       1m of 6 hours                   0.50
signals, gaps                                        0.05
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from bench.report import Report
from klinestream.market.indicators.catalogue import IndicatorSet, IndicatorSettings
from klinestream.market.intervals import HOUR_MS, MINUTE_MS
from klinestream.market.tables import BY_NAME
from klinestream.stores.postgres.migrating import migrate
from klinestream.stores.postgres.partitions import Partitions
from tests.dashboard_queries import ASKED, Asked
from tests.grafana import Look
from tests.integration.running_postgres import running_postgres

SYMBOLS = 1400
RUNS = 20
_HOURS = {"market": 6, "signals": 168, "aggregates": 24, "health": 1}  # what each shows at first
_SYMBOL = "'C' || lpad(symbol::text, 4, '0') || 'USDT'"
_CLOSE = "t + interval '59.999 s'"
_EACH = f"generate_series(0, {SYMBOLS - 1}) AS symbol"
_READINGS = IndicatorSet(IndicatorSettings()).names
# A price that moves, the same at each run.
_PRICE = "round((100 + symbol + 5 * sin(extract(epoch FROM t) / 3000 + symbol))::numeric, 8)"


@dataclass(frozen=True)
class Rows:
    """A table's rows, from when to when and how far apart."""

    table: str
    select: str
    every: str
    since_ms: int
    until_ms: int

    @property
    def sql(self) -> str:
        """The statement that makes them, in order of time."""
        columns = ", ".join(column.name for column in BY_NAME[self.table].columns)
        since, until = (datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (self.since_ms, self.until_ms))
        times = f"generate_series('{since}'::timestamptz, '{until}', '{self.every}') AS t"
        return f"INSERT INTO {self.table} ({columns}) SELECT {self.select} FROM {times}, {_EACH}"  # noqa: S608  # constants


def tables(now_ms: int) -> Iterator[Rows]:
    """All rows, up to the minute that has closed last."""
    minute = now_ms // MINUTE_MS * MINUTE_MS - MINUTE_MS
    window = (
        f"{_SYMBOL}, t - interval '3 s', t, {_PRICE}, {_PRICE}, {_PRICE} - 1, {_PRICE} + 1, 3 + symbol % 7, 3, "
        "50 + 20 * sin(extract(epoch FROM t) / 60), true, '2026-01-01'::timestamptz, 0"
    )
    yield Rows("windows", window, "500 ms", minute - HOUR_MS // 2 + 500, minute)
    for interval, every, hours in (("1m", "1 min", 24.1), ("5m", "5 min", 25), ("1h", "1 h", 72)):
        candle = (
            f"{_SYMBOL}, '{interval}', t, t + interval '{every}' - interval '1 ms', {_PRICE}, {_PRICE} + 1, {_PRICE} - 1, {_PRICE} + 0.5, "
            "70.5, 7050.25, 30.25, 3000.5, 120, 1, 120, 60, true, 'built', 0"
        )
        begin = minute // MINUTE_MS * MINUTE_MS - int(hours * HOUR_MS)
        yield Rows("candles", candle, every, begin // (5 * MINUTE_MS) * 5 * MINUTE_MS, minute)
    readings = ", ".join(f"'{name}', {place} + sin(extract(epoch FROM t) / 600)" for place, name in enumerate(_READINGS))
    study = f"{_SYMBOL}, '1m', t, {_CLOSE}, {_PRICE}, jsonb_build_object({readings}), '{{}}'::text[], '2026-01-01'::timestamptz, 0"
    yield Rows("indicators", study, "1 min", minute - 6 * HOUR_MS + MINUTE_MS, minute)
    totals = "100, 7, 100, 100, 90, 110"
    day = f"{_SYMBOL}, t, {_CLOSE}, 1440, {totals}, 5000, {totals}, '2026-01-01'::timestamptz, 0"
    yield Rows("aggregates", day, "1 min", minute - 24 * HOUR_MS + MINUTE_MS, minute)
    side = "CASE WHEN symbol % 2 = 0 THEN 'buy' ELSE 'sell' END"
    signal = (
        f"concat(symbol, ':', extract(epoch FROM t)), {_SYMBOL}, '1m', t, {_CLOSE}, {side}, 'rsi', 'fired', {_PRICE}, 29, 30, "
        "'RSI 14 fell to 29, below 30', '2026-01-01'::timestamptz, 0"
    )
    yield Rows("signals", signal, "5 h", minute - 7 * 24 * HOUR_MS, minute)
    gap = (
        f"concat({_SYMBOL}, ':', t), {_SYMBOL}, CASE WHEN symbol % 100 = 0 THEN 'deferred' ELSE 'refilled' END, 'one', "
        "t, t + interval '9 s', 9, 'rest', true, 4, '', t + interval '10 s'"
    )
    yield Rows("gaps", gap, "12 h", minute - 7 * 24 * HOUR_MS, minute)


def measure(report: Report, folder: Path) -> None:
    """Fill the tables, then ask each query of each dashboard some twenty times, of a symbol after the other."""
    now_ms = time.time_ns() // 1_000_000
    with running_postgres(folder) as server:
        with server.connect() as connection:
            migrate(connection, "klinestream")
            _fill(report, connection, now_ms)
        with psycopg.connect(server.url, password=server.password, autocommit=True) as reader:
            for asked in ASKED.values():
                _ask(report, reader, asked, now_ms)
    report.note("Over one connection, to the last row received; what was read before is in the memory of the server or the system.")


def _fill(report: Report, connection: "psycopg.Connection[Any]", now_ms: int) -> None:
    began_s, total = time.perf_counter(), 0
    connection.execute("SET synchronous_commit = off")
    partitions = Partitions(connection)
    for rows in tables(now_ms):
        partitions.require(BY_NAME[rows.table], range(rows.since_ms, rows.until_ms + 12 * HOUR_MS, 12 * HOUR_MS))
        total += connection.execute(rows.sql.encode()).rowcount
    connection.execute("VACUUM ANALYZE")
    found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    report.row("rows in the tables", rows=total, gib=round(found[0] / 2**30, 2), seconds=round(time.perf_counter() - began_s, 1))


def _ask(report: Report, reader: "psycopg.Connection[Any]", asked: Asked, now_ms: int) -> None:
    look = Look(now_ms - _HOURS[asked.board] * HOUR_MS, now_ms, "15s")
    took, rows = [], 0
    for run in range(RUNS):
        chosen = {"symbol": f"C{(run * 67) % SYMBOLS:04}USDT"} if asked.board == "market" else {}
        sql = asked.statement(look, **chosen)
        began_s = time.perf_counter()
        rows = len(reader.execute(sql.encode()).fetchall())
        took.append((time.perf_counter() - began_s) * 1000)
    p50, p95 = np.percentile(took, [50, 95])
    name = asked.name.removesuffix(" A").replace("variable ", "choose ")
    report.row(name, rows=rows, p50_ms=round(float(p50), 1), p95_ms=round(float(p95), 1), first_ms=round(took[0], 1))
