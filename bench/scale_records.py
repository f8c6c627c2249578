"""How long indicators are in a topic and in the archive once they have converged: at the start, as `live` sees them, most are null."""

import time
from collections.abc import Iterator
from pathlib import Path

from bench.candles_scale import seconds
from bench.report import Report
from jobs.candle_operators import outputs
from klinestream.archive import parquet
from klinestream.archive.files import Files, Span, date_of
from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.events import SECOND_MS
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import INDICATORS, PUBLISHED_HEADER, SCHEMA_HEADER
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from tests.stack import TestBroker, broker_with_topics

_SYMBOLS = 700
_WARM_MINUTES, _MINUTES = 60, 5
_PART_S = 60


def measure(report: Report, folder: Path) -> None:
    """Minutes of indicators, a burst a minute, as the job publishes them."""
    start_ms = (int(time.time()) * SECOND_MS // MINUTE_MS - _WARM_MINUTES - _MINUTES - 1) * MINUTE_MS
    with broker_with_topics(folder / "broker") as broker:
        config = KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka", linger_ms=2)
        publisher = open_publisher(config, "bench-indicators")
        for records in _minutes(start_ms):
            for record in records:
                publisher.publish(record)
            publisher.flush(30)
        publisher.close(10)
        reader = open_reader(config, "bench-indicators")
        bounds = reader.bounds(INDICATORS.name)
        reader.assign(dict.fromkeys(((INDICATORS.name, partition) for partition in bounds), 0))
        held: list[Record] = []
        while len(held) < sum(end for _, end in bounds.values()):
            held += reader.poll(1.0)
        reader.close()
        told = {"records": len(held), "value_bytes": round(sum(len(record.value or b"") for record in held) / len(held), 1)}
        archived = _archived(Files(str(folder / "archive")), held)
        report.row(
            "indicators, converged",
            **told,
            bytes_a_record=_logged(broker) // len(held),
            archive_bytes_a_record=round(archived / len(held), 1),
        )


def _minutes(start_ms: int) -> Iterator[list[Record]]:
    """Records of the last minutes of an engine that has seen the others."""
    engine = CandleEngine(CandleSettings(provisional=False, history=0))
    for minute in range(_WARM_MINUTES + _MINUTES):
        for batch in seconds(start_ms + minute * MINUTE_MS, _PART_S, _SYMBOLS):
            lines = outputs(engine, engine.step(batch))[INDICATORS.name]
            if lines and minute >= _WARM_MINUTES:
                yield [_record(line) for line in lines]


def _record(line: str) -> Record:
    key, time_ms, value = line.split("\t")
    headers = ((SCHEMA_HEADER, b"1"), (PUBLISHED_HEADER, str(time.time_ns() // 1_000_000).encode()))
    return Record(INDICATORS.name, key.encode(), value.encode(), int(time_ms), headers)


def _logged(broker: TestBroker) -> int:
    return sum(file.stat().st_size for file in (broker.layout.kafka / "data").glob(f"{INDICATORS.name}-[0-9]*/*.log"))


def _archived(files: Files, records: list[Record]) -> int:
    size = 0
    for partition in sorted({record.partition for record in records}):
        mine = [record for record in records if record.partition == partition]
        span = Span(INDICATORS.name, partition, mine[0].offset, mine[-1].offset + 1, date_of(mine[0].timestamp_ms))
        size += parquet.write(files, span, mine).bytes
    return size
