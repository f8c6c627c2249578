"""The kinds of results that the pipeline publishes, and the topic of each."""

import enum

from klinestream.market.topics import CANDLES, INDICATORS, PROVISIONAL_CANDLES, SIGNALS, WINDOWS


class RecordKind(enum.StrEnum):
    """What the pipeline's results are, as clients of the server name them."""

    WINDOWS = "windows"
    CANDLES = "candles"
    PROVISIONAL = "provisional"
    INDICATORS = "indicators"
    SIGNALS = "signals"

    @property
    def topic(self) -> str:
        """Where its records come from."""
        return _TOPICS[self]

    @property
    def has_intervals(self) -> bool:
        """Whether each interval is a series of its own."""
        return self in WITH_INTERVALS


_TOPICS = {
    RecordKind.WINDOWS: WINDOWS.name,
    RecordKind.CANDLES: CANDLES.name,
    RecordKind.PROVISIONAL: PROVISIONAL_CANDLES.name,
    RecordKind.INDICATORS: INDICATORS.name,
    RecordKind.SIGNALS: SIGNALS.name,
}
WITH_INTERVALS = (RecordKind.CANDLES, RecordKind.INDICATORS, RecordKind.SIGNALS)
KIND_OF_TOPIC = {topic: kind for kind, topic in _TOPICS.items()}
