"""Topics under other names: with a prefix, so that a replay stands beside what is live. Nobody else sees the prefix."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from klinestream.runtime.kafka.interface import Publisher, Reader, Record, Settled


class PrefixedPublisher:
    """Keeps `Publisher`."""

    def __init__(self, inner: Publisher, prefix: str) -> None:
        """Over another publisher."""
        self._inner, self._prefix = inner, prefix

    def publish(self, record: Record, settled: Settled | None = None) -> None:
        """Queue a record for the topic with the prefix; see `Publisher`."""
        self._inner.publish(replace(record, topic=self._prefix + record.topic), settled)

    def queued(self) -> int:
        """How many records aren't acknowledged yet."""
        return self._inner.queued()

    def flush(self, timeout_s: float) -> None:
        """Wait until all is acknowledged; see `Publisher`."""
        self._inner.flush(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Flush and disconnect; see `Publisher`."""
        self._inner.close(timeout_s)


class PrefixedReader:
    """Keeps `Reader`."""

    def __init__(self, inner: Reader, prefix: str) -> None:
        """Over another reader."""
        self._inner, self._prefix = inner, prefix

    def partitions(self, topic: str) -> Sequence[int]:
        """Partition numbers of a topic; see `Reader`."""
        return self._inner.partitions(self._prefix + topic)

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Partition → (first offset held, offset after the last)."""
        return self._inner.bounds(self._prefix + topic)

    def offsets_at(self, topic: str, time_ms: int) -> Mapping[int, int]:
        """Partition → offset of the first record not older than `time_ms`; the end where there is none."""
        return self._inner.offsets_at(self._prefix + topic, time_ms)

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Read these (topic, partition) from these offsets on, and nothing else."""
        self._inner.assign({(self._prefix + topic, partition): offset for (topic, partition), offset in positions.items()})

    def poll(self, timeout_s: float) -> Sequence[Record]:
        """What has come, after waiting for something up to `timeout_s`."""
        found = self._inner.poll(timeout_s)
        for record in found:
            record.topic = record.topic.removeprefix(self._prefix)
        return found

    def close(self) -> None:
        """Disconnect."""
        self._inner.close()
