"""How far each partition of each topic stands in the tables, and where reading goes on. The decision is pure.

A position belongs to a topic's id, which no other topic ever has: one that was deleted and made anew has no position, so it is read from
its first record, and what the tables hold of the old one stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from klinestream.stores.postgres.connecting import Database


class Found(Enum):
    """What is to be told of where a partition goes on."""

    NOTHING = "nothing"
    DROPPED = "the broker dropped records before they were stored"
    SHORTER = "the partition ends before what was stored of it: the broker lost records, read again from its first one"


@dataclass(frozen=True, slots=True)
class Start:
    """Where a partition is read from."""

    offset: int
    found: Found = Found.NOTHING
    lost: int = 0


def start(held: int | None, first: int, end: int) -> Start:
    """Go on at the held position, as far as the partition has it.

    >>> start(None, 5, 9).offset, start(7, 5, 9).offset, start(3, 5, 9).lost, start(12, 5, 9).offset
    (5, 7, 2, 5)
    """
    if held is None:
        return Start(first)
    if held > end:
        return Start(first, Found.SHORTER)
    if held < first:
        return Start(first, Found.DROPPED, first - held)
    return Start(held)


def read(connection: Database) -> dict[tuple[str, int], int]:
    """(topic id, partition) → next offset."""
    rows = connection.execute("SELECT topic_id, partition, next_offset FROM positions").fetchall()
    return {(topic_id, partition): offset for topic_id, partition, offset in rows}


def known_before(connection: Database, topic: str, topic_id: str) -> bool:
    """Whether a topic of this name but another id was stored, and this one was not yet."""
    row = connection.execute(
        "SELECT bool_and(topic_id <> %s) FROM positions WHERE topic = %s HAVING count(*) > 0", (topic_id, topic)
    ).fetchone()
    return bool(row and row[0])


def forget(connection: Database, topic_ids: Sequence[str]) -> None:
    """Read these topics from their beginning."""
    connection.execute("DELETE FROM positions WHERE topic_id = ANY(%s)", (list(topic_ids),))


def note(connection: Database, offsets: Mapping[tuple[str, int], int], topic_ids: Mapping[str, str]) -> None:
    """Begin to hold positions, of (topic, partition); one that another sink has written meanwhile stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO positions (topic_id, partition, topic, next_offset) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [(topic_ids[topic], partition, topic, offset) for (topic, partition), offset in sorted(offsets.items())],
        )


def go_on(connection: Database, starts: Mapping[tuple[str, int], int]) -> None:
    """Raise positions past what the broker dropped; another sink may be further already."""
    for (topic_id, partition), offset in starts.items():
        connection.execute(
            "UPDATE positions SET next_offset = greatest(next_offset, %s) WHERE topic_id = %s AND partition = %s",
            (offset, topic_id, partition),
        )


def set_back(connection: Database, starts: Mapping[tuple[str, int], int]) -> None:
    """Lower positions, where a broker lost what was stored."""
    for (topic_id, partition), offset in starts.items():
        connection.execute("UPDATE positions SET next_offset = %s WHERE topic_id = %s AND partition = %s", (offset, topic_id, partition))
