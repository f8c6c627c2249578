"""How many rows a second the windows job makes of a topic that is full already, next to the same job written naively."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.market import SYMBOLS, lines
from bench.report import Report
from klinestream.market.errors import BrokerError
from klinestream.market.topics import KLINES, WINDOWS
from klinestream.runtime.config import load
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.stack.commands import configuration, script_of
from tests.stack import TestBroker, TestFlink, broker_with_topics, running

_SECONDS = 1440
_NAIVE_SECONDS = 8
_MOST_S = 300.0
_STILL_S = 20.0
OURS = "its second half, warm"
NAIVE_ROW = "the same written naively, second half"
NAIVE = Path(__file__).parent / "naive_job.py"


def measure(report: Report, folder: Path) -> None:
    """Rows out a second, from the first row to the last."""
    with broker_and_flink(folder / "job") as (broker, flink):
        klines = fill(broker, _SECONDS)
        config = load(None, kafka={"bootstrap_servers": broker.bootstrap_servers})
        job = flink.submit(script_of("windows"), env=configuration(config))
        grown = watch(broker, 2 * klines)
        flink.cancel(job)
        for what, first, last in (
            ("windows job, everything on: all rows", 0, 1),
            ("its first half, while the JVM compiles", 0, 0.5),
            (OURS, 0.5, 1),
        ):
            rows, a_second = rate(grown, first, last)
            report.row(what, klines=klines, rows=rows, rows_a_second=round(a_second))
    with broker_and_flink(folder / "naive") as (broker, flink):
        klines = fill(broker, _NAIVE_SECONDS)
        env = {"BENCH_BROKERS": broker.bootstrap_servers, "BENCH_SOURCE": KLINES.name, "BENCH_SINK": WINDOWS.name}
        job = flink.submit(NAIVE, env=env)
        # Its last windows never fire, for want of a later watermark.
        grown = watch(broker, 2 * (_NAIVE_SECONDS - 4) * SYMBOLS)
        flink.cancel(job)
        rows, a_second = rate(grown, 0.5, 1)
        report.row(NAIVE_ROW, klines=klines, rows=rows, rows_a_second=round(a_second))
    found = {row["what"]: row["rows_a_second"] for row in report.rows}
    report.row("ratio of the second halves", rows_a_second=round(found[OURS] / found[NAIVE_ROW], 1))
    report.note("from the first row in the output topic to the last; parallelism 1, checkpoint every second, 4 partitions")
    report.note(
        "the naive job computes average and RSI alone; the windows job writes all fields and sets aside what is bad, late or repeated"
    )


@contextmanager
def broker_and_flink(folder: Path) -> Iterator[tuple[TestBroker, TestFlink]]:
    """A broker with all topics, and a Flink cluster, of their own."""
    with broker_with_topics(folder / "broker") as broker, running(TestFlink(folder / "flink")) as flink:
        yield broker, flink


def fill(broker: TestBroker, seconds: int) -> int:
    """Fill the feed with the newest seconds of the seeded market; returns how many klines."""
    config = KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka", linger_ms=20)
    publisher = open_publisher(config, "bench-fill")
    count = 0
    for symbol, closed, line in lines((int(time.time()) - seconds - 5) * 1000, seconds):
        publisher.publish(Record(KLINES.name, symbol.encode(), line, closed))
        count += 1
    publisher.flush(60)
    publisher.close(10)
    return count


def watch(broker: TestBroker, rows: int) -> list[tuple[float, int]]:
    """Wait until the output has grown by so many rows, or has stopped; returns (seconds, rows so far), from the first row on."""
    reader = open_reader(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka"), "bench-watch")
    grown: list[tuple[float, int]] = []
    began = time.perf_counter()
    while not grown or grown[-1][1] < rows:
        now = time.perf_counter()
        if now - began > _MOST_S or (grown and now - grown[-1][0] > _STILL_S):
            break
        try:
            came = sum(end for _, end in reader.bounds(WINDOWS.name).values())
        except BrokerError:
            continue  # a broker this busy may take too long to answer
        if came > (grown[-1][1] if grown else 0):
            grown.append((now, came))
        time.sleep(0.1)
    reader.close()
    assert len(grown) > 1, "expected rows in the output topic, got none"
    return grown


def rate(grown: list[tuple[float, int]], first: float, last: float) -> tuple[int, float]:
    """Rows, and rows a second, between two shares of all rows."""
    part = [(at, rows) for at, rows in grown if first * grown[-1][1] <= rows <= last * grown[-1][1]]
    rows, seconds = part[-1][1] - part[0][1], part[-1][0] - part[0][0]
    return rows, rows / max(seconds, 1e-3)
