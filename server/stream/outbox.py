"""What waits for one client of version 2: bounded, in order, and conflated when the client is too slow. Pure.

    quick client   one message a tick: what is new of all its series, joined from parts that all clients share
    queue full     of each series the newest record, how many were left out, and the cursor after all of them
    order books    never queued: of each symbol the newest that the client hasn't got

Memory is bounded by the queue and one record for each series that the client follows.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence

from server.outbox import REPLIES_MOST, Message, Moment
from server.stream import messages
from server.stream.encoding import Encoding
from server.stream.messages import Cursor, Part
from server.stream.series import Item, Series


class Tick:
    """What one reading brought for clients that follow the same in one encoding; its message is made once for all of them."""

    __slots__ = ("_message", "cursor", "moment", "parts")

    def __init__(self, parts: Sequence[Part], cursor: Cursor, moment: Moment) -> None:
        """At least one part."""
        self.parts = parts
        self.cursor = cursor
        self.moment = moment
        self._message: bytes | None = None

    def message(self, encoding: Encoding) -> bytes:
        """The whole update; `encoding` is the same at each call."""
        if self._message is None:
            self._message = messages.update(encoding, [part.encoded(encoding) for part in self.parts], self.cursor)
        return self._message

    @property
    def only_newest_counts(self) -> bool:
        """Whether all of it is worthless once there is something newer."""
        return all(part.series.kind.only_newest_counts for part in self.parts)

    def without(self, series: Collection[Series]) -> "Tick":
        """What is left of it, maybe nothing; others may hold this one."""
        left = [part for part in self.parts if part.series not in series]
        return self if len(left) == len(self.parts) else Tick(left, self.cursor, self.moment)


class StreamOutbox:
    """Messages for one client in order; `conflated` counts the records left out so far."""

    def __init__(self, ticks_most: int, encoding: Encoding) -> None:
        """Conflate when this many ticks wait."""
        self.conflated = 0
        self._encoding = encoding
        self._ticks_most = ticks_most
        self._answers: deque[Iterator[bytes]] = deque()
        self._ticks: deque[Tick] = deque()
        self._latest: dict[Series, tuple[Item, int]] = {}
        self._newest: dict[Series, tuple[Item, int]] = {}
        """Of what nobody goes on from."""
        self._after: dict[str, dict[int, int]] = {}
        self._moment = Moment()
        self._heartbeat: bytes | None = None

    @property
    def updates_wait(self) -> bool:
        """Whether the client lacks records that are on their way: then no cursor past them may overtake them."""
        return bool(self._ticks or self._latest)

    def reply(self, answer: Iterator[bytes]) -> bool:
        """Queue an answer, whose messages are made when it is their turn; False if too many wait already."""
        if len(self._answers) >= REPLIES_MOST:
            return False
        self._answers.append(answer)
        return True

    def heartbeat(self, message: bytes) -> None:
        """Queue a heartbeat in place of one that still waits."""
        self._heartbeat = message

    def put(self, tick: Tick) -> None:
        """Queue a tick; conflates from a full queue until the client has caught up, and what only counts while it is newest at once."""
        if tick.only_newest_counts:
            self._replace(self._newest, tick)
            return
        if not self._latest and len(self._ticks) < self._ticks_most:
            self._ticks.append(tick)
            return
        while self._ticks:
            self._conflate(self._ticks.popleft())
        self._conflate(tick)

    def forget(self, series: Collection[Series]) -> None:
        """Drop what waits for series that the client left, or of which the answer that follows tells all."""
        left = (tick.without(series) for tick in self._ticks)
        self._ticks = deque(tick for tick in left if tick.parts)
        for each in series:
            self._latest.pop(each, None)
            self._newest.pop(each, None)

    def take(self) -> Message | None:
        """The next message, or None."""
        if self._heartbeat is not None:
            message, self._heartbeat = self._heartbeat, None
            return self._message(message)
        while self._answers:
            answer = next(self._answers[0], None)
            if answer is not None:
                return self._message(answer)
            self._answers.popleft()
        if self._ticks:
            tick = self._ticks.popleft()
            return self._message(tick.message(self._encoding), tick.moment)
        if self._latest:
            message = messages.update(self._encoding, self._parts(self._latest), Cursor(self._after))
            self._latest, self._after = {}, {}
            return self._message(message, self._moment)
        if self._newest:
            message = messages.update(self._encoding, self._parts(self._newest), None)
            self._newest = {}
            return self._message(message, Moment())
        return None

    def _parts(self, held: Mapping[Series, tuple[Item, int]]) -> list[bytes]:
        return [messages.part(self._encoding, series, (item.value,), conflated=left_out) for series, (item, left_out) in held.items()]

    def _replace(self, latest: dict[Series, tuple[Item, int]], tick: Tick) -> None:
        for part in tick.parts:
            held, left_out = latest.get(part.series, (None, 0))
            newest = max((*part.items, held) if held else part.items, key=lambda item: (item.time_ms, item.rank))
            now_left_out = len(part.items) - (held is None)
            self.conflated += now_left_out
            latest[part.series] = newest, left_out + now_left_out

    def _conflate(self, tick: Tick) -> None:
        self._replace(self._latest, tick)
        for topic, offsets in tick.cursor.positions.items():
            self._after.setdefault(topic, {}).update(offsets)
        self._moment = tick.moment

    def _message(self, message: bytes, moment: Moment | None = None) -> Message:
        return Message(message.decode() if self._encoding.is_text else message, moment)
