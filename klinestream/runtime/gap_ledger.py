"""Reads a ledger of gaps from its topic, up to where that ends now."""

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import structlog

from klinestream.market.errors import BrokerError, RecordError
from klinestream.market.id_ledger import IdLedger
from klinestream.market.ledger import Ledger
from klinestream.market.stories import Stories
from klinestream.market.topics import FEED_GAPS, ID_GAPS
from klinestream.runtime.kafka import Reader, Record, open_reader
from klinestream.runtime.sections import KafkaConfig

log = structlog.get_logger()

CLIENT_ID = "klinestream-gaps"
_POLL_S = 0.5
_SILENCE_S = 15.0  # a broker that is there gives what it holds in milliseconds; one that starts, in seconds
_TOLD_MOST = 5


def read_ledger(config: KafkaConfig, *, topic: str = FEED_GAPS.name, clock_s: Callable[[], float] = time.monotonic) -> Ledger:
    """All that the topic tells of gaps, from its beginning to its present end.

    Records that can't be used are counted in `Ledger.unusable`, the first of them logged. Raises BrokerError if no broker
    answers, if there is no such topic, or if records that must be there don't come for 15 s.
    """
    ledger = Ledger()
    _read(config, topic, ledger, clock_s)
    return ledger


def read_id_ledger(config: KafkaConfig) -> IdLedger:
    """All that is told of missing ids; as `read_ledger`."""
    ledger = IdLedger()
    _read(config, ID_GAPS.name, ledger, time.monotonic)
    return ledger


def _read(config: KafkaConfig, topic: str, ledger: Stories[Any], clock_s: Callable[[], float]) -> None:
    with closing(open_reader(config, CLIENT_ID)) as reader:
        bounds = {partition: (first, end) for partition, (first, end) in reader.bounds(topic).items() if first < end}
        reader.assign({(topic, partition): first for partition, (first, _) in bounds.items()})
        _read_to(reader, topic, {partition: end for partition, (_, end) in bounds.items()}, ledger, clock_s)


def _read_to(reader: Reader, topic: str, ends: dict[int, int], ledger: Stories[Any], clock_s: Callable[[], float]) -> None:
    """Read until every partition has come to its end."""
    heard_s = clock_s()
    while ends:
        for record in reader.poll(_POLL_S):
            _take(record, ledger)
            end = ends.get(record.partition)
            if end is None:
                continue  # written after the reading began
            heard_s = clock_s()
            if record.offset + 1 >= end:
                del ends[record.partition]
        if clock_s() - heard_s > _SILENCE_S:
            raise BrokerError(
                f"expected {topic} up to offset {ends} (partition: offset), but nothing came for {_SILENCE_S:g} s: "
                "check that the broker runs, and what it logs; then try again"
            )


def _take(record: Record, ledger: Stories[Any]) -> None:
    try:
        ledger.read(record.value)
    except RecordError as error:
        if ledger.unusable <= _TOLD_MOST:
            log.warning("record is no gap", topic=record.topic, partition=record.partition, offset=record.offset, reason=str(error))
