"""The server's messages of version 2, in any encoding. Pure.

- `subscribed`: what a subscribe came to; then its records follow: a `snapshot` a series, an `update` for those that go on;
- `snapshot`: the newest records of one series; replaces what the client holds of it;
- `update`: further records of several series; a series' `conflated` says how many were left out for a slow client;
- `heartbeat`: the server's time, and the age of the newest record of each kind;
- `error`: what was expected, what came, and what to do.

A `cursor` stands in a message only when the client has, with it, all that comes before the cursor.
"""

from collections.abc import Mapping, Sequence

from klinestream.market.kinds import RecordKind
from server.protocol import MessageError
from server.stream.encoding import Encoding
from server.stream.requests import Selection
from server.stream.series import Item, Positions, Series

VERSION = 2


class Part:
    """Records of one series, encoded once for all clients of an encoding."""

    __slots__ = ("_encoded", "items", "series")

    def __init__(self, series: Series, items: Sequence[Item]) -> None:
        """`items` in the order in which they were read; at least one."""
        self.series = series
        self.items = items
        self._encoded: dict[str, bytes] = {}

    def encoded(self, encoding: Encoding) -> bytes:
        """The part as it stands in an update."""
        found = self._encoded.get(encoding.name)
        if found is None:
            found = self._encoded[encoding.name] = part(encoding, self.series, [item.value for item in self.items])
        return found


class Cursor:
    """A position, encoded once for all clients of an encoding."""

    __slots__ = ("_encoded", "positions")

    def __init__(self, positions: Positions) -> None:
        """Topic → partition → next offset."""
        self.positions = positions
        self._encoded: dict[str, bytes] = {}

    def encoded(self, encoding: Encoding) -> bytes:
        """The cursor as it stands in a message: partitions are text, as JSON would have them."""
        found = self._encoded.get(encoding.name)
        if found is None:
            told = {topic: {str(partition): offset for partition, offset in of.items()} for topic, of in self.positions.items()}
            found = self._encoded[encoding.name] = encoding.value(told)
        return found


def part(encoding: Encoding, series: Series, values: Sequence[bytes], *, conflated: int = 0) -> bytes:
    """Records of one series, in an update."""
    head = series.named() | ({"conflated": conflated} if conflated else {})
    return encoding.mapping(head, {"records": encoding.array([encoding.record(value) for value in values])})


def update(encoding: Encoding, parts: Sequence[bytes], cursor: Cursor | None) -> bytes:
    """Further records."""
    return encoding.mapping({"type": "update", "v": VERSION}, {"series": encoding.array(parts)} | _cursor(encoding, cursor))


def snapshot(encoding: Encoding, series: Series, records: Sequence[bytes], cursor: Cursor | None, *, more: bool) -> bytes:
    """The newest records of a series, encoded; `more` where the limit left older ones out."""
    head = {"type": "snapshot", "v": VERSION, **series.named(), "more": more}
    return encoding.mapping(head, {"records": encoding.array(records)} | _cursor(encoding, cursor))


def subscribed(encoding: Encoding, selection: Selection, symbols: Sequence[str], *, now_ms: int, stale_after_ms: int) -> bytes:
    """What a subscribe came to: `symbols` are those that its names mean now."""
    chosen = {"kinds": list(selection.kinds), "symbols": list(symbols), "intervals": list(selection.intervals)}
    return encoding.value({"type": "subscribed", "v": VERSION, **chosen, "server_time": now_ms, "stale_after_ms": stale_after_ms})


def heartbeat(encoding: Encoding, now_ms: int, newest_ms: Mapping[RecordKind, int | None]) -> bytes:
    """The server's time, and how old the newest record of each kind is; null where there is none."""
    ages = {kind.value: None if newest is None else now_ms - newest for kind, newest in newest_ms.items()}
    return encoding.value({"type": "heartbeat", "v": VERSION, "server_time": now_ms, "age_ms": ages})


def error(encoding: Encoding, fault: MessageError) -> bytes:
    """What was expected, what came, and what to do."""
    return encoding.value({"type": "error", "v": VERSION, "expected": fault.expected, "came": fault.came, "do": fault.do})


def _cursor(encoding: Encoding, cursor: Cursor | None) -> dict[str, bytes]:
    return {} if cursor is None else {"cursor": cursor.encoded(encoding)}
