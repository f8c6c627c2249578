"""The candles job over a topic that is full already, next to the same indicators in a keyed function, a Python call a candle.

Both get the same candles of one interval in order of time: ours as records of `crypto_candle_history`, some rows each; the naive
job as one record a candle.
"""

import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import orjson

from bench.candles_scale import Scale
from bench.report import Report
from bench.throughput import broker_and_flink, rate
from klinestream.market.codec import encode_event
from klinestream.market.errors import BrokerError
from klinestream.market.events import CandleHistory, HistoryReason
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.topics import CANDLE_HISTORY, CANDLES, INDICATORS, Topic
from klinestream.runtime.config import load
from klinestream.runtime.kafka import Record, open_publisher, open_reader
from klinestream.runtime.sections import KafkaConfig
from klinestream.stack.commands import configuration, script_of
from tests.stack import TestBroker

OURS, NAIVE_ROW = "naive: the candles job, second half", "naive: the same written naively, second half"
NAIVE = Path(__file__).parent / "naive_candles.py"
_A_RECORD = 10  # the producer writes more; with fewer there are more batches, whose rate can be told
_MOST_S = 300.0
_STILL_S = 20.0
Row = tuple[object, ...]


def measure(report: Report, folder: Path, scale: Scale) -> None:
    """Indicator records a second of both, and their ratio."""
    candles = scale.symbols * scale.candles
    with broker_and_flink(folder / "job") as (broker, flink):
        _fill(broker, _as_history(scale))
        config = load(None, kafka={"bootstrap_servers": broker.bootstrap_servers})
        flink.submit(script_of("candles"), env=configuration(config))
        _tell(report, OURS, _watch(broker, INDICATORS, candles), candles)
    with broker_and_flink(folder / "naive") as (broker, flink):
        _fill(broker, _one_by_one(scale))
        env = {"BENCH_BROKERS": broker.bootstrap_servers, "BENCH_SOURCE": CANDLES.name, "BENCH_SINK": INDICATORS.name}
        flink.submit(NAIVE, env=env)
        _tell(report, NAIVE_ROW, _watch(broker, INDICATORS, candles), candles)
    found = {row["what"]: row["candles_a_second"] for row in report.rows if row["what"] in {OURS, NAIVE_ROW}}
    report.row("naive: ratio of the second halves", candles_a_second=round(found[OURS] / found[NAIVE_ROW], 1))
    report.note(
        f"naive: {scale.symbols:,} symbols, {scale.candles} candles of 1m each; ours from crypto_candle_history, "
        f"{_A_RECORD} a record; the naive job from one record a candle; parallelism 1"
    )
    report.note(
        "naive: it computes SMA, EMA, RSI and MACD, 8 values; the candles job all 18, signals, aggregates, the candles themselves, "
        "and checks every line"
    )


def _tell(report: Report, what: str, grown: list[tuple[float, int]], candles: int) -> None:
    assert grown[-1][1] == candles, f"{what}: expected {candles:,} records, got {grown[-1][1]:,}"
    made, a_second = rate(grown, 0.5, 1)
    whole_s = grown[-1][0] - grown[0][0]
    report.row(what, candles_a_second=round(a_second), candles=candles, measured=made, seconds_in_all=round(whole_s, 1))


def series(scale: Scale) -> Iterator[tuple[str, list[Row]]]:
    """By symbol, the rows of its candles as the exchange's REST interface gives them: prices that wander, until a minute ago."""
    random = np.random.default_rng(1)
    first_ms = (time.time_ns() // 1_000_000 // MINUTE_MS - scale.candles) * MINUTE_MS
    for number in range(scale.symbols):
        closes = np.round(100 * np.exp(np.cumsum(random.normal(0, 1e-3, scale.candles))), 4)
        opens = np.append(100.0, closes[:-1])
        volumes = random.integers(1, 10**6, scale.candles).tolist()
        columns = zip(opens.tolist(), np.maximum(opens, closes).tolist(), np.minimum(opens, closes).tolist(), closes.tolist(), strict=True)
        rows: list[Row] = []
        for at, ((o, h, low, c), volume) in enumerate(zip(columns, volumes, strict=True)):
            opened = first_ms + at * MINUTE_MS
            prices = tuple(f"{price:.8f}" for price in (o, h, low, c))
            rows.append((opened, *prices, f"{volume}.0", opened + MINUTE_MS - 1, f"{volume * 100}.0", 10, "0.0", "0.0"))
        yield f"S{number}USDT", rows


def _as_history(scale: Scale) -> Iterator[Record]:
    """The first candles of all symbols, then the next ones: any share of the topic is the same mixture."""
    every = list(series(scale))
    for first in range(0, scale.candles, _A_RECORD):
        for symbol, rows in every:
            some = tuple(rows[first : first + _A_RECORD])
            value = encode_event(CandleHistory(symbol, "1m", HistoryReason.START, some))
            yield Record(CANDLE_HISTORY.name, symbol.encode(), value, int(str(some[-1][6])))


def _one_by_one(scale: Scale) -> Iterator[Record]:
    symbols, tables = zip(*series(scale), strict=True)
    for moment in zip(*tables, strict=True):
        for symbol, (t, o, h, low, c, v, closed, *_) in zip(symbols, moment, strict=True):
            value = orjson.dumps({"s": symbol, "i": "1m", "t": t, "T": closed, "o": o, "h": h, "l": low, "c": c, "v": v})
            yield Record(CANDLES.name, symbol.encode(), value, closed)


def _fill(broker: TestBroker, records: Iterator[Record]) -> None:
    publisher = open_publisher(
        KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka", linger_ms=20), "bench-fill"
    )
    for record in records:
        publisher.publish(record)
    publisher.flush(60)
    publisher.close(10)


def _watch(broker: TestBroker, topic: Topic, records: int) -> list[tuple[float, int]]:
    """Wait until a topic has so many records, or stands still; returns (seconds, records so far), from the first one on."""
    reader = open_reader(KafkaConfig(bootstrap_servers=broker.bootstrap_servers, client="confluent-kafka"), "bench-watch")
    grown: list[tuple[float, int]] = []
    began = time.perf_counter()
    for _ in repeat(None):
        now = time.perf_counter()
        if (grown and (grown[-1][1] >= records or now - grown[-1][0] > _STILL_S)) or now - began > _MOST_S:
            break
        try:
            came = sum(end - first for first, end in reader.bounds(topic.name).values())
        except BrokerError:
            continue  # a broker this busy may take too long to answer
        if came > (grown[-1][1] if grown else 0):
            grown.append((now, came))
        time.sleep(0.05)
    reader.close()
    assert len(grown) > 1, f"expected records in {topic.name} to come bit by bit, got {grown}"
    return grown
