"""A symbol's book, step by step: what is published, and what is told where nothing is. No socket, no clock."""

from typing import Any

from klinestream.market import codec, decimals
from klinestream.market.events import IdGap, IdGapState, OrderBook
from klinestream.market.order_book import snapshot_of
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.binance_books import BinanceBooks
from producer.feeds.interface import Entry
from producer.lane import Lane
from producer.wants import WantRequest
from tests.unit.test_book_frames import NOW_MS, frame

BTC = "BTCUSDT"
ASKED = 100


def feed() -> BinanceBooks:
    config = Config()
    return BinanceBooks(config.model_copy(update={"books": config.books.model_copy(update={"every_ms": 100, "levels": ASKED})}))


def rows(first: int, step: int, count: int) -> list[list[str]]:
    """Levels at whole prices, one lot each."""
    return [[decimals.show((first + step * number) * decimals.UNIT), "1.00000000"] for number in range(count)]


def snapshot(last_id: int = 41) -> Any:
    """Bids from 1,000 down, asks from 1,001 up, as many as were asked for: there is more."""
    return snapshot_of({"lastUpdateId": last_id, "bids": rows(1000, -1, ASKED), "asks": rows(1001, 1, ASKED)}, ASKED)


def diff(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return frame(U=first, u=last, E=NOW_MS - 10_000 + last, b=bids, a=asks)


def gone(levels: list[list[str]]) -> list[list[str]]:
    return [[price, "0.00000000"] for price, _ in levels]


FIRST = diff(40, 42, [], [])
SHALLOW = diff(43, 43, gone(rows(1000, -1, ASKED - 19)), [])
FULL_AGAIN = diff(44, 44, rows(1000, -1, 1), [])
CROSSED_AT_43 = diff(43, 44, rows(1050, -1, 1), [])


class Counted:
    """A lane of one symbol whose records stay here."""

    def __init__(self) -> None:
        self.metrics = FeedMetrics("books", "binance")
        self.values: list[bytes] = []
        self.wanted: list[WantRequest] = []
        outlet = FeedOutlet(self, "books", "test", "wss://venue.example", self.metrics, lambda: NOW_MS)  # type: ignore[arg-type]  # publishes only
        self.lane = Lane(
            feed(), 0, outlet, self.metrics,
            ask=self._ask, withdraw=lambda _: None, deferred=lambda *_: None, now_ms=lambda: NOW_MS, now_s=lambda: 0.0,
        )  # fmt: skip  # what it is told of, and what it tells
        self.lane.follow([BTC], {}, {})

    def publish(self, record: Record) -> None:
        self.values.append(record.value or b"")

    def _ask(self, request: WantRequest) -> bool:
        self.wanted.append(request)
        return True

    def takes(self, *frames: bytes) -> None:
        for raw in frames:
            self.lane.take(raw, set())

    def withheld(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("klinestream_feed_records_withheld_total", {"reason": reason})


def entries(raw: bytes) -> list[Entry]:
    found = feed().read(raw, NOW_MS)
    assert isinstance(found, list)
    return found


def ledger(values: list[bytes]) -> list[IdGap]:
    return [codec.decode_id_gap(value) for value in values if b'"gap"' in value]


def books(values: list[bytes]) -> list[int]:
    """Update ids of the books among them."""
    return [codec.decode_event(OrderBook, value).last_update_id for value in values if b'"bids"' in value]


def test_a_side_of_few_levels_is_not_published_and_counted() -> None:
    """Nineteen of twenty levels are known, though there are more: nothing goes out until there are twenty again."""
    counted = Counted()
    counted.takes(FIRST)
    counted.lane.answered(counted.wanted[0], snapshot())
    assert books(counted.values) == [42]
    counted.takes(SHALLOW)
    assert books(counted.values) == [42]
    assert counted.withheld("few_levels") == 1
    counted.takes(FULL_AGAIN)
    assert books(counted.values) == [42, 44]
    assert counted.withheld("few_levels") == 1
    assert counted.withheld("crossed") is None


def test_a_crossed_book_is_not_published_and_counted() -> None:
    """Once, when it happens; the ledger tells of the gap until a snapshot has ended it."""
    counted = Counted()
    counted.takes(FIRST)
    counted.lane.answered(counted.wanted[0], snapshot())
    counted.takes(CROSSED_AT_43)
    assert books(counted.values) == [42]
    assert counted.withheld("crossed") == 1
    (told,) = ledger(counted.values)
    assert (told.state, told.from_id, told.to_id) == (IdGapState.DETECTED, 43, 45)
    counted.lane.answered(counted.wanted[-1], snapshot(44))
    counted.takes(diff(45, 45, [], []))
    assert books(counted.values) == [42, 45]
    assert [gap.state for gap in ledger(counted.values)] == [IdGapState.DETECTED, IdGapState.RESYNCHRONISED]
    assert counted.withheld("crossed") == 1


def test_what_an_answer_leads_to_is_counted_too() -> None:
    """A diff that was held for the first snapshot, and crosses it."""
    counted = Counted()
    counted.takes(FIRST, CROSSED_AT_43)
    counted.lane.answered(counted.wanted[0], snapshot())
    assert books(counted.values) == [42]
    assert counted.withheld("crossed") == 1


def test_a_start_tells_what_was_missed() -> None:
    """After the topic's newest record: the updates up to the snapshot's are in no record of this feed, and nobody needs them."""
    before = Counted()
    before.takes(FIRST)
    before.lane.answered(before.wanted[0], snapshot())
    series = feed().series(BTC, before.values[0])
    (entry,) = entries(diff(60, 62, [], []))
    series.live(entry)
    step = series.answered(series.wants()[0], snapshot(61))
    assert [codec.decode_event(OrderBook, out.value).last_update_id for out in step.out] == [62]
    (told,) = step.gaps
    assert (told.state, told.from_id, told.to_id) == (IdGapState.RESYNCHRONISED, 43, 62)
    assert told.reason == "the feed was away; anew from a snapshot at 61"
