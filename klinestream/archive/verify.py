"""Proves an archive: no offset between its first and its last file is missing, and each file holds what it was written with.

With a reader of the topics it compares too: of what they still hold, each record stands in a file, byte for byte.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pyarrow.compute as pc

from klinestream.archive import manifest, parquet
from klinestream.archive.columns import OFFSET
from klinestream.archive.digest import digest, shown
from klinestream.archive.files import Files, Span, current
from klinestream.market.errors import ArchiveError
from klinestream.runtime.kafka import Reader, Record

_POLL_S = 0.5
_SILENT_POLLS = 10


@dataclass(slots=True)
class Checked:
    """What was found of one partition of a topic."""

    topic: str
    partition: int
    first: int
    end: int
    files: int
    rows: int = 0
    bytes: int = 0
    compared: int | None = None
    """Records that were compared with the topic; None if it wasn't asked for."""
    faults: list[str] = field(default_factory=list)

    @property
    def without_records(self) -> int:
        """Offsets that have no record: markers of transactions, or what the broker's own compaction removed."""
        return self.end - self.first - self.rows


def verify(files: Files, topics: Sequence[str], reader: Reader | None = None) -> Iterator[Checked]:
    """Check all partitions of some topics, one after the other. Raises BrokerError."""
    for topic in topics:
        spans = current(files.spans(topic))
        for partition in sorted({span.partition for span in spans}):
            yield _checked(files, [span for span in spans if span.partition == partition], reader)


def verify_manifests(files: Files, topic: str) -> list[str]:
    """What is wrong with a topic's manifests, each file of their days included: not a byte may have changed since it was written."""
    faults = []
    for date in files.dates(topic):
        place = manifest.place(topic, date)
        text, spans = files.read(place), set(current(files.spans(topic, date)))
        told = manifest.parse(text, topic, date)
        if text is not None and not told:
            faults.append(f"{place} can't be read: `klinestream archive compact` makes it anew")
        # A kill may come before the manifest: what it doesn't tell of yet, or what was compacted since, proves itself.
        gone = [span for span in sorted(told.keys() - spans) if not any(other.covers(span) for other in spans)]
        faults += [f"{place} tells of {span.path}, which isn't there" for span in gone]
        for span in sorted(spans & told.keys()):
            try:
                if parquet.content(files, span) != told[span]:
                    faults.append(f"{span.path} isn't as it was written: {place} tells another size or another hash")
            except ArchiveError as error:
                faults.append(str(error))
    return faults


def _checked(files: Files, spans: Sequence[Span], reader: Reader | None) -> Checked:
    found = Checked(spans[0].topic, spans[0].partition, spans[0].first, spans[-1].end, len(spans))
    for before, after in pairwise(spans):
        if before.end < after.first:
            found.faults.append(f"offsets {before.end} to {after.first - 1} are in no file")
        elif before.end > after.first:
            found.faults.append(f"offsets {after.first} to {before.end - 1} are in two files: {before.path} and {after.path}")
        if before.date > after.date:
            found.faults.append(f"{after.path} is of a day before the file that it follows")
    held = _held(reader, found) if reader is not None else None
    for span in spans:
        try:
            _check_file(files, span, found, held)
        except ArchiveError as error:
            found.faults.append(str(error))
    return found


def _check_file(files: Files, span: Span, found: Checked, held: "_Held | None") -> None:
    content = parquet.content(files, span)
    offsets = parquet.read(files, span, [OFFSET]).column(OFFSET)
    found.rows += len(offsets)
    found.bytes += content.bytes
    if len(offsets) != content.rows or pc.count_distinct(offsets).as_py() != content.rows:
        found.faults.append(f"{span.path}: expected {content.rows} records with offsets of their own, found {len(offsets)}")
    if len(offsets) and not span.first <= pc.min(offsets).as_py() <= pc.max(offsets).as_py() < span.end:
        found.faults.append(f"{span.path}: holds offsets that its name doesn't tell of")
    if shown(digest(parquet.records(files, span))) != content.digest:
        found.faults.append(f"{span.path}: its records aren't those that it was written with (their digest differs)")
    if held is not None:
        held.compare(span, parquet.records(files, span), found)


class _Held:
    """What a topic still holds of a partition, read along with the files."""

    def __init__(self, reader: Reader, topic: str, partition: int, first: int, end: int) -> None:
        self._reader = reader
        self._topic = topic
        self.first, self.end = first, end
        self._records: list[Record] = []
        reader.assign({(topic, partition): first})

    def compare(self, span: Span, archived: Iterable[Record], found: Checked) -> None:
        """Compare a file with the topic, as far as that goes."""
        first, end = max(span.first, self.first), min(span.end, self.end)
        if first >= end:
            return
        mine = [record for record in archived if first <= record.offset < end]
        theirs = self._until(end)
        found.compared = (found.compared or 0) + len(theirs)
        if digest(mine) != digest(theirs):
            kept, held = {each.offset: digest([each]) for each in mine}, {each.offset: digest([each]) for each in theirs}
            lacking, other = (
                sorted(held.keys() - kept.keys()),
                [offset for offset in held.keys() & kept.keys() if held[offset] != kept[offset]],
            )
            # What only the file has was removed from the topic by its own compaction: no fault.
            if lacking:
                found.faults.append(f"{span.path}: lacks {len(lacking)} records of the topic, the first at offset {lacking[0]}")
            if other:
                found.faults.append(f"{span.path}: {len(other)} records differ from the topic's, the first at offset {min(other)}")

    def _until(self, end: int) -> list[Record]:
        silent = 0
        while (not self._records or self._records[-1].offset < end - 1) and silent < _SILENT_POLLS:
            got = self._reader.poll(_POLL_S)
            silent = 0 if got else silent + 1
            self._records += got
        taken = [record for record in self._records if record.offset < end]
        self._records = self._records[len(taken) :]
        return taken


def _held(reader: Reader, found: Checked) -> _Held:
    first, end = reader.bounds(found.topic)[found.partition]
    found.compared = 0
    return _Held(reader, found.topic, found.partition, max(first, found.first), min(end, found.end))
