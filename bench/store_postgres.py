"""Rows a second into PostgreSQL: by COPY and one merge a batch, by executemany, and by Flink's JDBC sink, in one run as ratios."""

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import orjson

from bench.report import Report
from bench.throughput import broker_and_flink
from klinestream.market.events import Kind
from klinestream.market.tables import BY_NAME
from klinestream.market.topics import WINDOWS
from klinestream.runtime.kafka import Record
from klinestream.stack import database, jars
from klinestream.stack.commands import STORE_POSTGRES
from klinestream.stack.java import scripts
from klinestream.stores.postgres.ddl import TYPES
from klinestream.stores.postgres.merging import merge, store
from klinestream.stores.postgres.migrating import migrate
from klinestream.stores.postgres.partitions import Partitions
from klinestream.stores.postgres.rows import Batch, Row, Shape, batch_of
from tests.eventually import eventually
from tests.integration.running_postgres import TestPostgres, running_postgres
from tests.stack import TestBroker, TestFlink
from tests.topics import publish

SYMBOLS = 1400
ROUNDS = 100
BATCH = 20_000
LEAST = 0.1  # what comes before a tenth is there is the start
TURNS = 3
_MOST_S = 200.0
_TABLE = BY_NAME["windows"]
_SHAPE = Shape(_TABLE, 0)
_JDBC_JARS = (
    jars.Jar(
        "org.apache.flink",
        "flink-connector-jdbc-core",
        "4.0.0-2.0",
        "ccb9691bf1d0f97574ae768e1bef05a39c06d7f7b13996e9d485fbdd69dcbfec",
    ),
    jars.Jar(
        "org.apache.flink",
        "flink-connector-jdbc-postgres",
        "4.0.0-2.0",
        "b59c29dc65cafe8ae398e69072b9f6022f4a978a09002fd06a05a1a8dd3348d6",
    ),
    jars.Jar("org.postgresql", "postgresql", "42.7.8", "2a32a9dcbc42d67a50ad3a0de5efd102c8d2be46720045f2cbd6689f160ab7c7"),
)
# The rows of executemany are given as the database takes them: times as numbers that it converts, as the merge does.
_PARAMETERS = ", ".join(f"%s::{'bigint' if column.kind is Kind.TIME_MS else TYPES[column.kind]}" for column in _TABLE.columns)
_UPSERT = merge(_TABLE).replace(
    f"FROM staging_{_TABLE.name} ORDER BY symbol, end_time",
    f"FROM (VALUES ({_PARAMETERS})) AS one ({', '.join(column.name for column in _TABLE.columns)})",
)


