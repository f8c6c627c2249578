"""What waits for one client: a bounded queue that conflates when the client is too slow. Pure.

    quick client   u1 u2 u3 … each as it was made, shared with all other clients
    queue full     for each symbol the newest window only, and how many were left out

Memory is bounded by the queue and one window for each symbol that the client follows.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from server import protocol

REPLIES_MOST = 16
"""Answers that may wait: a client that asks more before it reads is not served any more."""


@dataclass(frozen=True, slots=True)
class Update:
    """New windows of one symbol, encoded once for all clients; `text` is the whole message."""

    symbol: str
    values: tuple[bytes, ...]
    cursor: Mapping[int, int]
    text: str
    end_ms: int
    published_ms: int | None


@dataclass(frozen=True, slots=True)
class Moment:
    """When an update's newest window ended, and when it was published; None where it has none, or nobody says."""

    end_ms: int | None = None
    published_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message ready to be sent, text or binary; `moment` if it is an update."""

    text: str | bytes
    moment: Moment | None = None


class Outbox:
    """Messages for one client in order; `conflated` counts the windows left out so far."""

    def __init__(self, updates_most: int) -> None:
        """Conflate when this many updates wait."""
        self.conflated = 0
        self._updates_most = updates_most
        self._replies: deque[str] = deque()
        self._updates: deque[Update] = deque()
        self._latest: dict[str, tuple[Update, int]] = {}
        self._heartbeat: str | None = None

    def reply(self, text: str) -> bool:
        """Queue an answer; False if too many wait already."""
        if len(self._replies) >= REPLIES_MOST:
            return False
        self._replies.append(text)
        return True

    def heartbeat(self, text: str) -> None:
        """Queue a heartbeat in place of one that still waits."""
        self._heartbeat = text

    def put(self, update: Update) -> None:
        """Queue an update; conflates from a full queue until the client has caught up."""
        if not self._latest and len(self._updates) < self._updates_most:
            self._updates.append(update)
            return
        while self._updates:
            self._conflate(self._updates.popleft())
        self._conflate(update)

    def forget(self, symbol: str) -> None:
        """Drop what waits for a symbol that the client left, or of which it gets a whole snapshot."""
        self._updates = deque(update for update in self._updates if update.symbol != symbol)
        self._latest.pop(symbol, None)

    def take(self) -> Message | None:
        """The next message, or None."""
        if self._replies:
            return Message(self._replies.popleft())
        if self._heartbeat is not None:
            text, self._heartbeat = self._heartbeat, None
            return Message(text)
        if self._updates:
            update = self._updates.popleft()
            return Message(update.text, _moment(update))
        if self._latest:
            update, left_out = self._latest.pop(next(iter(self._latest)))
            return Message(protocol.update(update.symbol, update.values[-1:], update.cursor, conflated=left_out), _moment(update))
        return None

    def _conflate(self, update: Update) -> None:
        before, left_out = self._latest.get(update.symbol, (None, 0))
        now_left_out = len(update.values) - 1 + (1 if before else 0)
        self.conflated += now_left_out
        self._latest[update.symbol] = update, left_out + now_left_out


def _moment(update: Update) -> Moment:
    return Moment(update.end_ms, update.published_ms)
