"""Up to where records are dealt with: kept while messages wait, told in `crypto_pipeline_events`, found there again.

A record counts as read when its message is queued, and as settled when that was posted or given up. What is told is the
first one that is not settled, so a restart repeats what nobody saw the end of, and nothing else.
"""

import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from klinestream.market.errors import BrokerError
from klinestream.market.topics import PIPELINE_EVENTS
from klinestream.runtime.kafka import Reader

COMPONENT = "alerts"
EVENT = "alerted"
_TOLD = re.compile(r"(\S+) up to ((?:\S+/\d+:\d+ )*); data (fresh|stale since (\d+))")
_LOOK_BACK = 1000  # offsets at first, then four times as many, and so on
_POLL_S = 0.5
_SILENCE_S = 10.0
_MARKERS_S = 2.0  # a topic may end with the markers of transactions, which no reader ever sees

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class Position:
    """Where reading goes on, and what is not settled yet."""

    read: dict[Place, int] = field(default_factory=dict)
    """Place → the next offset to read."""
    stale_since_ms: int | None = None
    """What was last told of the data's age."""
    _open: defaultdict[Place, dict[int, None]] = field(default_factory=lambda: defaultdict(dict))

    def take(self, place: Place, offset: int, *, waits: bool) -> None:
        """A record was read; `waits` if it has a message that is not settled yet."""
        self.read[place] = offset + 1
        if waits:
            self._open[place][offset] = None

    def settle(self, place: Place, offset: int) -> None:
        """Its message is posted, or given up."""
        self._open[place].pop(offset, None)

    def settled(self) -> dict[Place, int]:
        """Place → the first offset that is not settled."""
        return {place: next(iter(self._open[place]), offset) if place in self._open else offset for place, offset in self.read.items()}

    def tell(self, receiver: str) -> str:
        """The position for people and for `told`.

        >>> Position({("crypto_signals", 0): 12}, 1_700_000_000_999).tell("https://hooks.example#1f")
        'https://hooks.example#1f up to crypto_signals/0:12 ; data stale since 1700000000999'
        """
        places = "".join(f"{topic}/{partition}:{offset} " for (topic, partition), offset in sorted(self.settled().items()))
        data = "fresh" if self.stale_since_ms is None else f"stale since {self.stale_since_ms}"
        return f"{receiver} up to {places}; data {data}"


def told(text: str, receiver: str) -> Position | None:
    """What `Position.tell` told of this receiver; None for other words."""
    found = _TOLD.fullmatch(text)
    if found is None or found[1] != receiver:
        return None
    places = (one.rsplit(":", 1) for one in found[2].split())
    read = {(place.rsplit("/", 1)[0], int(place.rsplit("/", 1)[1])): int(offset) for place, offset in places}
    return Position(read, int(found[4]) if found[4] else None)


def find(reader: Reader, receiver: str) -> Position | None:
    """The newest position told of a receiver, looked for from the topic's end backwards. Raises BrokerError."""
    newest: Position | None = None
    for partition, (first, end) in reader.bounds(PIPELINE_EVENTS.name).items():
        back, upper = _LOOK_BACK, end
        while newest is None and upper > first:
            lower = max(first, end - back)
            newest = _newest(reader, partition, (lower, upper), receiver)
            back, upper = 4 * back, lower
    return newest


def _newest(reader: Reader, partition: int, stretch: tuple[int, int], receiver: str) -> Position | None:
    lower, upper = stretch
    newest: Position | None = None
    reader.assign({(PIPELINE_EVENTS.name, partition): lower})
    at, heard_s = lower, time.monotonic()
    while at < upper:
        silence_s = time.monotonic() - heard_s
        if at > lower and silence_s > _MARKERS_S:
            break
        if silence_s > _SILENCE_S:
            raise BrokerError(
                f"expected {PIPELINE_EVENTS.name} from offset {lower} to {upper}, but nothing came for {_SILENCE_S:g} s: "
                "check that the broker runs, and what it logs"
            )
        for record in reader.poll(_POLL_S):
            if (record.topic, record.partition) != (PIPELINE_EVENTS.name, partition) or not at <= record.offset < upper:
                continue
            at, heard_s = record.offset + 1, time.monotonic()
            newest = _position_of(record.value, receiver) or newest
    return newest


def _position_of(value: bytes | None, receiver: str) -> Position | None:
    try:
        event: Mapping[str, object] = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(event, dict) or (event.get("component"), event.get("event")) != (COMPONENT, EVENT):
        return None
    return told(str(event.get("detail")), receiver)