def measure(report: Report, folder: Path) -> None:
    """Each way into tables that are empty, with rows of 1,400 symbols."""
    values = list(_lines(ROUNDS))
    with running_postgres(folder / "postgres") as postgres:
        rows = [_SHAPE.row(value) for value in values]
        ways = {"COPY and merge": _copied, "executemany": _one_by_one}
        for turn in range(TURNS):
            for what, way in ways.items():
                report.row(f"{what}, turn {turn + 1}", rows=len(rows), rows_a_second=round(_timed(postgres, way, rows)))
        seconds = _spent(lambda: batch_of(_records(values), {WINDOWS.name: _SHAPE}, time.time_ns() // 1_000_000))
        report.row("lines to rows alone", rows=len(rows), rows_a_second=round(len(rows) / seconds))
        with broker_and_flink(folder / "stack") as (broker, flink):
            publish(broker.bootstrap_servers, _records(values))
            ours = _sink(broker, postgres, folder, len(values))
            report.row("klinestream store postgres, from Kafka", rows=len(values), rows_a_second=round(ours))
            theirs = _jdbc(broker, flink, postgres, folder, len(values))
            report.row("Flink's JDBC sink, from Kafka", rows=len(values), rows_a_second=round(theirs))
    _ratios(report)
    report.note("windows, 13 columns; an empty table, partitioned by day, with its key and an index on time; fsync on; all on one machine")
    report.note(f"from Kafka: from a tenth of the rows to the last one; batches of up to {BATCH:,} here, of 5,000 in the JDBC sink")
    report.note("the JDBC sink keeps times as numbers in a plain table, upserts by key alone, and knows nothing of revisions")


def _ratios(report: Report) -> None:
    found = {row["what"]: row["rows_a_second"] for row in report.rows}
    turns = sorted(found[f"COPY and merge, turn {turn + 1}"] / found[f"executemany, turn {turn + 1}"] for turn in range(TURNS))
    report.row("COPY and merge / executemany", ratio=round(turns[TURNS // 2], 1), least=round(turns[0], 1), most=round(turns[-1], 1))
    both = found["klinestream store postgres, from Kafka"] / found["Flink's JDBC sink, from Kafka"]
    report.row("klinestream store postgres / Flink's JDBC sink", ratio=round(both, 1))


def _timed(postgres: TestPostgres, way: "Callable[[TestPostgres, Sequence[Row]], None]", rows: Sequence[Row]) -> float:
    postgres.drop("klinestream")
    with postgres.connect() as connection:
        migrate(connection, "klinestream")
        Partitions(connection).require(_TABLE, map(_SHAPE.time, rows))
    return len(rows) / _spent(lambda: way(postgres, rows))


def _copied(postgres: TestPostgres, rows: Sequence[Row]) -> None:
    with postgres.connect() as connection:
        for part in _parts(rows):
            store(connection, {_TABLE.name: _TABLE}, Batch(rows={_TABLE.name: _SHAPE.fold(part)}), {})


def _one_by_one(postgres: TestPostgres, rows: Sequence[Row]) -> None:
    with postgres.connect() as connection, connection.cursor() as cursor:
        for part in _parts(rows):
            with connection.transaction():
                cursor.executemany(_UPSERT.encode(), part)


def _sink(broker: TestBroker, postgres: TestPostgres, folder: Path, rows: int) -> float:
    postgres.drop("klinestream")
    own = {"KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "POSTGRES__TABLES": f'["{_TABLE.name}"]', "POSTGRES__METRICS_PORT": "0"}
    own |= {"POSTGRES__URL": postgres.url, "POSTGRES__PASSWORD": postgres.password, "KAFKA__CLIENT": "confluent-kafka"}
    environment = os.environ | {f"KLINESTREAM_{key}": value for key, value in own.items()}
    with (folder / "sink.log").open("wb") as log:
        sink = subprocess.Popen((scripts() / "klinestream", *STORE_POSTGRES[1:]), env=environment, stdout=log, stderr=log)
    try:
        return _rate(postgres, "SELECT count(*) FROM klinestream.windows", rows)
    finally:
        sink.terminate()
        sink.wait(20)


def _jdbc(broker: TestBroker, flink: TestFlink, postgres: TestPostgres, folder: Path, rows: int) -> float:
    jars.fetch(folder / "jars", _JDBC_JARS)
    connector = jars.connector(flink.layout.jars)
    types = {"window_start": "bigint", "window_end": "bigint", "since": "bigint", "symbol": "text", "rsi_ready": "boolean"}
    types |= {"points": "bigint", "revision": "bigint"}
    columns = ", ".join(f"{column.wire} {types.get(column.wire, 'double precision')}" for column in _TABLE.columns)
    with postgres.connect() as connection:
        connection.execute(f"CREATE TABLE public.jdbc_windows ({columns}, PRIMARY KEY (symbol, window_end))".encode())
    found = {
        "BROKERS": broker.bootstrap_servers,
        "TOPIC": WINDOWS.name,
        "URL": f"jdbc:postgresql://{database.HOST}:{postgres.port}/{database.DATABASE}",
        "USER": database.USER,
        "PASSWORD": postgres.password,
        # Set by a script, they take the place of what `flink run` was told: Kafka's connector has to be among them.
        "JARS": ";".join(jar.as_uri() for jar in (*(folder / "jars" / jar.file_name for jar in _JDBC_JARS), connector)),
    }
    job = flink.submit(Path(__file__).parent / "jdbc_job.py", env={f"BENCH_{key}": value for key, value in found.items()})
    try:
        return _rate(postgres, "SELECT count(*) FROM public.jdbc_windows", rows)
    finally:
        flink.cancel(job)


def _rate(postgres: TestPostgres, query: str, rows: int) -> float:
    """Rows a second from a tenth of them on."""
    first: list[tuple[float, int]] = []

    def all_there() -> bool:
        try:
            [[count]] = postgres.rows(query)
        except Exception:  #  # the table may not be there yet
            return False
        if count > LEAST * rows and not first:
            first.append((time.monotonic(), count))
        return bool(count >= rows)

    eventually(all_there, _MOST_S, "all rows are stored")
    began_s, before = first[0]
    return (rows - before) / (time.monotonic() - began_s)


def _lines(rounds: int) -> Iterator[bytes]:
    begin_ms = time.time_ns() // 1_000_000 // 86_400_000 * 86_400_000
    for number in range(rounds):
        end_ms = begin_ms + 500 * number
        for symbol in range(SYMBOLS):
            price = 100.0 + symbol + number / 64
            fields = {"symbol": f"COIN{symbol}USDT", "window_start": end_ms - 3000, "window_end": end_ms, "close": price}
            fields |= {"average_price": price + 0.123456789, "low": price - 1, "high": price + 1, "volume": 12.5 * symbol, "points": 3}
            yield orjson.dumps(fields | {"rsi": 50.123456789, "rsi_ready": True, "since": begin_ms, "revision": 0})


def _records(values: Iterable[bytes]) -> Iterator[Record]:
    for offset, value in enumerate(values):
        yield Record(WINDOWS.name, value.split(b'"', 4)[3], value, 0, (), 0, offset)


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while part := list(islice(left, BATCH)):
        yield part


def _spent(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
