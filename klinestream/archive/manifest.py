"""What a day of a topic holds, file by file, for whoever reads it without klinestream.

It is made from the files and can be made again at any time: they, not it, say where the archive goes on.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from klinestream.archive import parquet
from klinestream.archive.digest import joined, shown
from klinestream.archive.files import MANIFEST, Files, Span, current
from klinestream.archive.parquet import Content

VERSION = 1


def place(topic: str, date: str) -> str:
    """Where a day's manifest is, below the root."""
    return f"{topic}/date={date}/{MANIFEST}"


def make(topic: str, date: str, contents: Iterable[Content]) -> bytes:
    """A manifest: files in order of partition and offset, and what they come to."""
    files = sorted(contents, key=lambda each: each.span)
    partitions: dict[str, dict[str, Any]] = {}
    for number in sorted({each.span.partition for each in files}):
        of = [each for each in files if each.span.partition == number]
        partitions[str(number)] = {
            "first_offset": of[0].span.first,
            "end_offset": of[-1].span.end,
            "rows": sum(each.rows for each in of),
            "digest": shown(joined(int(each.digest, 16) for each in of)),
            "files": [each.told() for each in of],
        }
    told = {"version": VERSION, "topic": topic, "date": date, "rows": sum(each.rows for each in files), "partitions": partitions}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2)


def parse(text: bytes | None, topic: str, date: str) -> dict[Span, Content]:
    """What a manifest says of its files; nothing where it is none, or of another version."""
    try:
        told = orjson.loads(text or b"")
        if told["version"] != VERSION:
            return {}
        found = {}
        for number, partition in told["partitions"].items():
            for each in partition["files"]:
                span = Span(topic, int(number), each["first_offset"], each["end_offset"], date)
                times = each["first_timestamp_ms"], each["last_timestamp_ms"]
                found[span] = Content(span, each["rows"], each["digest"], *times, each["bytes"], each["blake2b"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    return found


class Manifests:
    """The manifests of an archive that is written to: kept in step with its files."""

    def __init__(self, files: Files) -> None:
        """Over these files."""
        self._files = files
        self._contents: dict[tuple[str, str], dict[Span, Content]] = {}

    def add(self, content: Content) -> None:
        """A file was written; those that it covers count no more."""
        known = self._of(content.span.topic, content.span.date)
        for span in [each for each in known if content.span.covers(each)]:
            del known[span]
        known[content.span] = content

    def write(self, topic: str, date: str) -> None:
        """Write a day's manifest anew. Raises ArchiveError."""
        self._files.put(place(topic, date), make(topic, date, self._of(topic, date).values()))
        self._forget_all_but(topic, date)

    def _of(self, topic: str, date: str) -> dict[Span, Content]:
        key = topic, date
        if key not in self._contents:
            known = parse(self._files.read(place(topic, date)), topic, date)
            spans = current(self._files.spans(topic, date))
            self._contents[key] = {span: known.get(span) or parquet.content(self._files, span) for span in spans}
        return self._contents[key]

    def _forget_all_but(self, topic: str, date: str) -> None:
        """Of each topic only the newest day grows."""
        for key in [each for each in self._contents if each[0] == topic and each[1] < date]:
            del self._contents[key]
