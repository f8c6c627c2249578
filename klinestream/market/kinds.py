"""The kinds of results that the pipeline publishes, and the topic of each."""

import enum

from klinestream.market.topics import CANDLES, INDICATORS, ORDER_BOOK, PROVISIONAL_CANDLES, SIGNALS, TRADE_WINDOWS, WINDOWS


class RecordKind(enum.StrEnum):
    """What the pipeline's results are, as clients of the server name them."""

    WINDOWS = "windows"
    CANDLES = "candles"
    PROVISIONAL = "provisional"
    INDICATORS = "indicators"
    SIGNALS = "signals"
    BOOKS = "books"

    @property
    def topic(self) -> str:
        """Where its records come from; windows over trades have a topic of their own."""
        return _TOPICS[self]

    @property
    def has_intervals(self) -> bool:
        """Whether each interval is a series of its own."""
        return self in WITH_INTERVALS

    @property
    def only_newest_counts(self) -> bool:
        """Whether a record makes the one before it worthless: nobody waits for it, or goes on from it."""
        return self is RecordKind.BOOKS


_TOPICS = {
    RecordKind.WINDOWS: WINDOWS.name,
    RecordKind.CANDLES: CANDLES.name,
    RecordKind.PROVISIONAL: PROVISIONAL_CANDLES.name,
    RecordKind.INDICATORS: INDICATORS.name,
    RecordKind.SIGNALS: SIGNALS.name,
    RecordKind.BOOKS: ORDER_BOOK.name,
}
WITH_INTERVALS = (RecordKind.CANDLES, RecordKind.INDICATORS, RecordKind.SIGNALS)
KIND_OF_TOPIC = {topic: kind for kind, topic in _TOPICS.items()} | {TRADE_WINDOWS.name: RecordKind.WINDOWS}
WINDOWS_OF = {"klines": WINDOWS, "trades": TRADE_WINDOWS}
"""`windows.source` → where the windows come from."""
