"""What the project asks of a Kafka client. Both libraries keep it, and the same contract tests run on both.

Records are partitioned by murmur2 of the key, as Java and kafka-python do, so that a symbol has one partition whoever
writes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)  # not frozen: one is made for every kline, and that would take three times as long
class Record:
    """A record to publish, or one that was read: then partition and offset are set."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = -1
    offset: int = -1


Settled = Callable[[str | None, int, int], None]
"""What became of one record: why it is lost or None, its partition and its offset; both -1 where it is lost."""


class Publisher(Protocol):
    """Sends records, acknowledged by all replicas, idempotent, in order per partition."""

    def publish(self, record: Record, settled: Settled | None = None) -> None:
        """Queue a record; blocks while the queue is full. Raises DeliveryError if an earlier record was lost.

        `settled`, if given, is told once what became of this record, from a thread of the client's; its loss then raises nowhere.
        """

    def queued(self) -> int:
        """How many records aren't acknowledged yet."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all queued records are acknowledged. Raises DeliveryError."""

    def close(self, timeout_s: float) -> None:
        """Flush and disconnect."""


class Reader(Protocol):
    """Reads assigned partitions from given offsets, outside any consumer group."""

    def partitions(self, topic: str) -> Sequence[int]:
        """Partition numbers of a topic. Raises BrokerError if it does not exist."""

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Partition → (first offset held, offset after the last)."""

    def offsets_at(self, topic: str, time_ms: int) -> Mapping[int, int]:
        """Partition → offset of the first record not older than `time_ms`; the end where there is none."""

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read these (topic, partition) from these offsets on, and nothing else."""

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """What has come, after waiting for something up to `timeout_s`."""

    def close(self) -> None:
        """Disconnect."""
