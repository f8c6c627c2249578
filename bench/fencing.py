"""What it would cost to keep one producer at a time by transactions, next to what is done: idempotent records, any number of producers.

A second of 1,400 symbols in one burst: until a reader that reads committed records has the last of them; and how long
nobody writes when one producer dies and the next one takes its transactional id over.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.market import SYMBOLS, lines
from bench.report import Report, percentiles
from klinestream.market.events import SECOND_MS
from klinestream.market.topics import KLINES
from tests.stack import broker_with_topics

_SECONDS = 40
_WARM = 5
_TAKE_OVERS = 10
_WAIT_S = 30.0
Kline = tuple[str, int, bytes]


def measure(report: Report, folder: Path) -> None:
    """Both ways, on one broker."""
    with broker_with_topics(folder) as broker:
        klines = list(lines((int(time.time()) - _SECONDS - 5) * SECOND_MS, _SECONDS))
        bursts = [klines[start : start + SYMBOLS] for start in range(0, len(klines), SYMBOLS)]
        reader = _reader(broker.bootstrap_servers)
        plain = _producer(broker.bootstrap_servers)
        report.row("idempotent, ms to the last record", **percentiles(_bursts(bursts, reader, plain, plain.flush)))
        owner = _producer(broker.bootstrap_servers, "owner")
        owner.init_transactions(_WAIT_S)

        def commit() -> None:
            owner.commit_transaction(_WAIT_S)

        report.row(
            "a transaction a second, ms to the last record", **percentiles(_bursts(bursts, reader, owner, commit, owner.begin_transaction))
        )
        report.row("take over a transactional id, ms without a writer", **percentiles(_take_overs(broker.bootstrap_servers, owner)))
        reader.close()
    report.note(f"{SYMBOLS:,} klines a burst, {_SECONDS - _WARM} bursts after {_WARM} of warming up, confluent-kafka, one broker")
    report.note("take over: init_transactions of the next owner while the last one's transaction is open, up to its own first commit")


def _producer(servers: str, transactional: str = "") -> Producer:
    settings = {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 2, "compression.type": "lz4"}
    return Producer(settings | ({"transactional.id": transactional} if transactional else {}))


def _reader(servers: str) -> Consumer:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": uuid.uuid4().hex, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(KLINES.name, partition, 0) for partition in range(KLINES.partitions)])
    return consumer


def _bursts(
    bursts: Sequence[Sequence[Kline]],
    reader: Consumer,
    producer: Producer,
    commit: Callable[[], object],
    begin: Callable[[], object] = lambda: None,
) -> list[float]:
    found = []
    for burst in bursts:
        began_s = time.perf_counter()
        begin()
        for symbol, closed_ms, line in burst:
            producer.produce(KLINES.name, line, symbol.encode(), timestamp=closed_ms)
        commit()
        read = 0
        while read < len(burst):
            read += len(reader.consume(len(burst) - read, timeout=0.005))
        found.append((time.perf_counter() - began_s) * 1000)
    return found[_WARM:]


def _take_overs(servers: str, owner: Producer) -> list[float]:
    found = []
    for _ in range(_TAKE_OVERS):
        owner.begin_transaction()
        owner.produce(KLINES.name, b"{}", b"BTCUSDT")
        owner.flush(_WAIT_S)
        began_s = time.perf_counter()
        owner = _producer(servers, "owner")
        owner.init_transactions(_WAIT_S)
        owner.begin_transaction()
        owner.produce(KLINES.name, b"{}", b"BTCUSDT")
        owner.commit_transaction(_WAIT_S)
        found.append((time.perf_counter() - began_s) * 1000)
    return found
