"""Deferred spans: fetched chunk by chunk into the repairs, for as long as the patience lasts, and told when they are stored."""

import pytest

from klinestream.market.codec import decode_gap, decode_kline
from klinestream.market.continuity import GivenUp
from klinestream.market.errors import DeliveryError
from klinestream.market.events import FeedGap, GapState
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS
from producer.backlog import Backlog
from producer.feed import Deferred
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.refill import Request
from tests.feeding import Published, said
from tests.klines import START_MS

PATIENCE_S = 600.0
CHUNK = 1000


class Fetching:
    """A backlog with one span, the clock that the test sets, and what it asked."""

    def __init__(self, seconds: int) -> None:
        self.now_s = 1000.0
        self.asked: list[Request] = []
        self.published = Published()
        outlet = Outlet(self.published, "test", "ws://test", Metrics(), lambda: START_MS)
        self.backlog = Backlog(outlet, self._ask, PATIENCE_S, lambda: self.now_s)
        self.backlog.add([Deferred("BTCUSDT", GivenUp(START_MS, START_MS + seconds * 1000, None))])

    def _ask(self, request: Request) -> bool:
        self.asked.append(request)
        return True

    def after(self, seconds: float) -> Request:
        """The newest request, once the clock has ticked so long after the begin."""
        self.now_s = 1000.0 + seconds
        self.backlog.tick()
        return self.asked[-1]

    def answer(self, without: int | None = None) -> None:
        """To the newest request, all klines but one."""
        request = self.asked[-1]
        seconds = range((request.from_ms - START_MS) // 1000, (request.to_ms - START_MS) // 1000)
        self.backlog.answered(request, [said(second, 1) for second in seconds if second != without])

    def repaired(self) -> list[int]:
        """Which seconds went to the repairs."""
        return [(decode_kline(value).open_time_ms - START_MS) // 1000 for value in self.published.of(KLINE_REPAIRS.name)]

    def told(self) -> list[FeedGap]:
        """The ledger, after one more tick."""
        self.backlog.tick()
        return [decode_gap(value) for value in self.published.of(FEED_GAPS.name)]


def test_one_kline_that_the_exchange_lacks_costs_no_other() -> None:
    """After the patience the rest of a span is fetched all the same; it counts as unfillable, with what is missing first."""
    fetching = Fetching(3 * CHUNK)
    fetching.after(0)
    fetching.answer(without=500)
    assert not fetching.told()
    fetching.after(PATIENCE_S + 1)
    fetching.answer(without=500)
    assert not fetching.told()
    for number in (1, 2):
        assert fetching.after(PATIENCE_S + 2).from_ms == START_MS + number * CHUNK * 1000
        fetching.answer()
    assert fetching.repaired() == [second for second in range(3 * CHUNK) if second != 500]
    (entry,) = fetching.told()
    assert (entry.state, entry.klines) == (GapState.UNFILLABLE, 3 * CHUNK - 1)
    assert entry.reason == f"the exchange has 999 of the klines from {START_MS} on"
    assert len(fetching.backlog) == 0


def test_an_answer_that_cannot_be_used_is_asked_for_again() -> None:
    """A refusal is no proof that nobody has the klines: they are asked for as long as those that are missing."""
    fetching = Fetching(2)
    fetching.backlog.failed(fetching.after(0), "not JSON")
    assert not fetching.told()
    fetching.after(2)
    assert len(fetching.asked) == 2
    fetching.answer()
    (entry,) = fetching.told()
    assert (entry.state, entry.klines, entry.reason) == (GapState.REPAIRED, 2, "")


def test_refusals_end_with_the_patience() -> None:
    """What is refused until then is unfillable, with the reason."""
    fetching = Fetching(2)
    fetching.backlog.failed(fetching.after(0), "no such symbol")
    fetching.backlog.failed(fetching.after(PATIENCE_S + 1), "no such symbol")
    (entry,) = fetching.told()
    assert (entry.state, entry.klines, entry.reason) == (GapState.UNFILLABLE, 0, "no such symbol")


def test_repaired_is_told_when_the_repairs_are_stored() -> None:
    """A producer that is killed before that finds the span deferred, and fetches it again."""
    fetching = Fetching(2)
    fetching.published.stores = False
    fetching.after(0)
    fetching.answer()
    assert fetching.repaired() == [0, 1]
    assert not fetching.told()
    assert len(fetching.backlog) == 1
    fetching.published.store()
    assert [entry.state for entry in fetching.told()] == [GapState.REPAIRED]
    assert len(fetching.backlog) == 0


def test_a_lost_repair_is_no_repair() -> None:
    """It ends the producer, and the span stays deferred."""
    fetching = Fetching(2)
    fetching.published.stores = False
    fetching.after(0)
    fetching.answer()
    fetching.published.store("the broker says no")
    with pytest.raises(DeliveryError, match="the broker says no"):
        fetching.backlog.tick()
    assert not fetching.published.of(FEED_GAPS.name)
