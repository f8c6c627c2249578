"""Records that have come and stand in no file yet: bounded, a batch a partition, each of one day. Pure.

records ─► a batch a partition ─► full, old, or the day is over ─► a file
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from klinestream.archive.files import Span, date_of
from klinestream.market.topics import PUBLISHED_HEADER
from klinestream.runtime.kafka import Record

_DAY_IS_OVER_S = 5.0  # not at once: who catches up on yesterday would make a file of each reading

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class Batch:
    """Records of one partition and day, in order of offset."""

    date: str
    first: int
    since_s: float
    records: list[Record] = field(default_factory=list)
    bytes: int = 0

    def span(self, place: Place) -> Span:
        """What a file of it holds."""
        return Span(*place, self.first, self.records[-1].offset + 1, self.date)


class Pending:
    """Batches of all partitions. `next_offsets` says where each goes on, `dates` the day of its newest file."""

    def __init__(self, next_offsets: dict[Place, int], dates: dict[Place, str], *, file_bytes: int, all_bytes: int, file_s: float) -> None:
        """A batch becomes a file at `file_bytes`, after `file_s`, or with its day; the largest before if all together pass `all_bytes`."""
        self._next = dict(next_offsets)
        self._dates = dict(dates)
        self._file_bytes, self._all_bytes, self._file_s = file_bytes, all_bytes, file_s
        self._batches: dict[Place, Batch] = {}
        self._finished: list[tuple[Place, Batch]] = []
        self.bytes = 0

    @property
    def positions(self) -> dict[Place, int]:
        """From where each partition is to be read."""
        return dict(self._next)

    def __len__(self) -> int:
        return sum(len(batch.records) for batch in (*self._batches.values(), *(batch for _, batch in self._finished)))

    def add(self, records: Sequence[Record], now_s: float) -> None:
        """Take records, each partition's in order; one that was taken before is passed over."""
        for record in records:
            place = record.topic, record.partition
            if record.offset < self._next.get(place, 0):
                continue
            date = max(date_of(_published_ms(record)), self._dates.get(place, ""))
            batch = self._batches.get(place)
            if batch is not None and batch.date != date:
                self._finish(place)
                batch = None
            if batch is None:
                # From where the last file ended: offsets that no reader sees belong to the file that follows them.
                batch = self._batches[place] = Batch(date, self._next.get(place, record.offset), now_s)
            self._dates[place], self._next[place] = date, record.offset + 1
            size = len(record.key or b"") + len(record.value or b"") + 100
            batch.records.append(record)
            batch.bytes += size
            self.bytes += size

    def skip(self, place: Place, offset: int) -> None:
        """A partition goes on from this offset: what lies before is lost, and no file may claim it."""
        if place in self._batches:
            self._finish(place)
        self._next[place] = offset

    def due(self, now_s: float, today: str) -> Iterator[tuple[Span, list[Record]]]:
        """What is to become a file now; each counts as written when the next one is asked for."""
        for place, batch in list(self._batches.items()):
            age_s = now_s - batch.since_s
            if batch.bytes >= self._file_bytes or age_s >= self._file_s or (batch.date < today and age_s >= _DAY_IS_OVER_S):
                self._finish(place)
        while self.bytes > self._all_bytes and self._batches:
            left = self.bytes - sum(batch.bytes for _, batch in self._finished)
            if left <= self._all_bytes:
                break
            self._finish(max(self._batches, key=lambda place: self._batches[place].bytes))
        yield from self._take()

    def rest(self) -> Iterator[tuple[Span, list[Record]]]:
        """All that is left, at the end."""
        for place in list(self._batches):
            self._finish(place)
        yield from self._take()

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest record has waited."""
        return max((now_s - batch.since_s for batch in self._batches.values()), default=0.0)

    def _finish(self, place: Place) -> None:
        self._finished.append((place, self._batches.pop(place)))

    def _take(self) -> Iterator[tuple[Span, list[Record]]]:
        while self._finished:
            place, batch = self._finished[0]
            yield batch.span(place), batch.records
            self._finished.pop(0)
            self.bytes -= batch.bytes


def _published_ms(record: Record) -> int:
    for name, value in record.headers:
        if name == PUBLISHED_HEADER and value is not None and value.isdigit() and len(value) < 14:
            return int(value)
    return max(record.timestamp_ms, 0)
