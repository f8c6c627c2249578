"""Every topic: its name, what a record is, key, partitions, retention and cleanup, in one place.

`klinestream topics` creates and checks them, docs/topics.md is checked against them. The number of partitions never
changes: a symbol's place in the feed depends on it. All topics keyed by symbol have the same number of partitions, so
that a symbol has one partition number everywhere.
"""

from dataclasses import dataclass
from typing import Any

from klinestream.market.events import (
    Aggregate,
    Candle,
    CandleHistory,
    DeadLetter,
    FeedGap,
    IdGap,
    Indicators,
    IngestKey,
    Kline,
    LateKline,
    OrderBook,
    PipelineEvent,
    Prediction,
    ProvisionalCandles,
    Signal,
    SymbolChoice,
    SymbolsWatched,
    Trade,
    TradeWindow,
    Window,
)
from klinestream.market.intervals import DAY_MS, HOUR_MS

SYMBOL_PARTITIONS = 4
MIB = 1 << 20

SCHEMA_HEADER = "schema"
PUBLISHED_HEADER = "published_ms"
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_bytes` bounds each partition."""

    name: str
    meaning: str
    key: str
    event: type[Any]
    partitions: int = SYMBOL_PARTITIONS
    retention_ms: int = DAY_MS
    retention_bytes: int = 512 * MIB
    cleanup: str = "delete"
    future_ms: int | None = None

    def settings(self) -> dict[str, str]:
        """The topic's configuration as the broker takes it."""
        settings = {
            "cleanup.policy": self.cleanup,
            "compression.type": "lz4",
            "retention.ms": str(self.retention_ms),
            "retention.bytes": str(self.retention_bytes),
            "segment.ms": str(self.retention_ms),
            # Retention drops whole segments: eight of them keep it near its bound.
            "segment.bytes": str(min(self.retention_bytes // 8, 64 * MIB)),
            "message.timestamp.type": "CreateTime",
        }
        if self.future_ms is not None:
            settings["message.timestamp.after.max.ms"] = str(self.future_ms)
        return settings


KLINES = Topic(
    "crypto_kline_data",
    "one closed 1 s kline of a symbol, in order; the record's timestamp is its close time",
    "symbol",
    Kline,
    retention_bytes=2048 * MIB,
    # A line from the year 2100 would outlive every retention and lead every reader astray.
    future_ms=60_000,
)
WINDOWS = Topic("crypto_data_aggregated", "one complete sliding window of a symbol", "symbol", Window, retention_bytes=2048 * MIB)
DEAD_LETTERS = Topic(
    "crypto_dead_letters", "what could not be used, why, and where it came from", "none", DeadLetter, partitions=1, retention_ms=7 * DAY_MS
)
LATE_DATA = Topic(
    "crypto_late_data",
    "a kline for a second already held, with other content or too old to compare",
    "symbol",
    LateKline,
    retention_ms=7 * DAY_MS,
)
KLINE_REPAIRS = Topic(
    "crypto_kline_repairs",
    "klines that came too late for the feed, or that the exchange says otherwise",
    "symbol",
    Kline,
    retention_ms=7 * DAY_MS,
)
FEED_GAPS = Topic(
    "crypto_feed_gaps", "a state that a gap of the feed has reached: the ledger of gaps", "symbol", FeedGap, retention_ms=30 * DAY_MS
)
PIPELINE_EVENTS = Topic(
    "crypto_pipeline_events",
    "what happened to the parts of the pipeline",
    "component",
    PipelineEvent,
    partitions=1,
    retention_ms=7 * DAY_MS,
)

CONTROL = Topic(
    "crypto_control",
    "whether a symbol, or a pattern of symbols, is wanted; the newest record of a name counts, whatever its age",
    "name",
    SymbolChoice,
    partitions=1,
    retention_ms=7 * DAY_MS,
    # Compaction keeps a record a name; this makes its segments as small as brokers take them, so that it gets to run.
    retention_bytes=8 * MIB,
    cleanup="compact",
)

WATCHED = Topic(
    "crypto_watched_symbols",
    "which symbols a server's clients look at; the newest record of a server counts",
    "server",
    SymbolsWatched,
    partitions=1,
    retention_ms=DAY_MS,
    retention_bytes=8 * MIB,
    cleanup="compact,delete",  # servers come and go, their names with them
)

# Candles come with their own times, the oldest daily ones 200 days past and more. A shorter retention would drop them on
# arrival, and a shorter segment.ms would begin a segment with each step from an old record to a new one.
_CANDLES_KEPT_MS = 400 * DAY_MS

CANDLE_HISTORY = Topic(
    "crypto_candle_history",
    "the exchange's own closed candles of a symbol and interval",
    "symbol",
    CandleHistory,
    retention_ms=_CANDLES_KEPT_MS,
    retention_bytes=1024 * MIB,
)
CANDLES = Topic(
    "crypto_candles",
    "one closed candle of a symbol and interval",
    "symbol",
    Candle,
    retention_ms=_CANDLES_KEPT_MS,
    retention_bytes=2048 * MIB,
)
PROVISIONAL_CANDLES = Topic(
    "crypto_candles_provisional",
    "the candles in progress of a symbol after one kline",
    "symbol",
    ProvisionalCandles,
    retention_ms=2 * HOUR_MS,
    retention_bytes=1024 * MIB,
)
INDICATORS = Topic(
    "crypto_indicators",
    "the indicators of one closed candle",
    "symbol",
    Indicators,
    retention_ms=_CANDLES_KEPT_MS,
    retention_bytes=2048 * MIB,
)
SIGNALS = Topic("crypto_signals", "a rule's buy or sell on one closed candle", "symbol", Signal, retention_ms=_CANDLES_KEPT_MS)
AGGREGATES = Topic(
    "crypto_aggregates",
    "what a symbol did over the last day of closed 1m candles, and since its run began",
    "symbol",
    Aggregate,
    retention_ms=7 * DAY_MS,
)
PREDICTIONS = Topic("crypto_predictions", "what a model says after one closed candle", "symbol", Prediction, retention_ms=_CANDLES_KEPT_MS)

TRADES = Topic(
    "crypto_trades",
    "one trade of a symbol, in order of ids; the record's timestamp is when it was made",
    "symbol",
    Trade,
    retention_bytes=2048 * MIB,
    future_ms=60_000,
)
TRADE_REPAIRS = Topic("crypto_trade_repairs", "trades that came too late for the feed", "symbol", Trade, retention_ms=7 * DAY_MS)
TRADE_WINDOWS = Topic(
    "crypto_trade_windows", "one complete sliding window of a symbol over its trades", "symbol", TradeWindow, retention_bytes=2048 * MIB
)
ORDER_BOOK = Topic(
    "crypto_order_book",
    "the best levels of a symbol's book after an update, and what follows from them",
    "symbol",
    OrderBook,
    retention_ms=6 * HOUR_MS,
    retention_bytes=2048 * MIB,
)
ID_GAPS = Topic(
    "crypto_id_gaps", "a state that missing ids of trades or books have reached: their ledger", "symbol", IdGap, retention_ms=30 * DAY_MS
)

INGEST_KEYS = Topic(
    "crypto_ingest_keys",
    "a state that a posted request under an idempotency key has reached; the first claim of a key counts",
    "key",
    IngestKey,
    retention_bytes=128 * MIB,
)

TOPICS = (
    KLINES,
    WINDOWS,
    CANDLE_HISTORY,
    CANDLES,
    PROVISIONAL_CANDLES,
    INDICATORS,
    SIGNALS,
    AGGREGATES,
    PREDICTIONS,
    DEAD_LETTERS,
    LATE_DATA,
    KLINE_REPAIRS,
    FEED_GAPS,
    TRADES,
    TRADE_REPAIRS,
    TRADE_WINDOWS,
    ORDER_BOOK,
    ID_GAPS,
    INGEST_KEYS,
    PIPELINE_EVENTS,
    CONTROL,
    WATCHED,
)
BY_NAME = {topic.name: topic for topic in TOPICS}
