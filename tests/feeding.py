"""A feed of one symbol, outside any process: what is put into it, and what it publishes, asks and doubts."""

from collections.abc import Iterable

import orjson

from klinestream.market.events import Kline, Origin
from klinestream.market.topics import KLINES
from klinestream.runtime.kafka import Record, Settled
from producer.feed import Doubt, Feed
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.refill import Request
from tests.integration.small_exchange import frame
from tests.klines import START_MS, kline

BEGIN_S = START_MS // 1000 // 3 * 3 + 1  # a second with a trade, then one with two, then a quiet one


class Published:
    """What was published; keeps `Publisher`. Acknowledged at once where it `stores`, else when told to `store`."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stores = True
        self._waiting: list[Settled] = []

    def publish(self, record: Record, settled: Settled | None = None) -> None:
        self.records.append(record)
        if settled is not None:
            self._waiting.append(settled)
        if self.stores:
            self.store()

    def store(self, lost: str | None = None) -> None:
        """Acknowledge what waits, or say why it is lost."""
        while self._waiting:
            self._waiting.pop(0)(lost, 0, 0)

    def queued(self) -> int:
        return 0

    def flush(self, timeout_s: float) -> None:
        """Nothing waits."""

    def close(self, timeout_s: float) -> None:
        """Nothing is open."""

    def of(self, topic: str) -> list[bytes]:
        return [record.value or b"" for record in self.records if record.topic == topic]


def said(second: int, trades: int) -> Kline:
    return kline(second=second, trades=trades, base_volume=trades, origin=Origin.REST, first_trade_id=None, last_trade_id_within=None)


class Fed:
    """A feed of one symbol, what it published, asked, and doubts."""

    def __init__(self, follow: bool = True) -> None:
        self.now_s = 1000.0
        self.published = Published()
        self.doubts: list[Doubt] = []
        self.asked: list[Request] = []
        self.metrics = Metrics()
        self.feed = Feed(
            0,
            Outlet(self.published, "test", "ws://test", self.metrics, lambda: START_MS),
            self.metrics,
            hold_s=3.0,
            ask=self._ask,
            withdraw=lambda _: None,
            doubt=self.doubts.append,
            now_ms=lambda: START_MS + 3_600_000,
            now_s=lambda: self.now_s,
        )
        if follow:
            self.feed.follow(["BTCUSDT"], {}, {})

    def _ask(self, request: Request) -> bool:
        self.asked.append(request)
        return True

    def live(self, *seconds: int) -> None:
        """The exchange's klines of these seconds from the begin on."""
        for second in seconds:
            self.feed.take(frame("BTCUSDT", BEGIN_S + second).encode(), set())

    def rest(self, trades: Iterable[int]) -> None:
        """REST's answer to the newest request, each second with so many trades."""
        first = (self.asked[-1].from_ms - START_MS) // 1000
        self.feed.answered(self.asked[-1], [said(first + number, count) for number, count in enumerate(trades)])

    def opened(self) -> list[int]:
        """Which seconds from the begin on are published."""
        return [orjson.loads(value)["t"] // 1000 - BEGIN_S for value in self.published.of(KLINES.name)]

    def value(self, name: str) -> float:
        """Of a counter of the producer's."""
        return self.metrics.registry.get_sample_value(f"klinestream_producer_{name}") or 0.0
