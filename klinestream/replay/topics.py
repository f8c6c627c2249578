"""`klinestream replay topics`: archived records back on Kafka, as they were, for the jobs to run over.

    archive ─► one partition after the other, merged by time ─► as fast as asked for ─► PREFIXcrypto_kline_data, …

Key, value, time and headers are those of the record; so is its partition, which follows from the key. Each partition keeps its order.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge

from klinestream.archive import parquet
from klinestream.archive.files import Files, Span, current, date_of
from klinestream.market.errors import ConfigError
from klinestream.market.intervals import DAY_MS
from klinestream.market.topics import BY_NAME, Topic
from klinestream.runtime.kafka import Publisher, Record
from klinestream.runtime.sections import KafkaConfig
from klinestream.runtime.topic_admin import TopicAdmin

_PAUSE_LEAST_S = 0.001
_FOREVER_MS = 36_500 * DAY_MS


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which records are wanted: of some topics, with times from `from_ms` to before `to_ms`."""

    topics: tuple[str, ...]
    from_ms: int
    to_ms: int


def make_topics(kafka: KafkaConfig, chosen: Chosen) -> list[str]:
    """Make what the jobs read and write, under the prefix of `kafka`. Raises BrokerError; and ConfigError where they hold records already.

    What is replayed is old: its topics keep records whatever their age, bounded by bytes alone.
    """
    topics = [replace(topic, retention_ms=_FOREVER_MS) if topic.cleanup == "delete" else topic for topic in BY_NAME.values()]
    with TopicAdmin(kafka) as admin:
        made = admin.create(topics)
        filled = [name for name, there in admin.positions([BY_NAME[name] for name in chosen.topics]).items() if there.records]
    if filled:
        raise ConfigError(
            f"expected topics with the prefix {kafka.topic_prefix} that hold nothing yet, but {', '.join(filled)} holds records: "
            "choose another prefix"
        )
    return made


def spans(files: Files, chosen: Chosen) -> list[Span]:
    """The files that may hold what is wanted: a record is published at its time or later. Raises ConfigError where there are none."""
    first = date_of(max(0, chosen.from_ms - DAY_MS))
    found = [span for topic in chosen.topics for span in current(files.spans(topic)) if span.date >= first]
    if not found:
        names = ", ".join(chosen.topics)
        raise ConfigError(f"expected files of {names} from {first} on in {files.root}, found none: check --from and archive.url")
    return found


def records(files: Files, chosen: Chosen, found: Sequence[Span], read: Callable[[Span], None] = lambda _: None) -> Iterator[Record]:
    """All that is wanted, about by time, each partition in its own order. `read` is told of each file opened. Raises ArchiveError."""
    partitions = sorted({(span.topic, span.partition) for span in found})
    streams = [_partition(files, chosen, [span for span in found if (span.topic, span.partition) == place], read) for place in partitions]
    return merge(*streams, key=lambda record: record.timestamp_ms)


def publish(publisher: Publisher, wanted: Iterator[Record], speed: float | None, told: Callable[[int], None] = lambda _: None) -> int:
    """Publish records, `speed` times as fast as they were made, or as fast as they are taken if that is None; returns how many.

    `told` gets the number so far, now and then. Raises DeliveryError.
    """
    count, began_s, first_ms = 0, time.monotonic(), None
    for record in wanted:
        first_ms = record.timestamp_ms if first_ms is None else first_ms
        if speed is not None:
            wait_s = (record.timestamp_ms - first_ms) / 1000 / speed - (time.monotonic() - began_s)
            if wait_s > _PAUSE_LEAST_S:
                time.sleep(wait_s)
        publisher.publish(record)
        count += 1
        if count % 1000 == 0:
            told(count)
    told(count)
    return count


def topic_of(name: str) -> Topic:
    """A topic by its name. Raises ConfigError."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise ConfigError(f"--topic: expected a name that `klinestream topics list` shows, got {name}") from None


def _partition(files: Files, chosen: Chosen, found: Sequence[Span], read: Callable[[Span], None]) -> Iterator[Record]:
    for span in found:
        read(span)
        for record in parquet.records(files, span):
            if chosen.from_ms <= record.timestamp_ms < chosen.to_ms:
                yield record
