"""Small files that follow each other become one: the whole of them is written first, then they go.

A reader that lists files in between finds some records twice, never one too few; `current` leaves out what a larger file covers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from klinestream.archive import parquet
from klinestream.archive.files import Files, Span, current


@dataclass(frozen=True, slots=True)
class Small:
    """When files are small, and how many are too many."""

    bytes: int
    """Files become one up to this size."""
    most: int
    """As many small files in a row may stay while their day goes on; of a day that is over none but the last."""


def runs(sized: Sequence[tuple[Span, int]], small: Small, today: str) -> Iterator[list[Span]]:
    """Files of one topic, in order, that are to become one: of one partition and day, without a hole between them."""
    for (_, date), of_day in groupby(sized, key=lambda each: (each[0].partition, each[0].date)):
        least = small.most if date >= today else 2
        run: list[Span] = []
        size = 0
        for span, bytes_ in of_day:
            if run and (run[-1].end != span.first or size + bytes_ > small.bytes):
                if len(run) >= least or (len(run) > 1 and size + bytes_ > small.bytes):
                    yield run
                run, size = [], 0
            run.append(span)
            size += bytes_
        if len(run) >= least:
            yield run


def compact(files: Files, topic: str, date: str, small: Small, today: str) -> Iterator[parquet.Content]:
    """Compact a day of a topic; yields each file that was made. Raises ArchiveError."""
    sized = [(span, files.size(span.path)) for span in current(files.spans(topic, date))]
    for run in runs(sized, small, today):
        together = Span(topic, run[0].partition, run[0].first, run[-1].end, date)
        yield parquet.join(files, run, together)
        for span in run:
            files.remove(span)
