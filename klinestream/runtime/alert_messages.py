"""Which records become messages, and when the feed's silence does. Pure: clocks are passed in."""

import enum
from collections import OrderedDict
from collections.abc import Hashable

import orjson

from klinestream.market.codec import decode_event, decode_gap, encode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import SECOND_MS, Side, Signal, SignalState
from klinestream.market.topics import FEED_GAPS, KLINES, PUBLISHED_HEADER, SIGNALS
from klinestream.runtime.kafka import Record
from klinestream.runtime.webhook import Kind, Message

REMEMBERED_MOST = 50_000
"""How many messages are remembered, to tell a repeat; and signals, to tell whose withdrawal is of interest."""


class _Recent:
    """The newest of many things."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._held

    def add(self, thing: Hashable) -> None:
        self._held[thing] = None
        self._held.move_to_end(thing)
        if len(self._held) > self._most:
            self._held.popitem(last=False)


class Passed(enum.Enum):
    """Why a record is not told."""

    REPEATED = "repeated"
    TOO_OLD = "too old"


class Chooser:
    """Takes records of signals and gaps, and says which are told.

    Not told again: what a restarted job or a second producer says once more. Not told at all: signals of old candles. The
    withdrawal of a signal that was told is told however old its candle is, for somebody may still go by it.
    """

    def __init__(self, signal_age_s: float, remembered: int = REMEMBERED_MOST) -> None:
        """`signal_age_s`: signals whose candle closed longer ago are too old."""
        self._age_ms = int(signal_age_s * SECOND_MS)
        self._known = _Recent(remembered)
        self._told = _Recent(remembered)

    def message(self, record: Record, now_ms: int) -> Message | Passed:
        """The message of a record, or why there is none. Raises RecordError."""
        signal, message = self._read(record)
        if message.key in self._known:
            return Passed.REPEATED
        self._known.add(message.key)
        if signal is None:
            return message
        if signal.state == SignalState.WITHDRAWN and signal.id in self._told:
            return Message(message.key, message.kind, message.event, message.place)
        if now_ms - signal.close_time_ms > self._age_ms:
            return Passed.TOO_OLD
        self._told.add(signal.id)
        return message

    def remember(self, record: Record) -> None:
        """Take a record that was dealt with before a restart. What can't be read is passed over: it was told of then."""
        try:
            signal, message = self._read(record)
        except RecordError:
            return
        self._known.add(message.key)
        if signal is not None and _published_ms(record) - signal.close_time_ms <= self._age_ms:
            self._told.add(signal.id)

    def _read(self, record: Record) -> tuple[Signal | None, Message]:
        place = (record.topic, record.partition, record.offset)
        if record.value is None:
            raise RecordError("no value")
        if record.topic == FEED_GAPS.name:
            gap = decode_gap(record.value)
            return None, Message(f"{gap.gap}:{gap.state}", Kind.GAP, encode_event(gap), place)
        signal = _signal_of(record.value)
        key = f"{signal.id}:{signal.state}:{signal.revision}"
        return signal, Message(key, Kind.SIGNAL, encode_event(signal), place, signal.close_time_ms + self._age_ms)


class Freshness:
    """Whether klines come. Says so once when they stop, and once when they are there again."""

    def __init__(self, stale_after_s: float, stale_since_ms: int | None = None) -> None:
        """`stale_since_ms`: close time of the last kline before a silence that was told of."""
        self.stale_since_ms = stale_since_ms
        self._stale_after_s = stale_after_s
        self._watched_since_s: float | None = None

    def unseen(self) -> None:
        """For a while nobody could look: silence counts anew from the next look on."""
        self._watched_since_s = None

    def turned(self, fresh: bool, now_s: float) -> bool:
        """A look: whether it turned from fresh to stale, or back. The caller then says so with `turn`."""
        if self._watched_since_s is None:
            self._watched_since_s = now_s
        if fresh:
            return self.stale_since_ms is not None
        return self.stale_since_ms is None and now_s - self._watched_since_s >= self._stale_after_s

    def turn(self, newest_ms: int, now_ms: int) -> Message:
        """The message of a turn; `newest_ms` is the close time of the newest kline there is."""
        was_since_ms = self.stale_since_ms
        since_ms = newest_ms if was_since_ms is None else was_since_ms
        self.stale_since_ms = newest_ms if was_since_ms is None else None
        state = "stale" if was_since_ms is None else "fresh"
        event = {"id": f"{KLINES.name}:{since_ms}", "state": state, "since": since_ms, "newest": newest_ms, "time": now_ms}
        return Message(f"{event['id']}:{state}", Kind.STALE, orjson.dumps(event))


def stale_since(message: Message) -> int | None:
    """What a message of kind stale leaves as the present state: since when klines are missing, None where they are there."""
    event = orjson.loads(message.event)
    since_ms: int = event["since"]
    return since_ms if event["state"] == "stale" else None


def _signal_of(value: bytes) -> Signal:
    signal = decode_event(Signal, value)
    if signal.side not in set(Side):
        raise RecordError(f"side: expected {', '.join(Side)}")
    if signal.state not in set(SignalState):
        raise RecordError(f"state: expected {', '.join(SignalState)}")
    return signal


def _published_ms(record: Record) -> int:
    """When it was written; where it doesn't say, its own time."""
    text = dict(record.headers).get(PUBLISHED_HEADER, b"")
    return int(text) if text.isdigit() else record.timestamp_ms


SOURCES = (SIGNALS.name, FEED_GAPS.name)
"""The topics whose records become messages."""
