"""What the producer writes: each kind of record in one place, from what was decided to the bytes."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

import orjson
import structlog
from prometheus_client import Counter

from klinestream.market.codec import encode_event, encode_kline
from klinestream.market.continuity import Publish, Span
from klinestream.market.errors import DeliveryError
from klinestream.market.events import (
    BINANCE,
    KLINE_INTERVAL,
    NO_SOURCE,
    SECOND_MS,
    CandleHistory,
    DeadLetter,
    FeedGap,
    GapState,
    Kline,
    Origin,
    PipelineEvent,
    Proof,
    binance_proof,
    gap_id,
)
from klinestream.market.topics import (
    CANDLE_HISTORY,
    DEAD_LETTERS,
    FEED_GAPS,
    KLINE_REPAIRS,
    KLINES,
    PIPELINE_EVENTS,
    PUBLISHED_HEADER,
    SCHEMA_HEADER,
    SCHEMA_VERSION,
)
from klinestream.runtime.kafka import Publisher, Record, Settled
from producer.frames import ClosedKline
from producer.metrics import Metrics

log = structlog.get_logger()

SCHEMA = (SCHEMA_HEADER, b"%d" % SCHEMA_VERSION)
_ZERO = "0.00000000"
_CLOSE_COLUMN = 6


def _nobody(*_told: object) -> None:
    pass


class Stored:
    """Whether the broker has all of some records. Thread-safe."""

    def __init__(self) -> None:
        """There are none yet."""
        self._lock = threading.Lock()
        self._awaited = 0
        self._lost: str | None = None

    def one_more(self) -> Settled:
        """What to publish a further record with."""
        with self._lock:
            self._awaited += 1
        return self._settled

    def yet(self) -> bool:
        """Whether it has. Raises DeliveryError if one is lost."""
        with self._lock:
            if self._lost is not None:
                raise DeliveryError(self._lost)
            return not self._awaited

    def _settled(self, lost: str | None, _partition: int, _offset: int) -> None:
        with self._lock:
            self._awaited -= 1
            self._lost = self._lost or lost


class OutletMetrics(Protocol):
    """What is counted of every feed's records."""

    dead_letters: Counter


class AnyOutlet:
    """Publishes what every feed has to tell. Thread-safe; every method raises DeliveryError if an earlier record was lost."""

    def __init__(self, publisher: Publisher, name: str, source: str, metrics: OutletMetrics, now_ms: Callable[[], int]) -> None:
        """`name` is this producer's in the ledger; `source` is what dead letters say of where they came from."""
        self._publisher = publisher
        self._name = name
        self._source = source
        self._counts = metrics
        self._now_ms = now_ms

    def dead_letter(self, raw: bytes, reason: str) -> None:
        """Bytes that could not be used."""
        now_ms = self._now_ms()
        self._counts.dead_letters.inc()
        log.warning("frame not usable", reason=reason, frame=raw[:200])
        self._send(DEAD_LETTERS.name, None, encode_event(DeadLetter.of(reason, self._source, raw, now_ms)), now_ms)

    def tell(self, component: str, event: str, detail: str) -> None:
        """Something that people should know of."""
        now_ms = self._now_ms()
        self._send(PIPELINE_EVENTS.name, component, encode_event(PipelineEvent(component, event, now_ms, detail)), now_ms)

    def _send(self, topic: str, key: str | None, value: bytes, time_ms: int) -> None:
        self._publisher.publish(self._record(topic, key, value, time_ms))

    def _record(self, topic: str, key: str | None, value: bytes, time_ms: int) -> Record:
        headers = (SCHEMA, (PUBLISHED_HEADER, b"%d" % self._now_ms()))
        return Record(topic, key.encode() if key else None, value, time_ms, headers)


class Outlet(AnyOutlet):
    """Publishes to all topics of the producer of klines."""

    def __init__(self, publisher: Publisher, name: str, source: str, metrics: Metrics, now_ms: Callable[[], int]) -> None:
        """See `AnyOutlet`."""
        super().__init__(publisher, name, source, metrics, now_ms)
        self._metrics = metrics
        self.on_loss: Callable[[str, Span, GapState], None] = _nobody
        """Told of each state that a gap reaches, from any thread."""
        self.on_repair: Callable[[Kline], None] = _nobody
        """Told of each repair, from any thread."""

    def reads_from(self, source: str) -> None:
        """Say from now on that dead letters came from there."""
        self._source = source

    def kline(self, symbol: str, key: bytes, record: Publish[ClosedKline]) -> None:
        """The next second of a symbol."""
        now_ms = self._now_ms()
        close_time_ms = record.open_time_ms + SECOND_MS - 1
        value = kline_value(symbol, record)
        self._publisher.publish(Record(KLINES.name, key, value, close_time_ms, (SCHEMA, (PUBLISHED_HEADER, b"%d" % now_ms))))

    def repair(self, kline: Kline, stored: Stored | None = None) -> None:
        """A second that came too late for the feed, or that the exchange says otherwise; where `stored` is given its loss raises there."""
        record = self._record(KLINE_REPAIRS.name, kline.symbol, encode_kline(kline), kline.close_time_ms)
        if stored is None:
            self._publisher.publish(record)
        else:
            self._publisher.publish(record, stored.one_more())
        self._metrics.repaired.inc()
        self.on_repair(kline)

    def history(self, candles: CandleHistory) -> None:
        """Candles that the exchange gave, one after the other."""
        last_close_ms = candles.rows[-1][_CLOSE_COLUMN]
        self._send(CANDLE_HISTORY.name, candles.symbol, encode_event(candles), last_close_ms)

    def gap(
        self,
        symbol: str,
        span: Span,
        state: GapState,
        *,
        klines: int = 0,
        source: str = NO_SOURCE,
        proved: bool = False,
        trades: int | None = None,
        reason: str = "",
    ) -> None:
        """An entry of the ledger."""
        now_ms = self._now_ms()
        entry = FeedGap(gap_id(symbol, *span), symbol, state, self._name, *span, klines, source, proved, trades, reason, now_ms)
        self._send(FEED_GAPS.name, symbol, encode_event(entry), now_ms)
        self._metrics.ledger.labels(state.value).inc()
        self.on_loss(symbol, span, state)


def kline_value(symbol: str, record: Publish[ClosedKline]) -> bytes:
    """The value of a record of Binance's feed, as `codec.encode_kline` would write it."""
    newest: dict[str, Any] = {"last_trade_id": record.last_trade_id, "origin": record.origin}
    counts = record.counted or record.origin is not Origin.REST  # else no id has told its number of trades yet
    newest |= {"source": BINANCE, "proof": binance_proof(record.last_trade_id, record.origin) if counts else Proof.NONE}
    if record.kline is not None and record.origin is Origin.LIVE:  # nearly all
        return orjson.dumps(record.kline.wire | newest)
    own = {"f": record.first_trade_id, "L": record.last_trade_id_within} | newest
    if record.kline is not None:
        return orjson.dumps(record.kline.wire | own)
    opened, close = record.open_time_ms, record.close
    quiet = {"s": symbol, "i": KLINE_INTERVAL, "t": opened, "T": opened + SECOND_MS - 1, "o": close, "h": close, "l": close, "c": close}
    return orjson.dumps(quiet | {"v": _ZERO, "q": _ZERO, "V": _ZERO, "Q": _ZERO, "n": 0} | own)
