"""What a client of the websocket knows: its cursor, and which records it has. Pure: messages in, batches of new records out.

Whatever the line does, no record is handed on twice and none is left out without a word: after a reconnect the server goes on from
the cursor, or sends a snapshot, of which only what is new is handed on, marked `fresh`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from klinestream.client.address import ClientError

VERSION = 2
HELD_MOST = 2000
"""Identities remembered of each series: more than a snapshot can have."""
_TIMES = {"windows": "window_end", "provisional": "T", "books": "E"}

Record = dict[str, Any]
_Series = tuple[str, str, str]
_Identity = tuple[int, str, str]
_Rank = tuple[int, int, int]
"""Revision, klines, since: of candles the one of more klines counts."""


@dataclass(frozen=True, slots=True)
class Batch:
    """New records of one series, with their fields as in the topic."""

    kind: str
    symbol: str
    interval: str
    """Empty for windows, provisional and books."""
    records: Sequence[Record]
    fresh: bool = False
    """They came with a snapshot: some before them may be missing."""
    conflated: int = 0
    """So many before them were left out, since this client was too slow."""


@dataclass(slots=True)
class Session:
    """One subscription, over as many connections as it takes."""

    symbols: Sequence[str]
    kinds: Sequence[str]
    intervals: Sequence[str]
    limit: int = 100
    cursor: dict[str, dict[str, int]] = field(default_factory=dict)
    subscribed: bool = False
    """Whether the server has taken the subscription, on the present connection."""
    warning: str = ""
    """The last error that the server has told since."""
    _held: dict[_Series, dict[_Identity, _Rank]] = field(default_factory=dict)

    def subscribe(self) -> str:
        """The message with which each connection begins."""
        self.subscribed = False
        message: dict[str, Any] = {"op": "subscribe", "kinds": list(self.kinds), "symbols": list(self.symbols), "limit": self.limit}
        message |= {"intervals": list(self.intervals)} if self.intervals else {}
        return orjson.dumps(message | ({"cursor": self.cursor} if self.cursor else {})).decode()

    def take(self, text: str | bytes) -> Iterator[Batch]:
        """The new records of a message. Raises ClientError where the server can't do what was asked, or speaks otherwise."""
        message = _object(text)
        match message["type"]:
            case "subscribed":
                self.subscribed = True
            case "snapshot":
                yield from self._batch(message, fresh=True)
            case "update":
                for part in message["series"]:
                    yield from self._batch(part, fresh=False)
            case "error":
                self._refused(message)
        for topic, offsets in message.get("cursor", {}).items():
            self.cursor.setdefault(topic, {}).update(offsets)

    def _batch(self, part: Mapping[str, Any], *, fresh: bool) -> Iterator[Batch]:
        kind, symbol, interval = part["kind"], part["symbol"], part.get("interval", "")
        held = self._held.setdefault((kind, symbol, interval), {})
        new = [record for record in part["records"] if _keep(held, kind, record)]
        if new or part.get("conflated"):
            yield Batch(kind, symbol, interval, new, fresh, part.get("conflated", 0))

    def _refused(self, message: Mapping[str, Any]) -> None:
        self.warning = f"the server expected {message['expected']}, got {message['came']}: {message.get('do', '')}"
        if not self.subscribed:
            raise ClientError(self.warning)


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ClientError("expected JSON from the server: is this address one of klinestream's server?") from None
    if not isinstance(message, dict) or "type" not in message:
        raise ClientError("expected a message with a type from the server: is this address one of klinestream's server?")
    # Before the subscription a server speaks its first version.
    if message.get("v") != VERSION and message["type"] != "heartbeat":
        raise ClientError(f"expected version {VERSION} of the protocol, got {message.get('v')}: update the older of client and server")
    return message


def _keep(held: dict[_Identity, _Rank], kind: str, record: Record) -> bool:
    """Remember a record; False if it, or one that counts more, was there before."""
    identity = record[_TIMES.get(kind, "t")], record.get("rule", ""), record.get("side", "")
    rank = record.get("revision", 0), record.get("klines", 0), -record.get("since", 0)
    before = held.get(identity)
    if before is not None and before >= rank:
        return False
    held[identity] = rank
    while len(held) > HELD_MOST:
        del held[min(held)]
    return True
