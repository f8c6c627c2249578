"""Topics in memory, of one partition each, read as a broker's are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from klinestream.runtime.kafka import Record


class KeptTopics:
    """A `Reader`. `first`: what retention took from the front; `markers`: offsets past the last record that no reader sees."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = defaultdict(list)
        self.first: dict[str, int] = defaultdict(int)
        self.markers: dict[str, int] = defaultdict(int)
        self._position: dict[str, int] = {}

    def partitions(self, topic: str) -> Sequence[int]:
        return [0] if topic in self.records else []

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        return {0: (self.first[topic], len(self.records[topic]) + self.markers[topic])}

    def offsets_at(self, topic: str, time_ms: int) -> Mapping[int, int]:
        found = (r.offset for r in self.records[topic][self.first[topic] :] if r.timestamp_ms >= time_ms)
        return {0: next(found, len(self.records[topic]))}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._position = {topic: offset for (topic, _), offset in positions.items()}

    def poll(self, timeout_s: float) -> Sequence[Record]:
        assert timeout_s > 0
        found = [record for topic, offset in self._position.items() for record in self.records[topic][offset : offset + 100]]
        self._position = {topic: offset + 100 for topic, offset in self._position.items()}
        return found

    def close(self) -> None:
        self._position = {}
