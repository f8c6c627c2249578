"""What the producer spends on a whole market, live, with each Kafka client: a stand-in, a broker, and nobody who reads."""

import time
from contextlib import closing
from pathlib import Path

import psutil

from bench.report import Report
from bench.scale_live import config_of, process, until_up
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Reader, open_reader
from tests.eventually import eventually
from tests.stack import broker_with_topics

SYMBOLS = 1400
_WARM_S = 25.0
_MEASURED_S = 30.0


def measure(report: Report, folder: Path) -> None:
    """One client after the other."""
    for client in ("kafka-python", "confluent-kafka"):
        with broker_with_topics(folder / client) as broker:
            config = config_of(folder / client, broker, SYMBOLS, client)
            with process("standin", config):
                until_up("standin", config)
                with process("producer", config) as started, closing(open_reader(config.kafka, "bench-klines")) as reader:
                    _one(report, client, psutil.Process(started.pid), reader)


def _one(report: Report, client: str, producer: psutil.Process, reader: Reader) -> None:
    eventually(lambda: _klines(reader) > 2 * SYMBOLS, 60, "klines flow")
    time.sleep(_WARM_S)
    before, first, began_s = producer.cpu_times(), _klines(reader), time.monotonic()
    time.sleep(_MEASURED_S)
    after, came, passed_s = producer.cpu_times(), _klines(reader) - first, time.monotonic() - began_s
    spent_s = after.user + after.system - before.user - before.system
    report.row(
        f"producer live, {SYMBOLS:,} symbols, {client}",
        symbols=SYMBOLS,
        cpu_ms_a_second=round(spent_s / passed_s * 1000, 1),
        mb=round(producer.memory_full_info().pss / 1e6, 1),
        klines_a_second=round(came / passed_s),
    )


def _klines(reader: Reader) -> int:
    return sum(end for _, end in reader.bounds(KLINES.name).values())
