"""The one place that every frame of a connection passes through: from its bytes to records in Kafka."""

from collections.abc import Callable

import structlog

from klinestream.market.codec import encode_event
from klinestream.market.errors import RecordError
from klinestream.market.events import DeadLetter
from klinestream.market.topics import DEAD_LETTERS, KLINES, PUBLISHED_HEADER, SCHEMA_HEADER, SCHEMA_VERSION
from klinestream.runtime.kafka import Publisher, Record
from producer.frames import ClosedKline, Passed, Reply, Shutdown, decode
from producer.groups import Group
from producer.metrics import Metrics
from producer.sequence import Sequence

log = structlog.get_logger()

_SCHEMA = (SCHEMA_HEADER, b"%d" % SCHEMA_VERSION)


class Intake:
    """Takes the frames of one connection, in order; outlives its reconnects. For one thread."""

    def __init__(self, group: Group, source: str, publisher: Publisher, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        """`source` is what dead letters say of where they came from."""
        self._newest_close_ms = now_ms()  # before the first kline, its age is the time since the start
        self._streams = group.streams
        self._keys = {symbol: symbol.encode() for symbol in group.symbols}
        self._source = source
        self._publisher = publisher
        self._now_ms = now_ms
        self._sequence = Sequence()
        self._metrics = metrics
        self._tally = metrics.tally(group.name)

    def age_s(self) -> float:
        """Seconds since the close of the newest kline; may be called by any thread."""
        return (self._now_ms() - self._newest_close_ms) / 1000

    def take(self, raw: bytes) -> Reply | Shutdown | None:
        """Publish what a frame holds; what it says to the connection itself is returned. Raises DeliveryError."""
        self._tally.frames += 1
        now_ms = self._now_ms()
        try:
            frame = decode(raw, self._streams, now_ms)
        except RecordError as error:
            self._dead_letter(raw, str(error), now_ms)
            return None
        if isinstance(frame, ClosedKline):
            self._kline(frame, now_ms)
            return None
        if isinstance(frame, Passed):
            self._metrics.passed.labels(frame.value).inc()
            return None
        return frame

    def _kline(self, kline: ClosedKline, now_ms: int) -> None:
        following = self._sequence.admit(kline)
        if following is None:
            self._metrics.repeats.inc()
            return
        if following.missing_s:
            self._metrics.gaps.inc()
            self._metrics.missing.inc(following.missing_s)
            log.warning("klines missing", symbol=kline.symbol, seconds=following.missing_s, before_ms=kline.open_time_ms)
        self._publisher.publish(
            Record(
                KLINES.name,
                self._keys[kline.symbol],
                kline.value(following.last_trade_id),
                kline.close_time_ms,
                (_SCHEMA, (PUBLISHED_HEADER, b"%d" % now_ms)),
            )
        )
        self._tally.published += 1
        self._newest_close_ms = max(self._newest_close_ms, kline.close_time_ms)

    def _dead_letter(self, raw: bytes, reason: str, now_ms: int) -> None:
        self._metrics.dead_letters.inc()
        log.warning("frame not usable", reason=reason, frame=raw[:200])
        letter = DeadLetter.of(reason, self._source, raw, now_ms)
        headers = (_SCHEMA, (PUBLISHED_HEADER, b"%d" % now_ms))
        self._publisher.publish(Record(DEAD_LETTERS.name, None, encode_event(letter), now_ms, headers))
