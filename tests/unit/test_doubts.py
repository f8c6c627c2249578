"""Klines of REST that trade ids contradict: noticed by the feed, asked for again, put right."""

import pytest

from klinestream.market.codec import decode_gap, decode_kline
from klinestream.market.events import GapState, Kline
from klinestream.market.topics import FEED_GAPS, KLINE_REPAIRS
from producer.doubts import Doubts
from producer.feed import Doubt
from producer.metrics import Metrics
from producer.outlet import Outlet
from producer.refill import Request
from tests.feeding import Fed, Published, said
from tests.klines import START_MS

AFTER_S = (10.0, 30.0, 120.0)


class Asking:
    """Doubts, the clock that the test sets, and what they asked."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.asked: list[Request] = []
        self.takes = True
        self.published = Published()
        self.metrics = Metrics()
        outlet = Outlet(self.published, "test", "ws://test", self.metrics, lambda: START_MS)
        self.doubts = Doubts(outlet, self.metrics, self._ask, lambda: self.now_s, AFTER_S)

    def _ask(self, request: Request) -> bool:
        if self.takes:
            self.asked.append(request)
        return self.takes

    def after(self, seconds: float) -> None:
        """So long after the begin the clock ticks."""
        self.now_s = 1000.0 + seconds
        self.doubts.tick()

    def answer(self, *klines: Kline) -> None:
        """To the newest request."""
        self.doubts.answered(self.asked[-1], klines)

    def settled(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("klinestream_producer_doubts_settled_total", {"outcome": outcome}) or 0.0


def doubt(*trades: int, expected: int | None) -> Doubt:
    return Doubt("BTCUSDT", tuple(said(second, count) for second, count in enumerate(trades)), expected)


def test_a_proved_answer_corrects() -> None:
    """REST is asked again after 10 s; as soon as its trades are as many as the ids tell, what differs goes to the repairs, once."""
    asking = Asking()
    asking.doubts.add(doubt(2, 1, 0, expected=6))
    asking.after(9.9)
    assert not asking.asked
    asking.after(10)
    asking.after(11)
    assert [(one.symbol, one.from_ms, one.to_ms, one.urgent) for one in asking.asked] == [("BTCUSDT", START_MS, START_MS + 3000, False)]
    asking.answer(said(0, 2), said(1, 2), said(2, 0))
    assert not asking.published.records
    asking.after(30)
    asking.answer(said(0, 2), said(1, 3), said(2, 1))
    repairs = [decode_kline(value) for value in asking.published.of(KLINE_REPAIRS.name)]
    assert repairs == [said(1, 3), said(2, 1)]
    (entry,) = map(decode_gap, asking.published.of(FEED_GAPS.name))
    assert (entry.state, entry.from_ms, entry.to_ms) == (GapState.REPAIRED, START_MS + 1000, START_MS + 3000)
    assert (entry.klines, entry.proved, entry.trades) == (2, True, 6)
    assert len(asking.doubts) == 0
    assert asking.settled("corrected") == 1


def test_corrected_is_told_when_the_repairs_are_stored() -> None:
    """Not before: a producer that is killed until then has repaired nothing."""
    asking = Asking()
    asking.published.stores = False
    asking.doubts.add(doubt(2, expected=3))
    asking.after(10)
    asking.answer(said(0, 3))
    assert len(asking.published.of(KLINE_REPAIRS.name)) == 1
    assert not asking.published.of(FEED_GAPS.name)
    asking.published.store()
    asking.after(11)
    assert len(asking.published.of(FEED_GAPS.name)) == 1


def test_an_exchange_that_stays_with_it_is_not_asked_for_ever() -> None:
    """After three answers that the ids contradict it is counted as unexplained, and nothing was published."""
    asking = Asking()
    asking.doubts.add(doubt(2, expected=3))
    for number, seconds in enumerate(AFTER_S, 1):
        asking.after(seconds)
        assert len(asking.asked) == number
        asking.answer(said(0, 2))
    asking.after(1000)
    assert len(asking.asked) == 3
    assert not asking.published.records
    assert asking.settled("unexplained") == 1


@pytest.mark.parametrize(("expected", "outcome"), [(9, "unexplained"), (None, "unproved")])
def test_what_the_exchange_says_last_counts(expected: int | None, outcome: str) -> None:
    """Without a proof the last answer's klines go to the repairs where they differ; a second that it lacks stays as it is."""
    asking = Asking()
    asking.doubts.add(doubt(1, 1, expected=expected))
    for seconds in AFTER_S:
        asking.after(seconds)
        asking.answer(said(1, 3))
    assert [decode_kline(value) for value in asking.published.of(KLINE_REPAIRS.name)] == [said(1, 3)]
    (entry,) = map(decode_gap, asking.published.of(FEED_GAPS.name))
    assert (entry.state, entry.klines, entry.proved) == (GapState.REPAIRED, 1, False)
    assert asking.settled(outcome) == 1


def test_refusals_and_a_full_queue() -> None:
    """What the queue doesn't take is asked later, without counting; an answer that can't be used counts like one that proves nothing."""
    asking = Asking()
    asking.doubts.add(doubt(1, expected=2))
    asking.takes = False
    asking.after(10)
    asking.takes = True
    for seconds in (11.0, 30.0, 120.0):
        asking.after(seconds)
        asking.doubts.failed(asking.asked[-1], "no such symbol")
    assert len(asking.asked) == 3
    assert asking.settled("unexplained") == 1


def test_answers_to_others_are_not_taken() -> None:
    """An answer that came before it was asked for, or to another span, says nothing."""
    asking = Asking()
    asking.doubts.add(doubt(1, expected=2))
    asking.doubts.answered(Request("BTCUSDT", START_MS, START_MS + 1000), [said(0, 2)])
    asking.after(10)
    asking.doubts.answered(Request("BTCUSDT", START_MS, START_MS + 2000), [said(0, 2)])
    assert not asking.published.records
    assert len(asking.doubts) == 1


@pytest.mark.parametrize(("trades", "doubted"), [(2, False), (1, True), (3, True), (0, True)])
def test_the_next_trade_judges(trades: int, doubted: bool) -> None:
    """Klines of REST behind which a quiet second was held are published at once; the next trade's id tells whether they were right."""
    fed = Fed()
    fed.live(0, 2)
    fed.rest([trades])
    assert fed.opened() == [0, 1, 2]
    assert not fed.doubts
    fed.live(3)
    assert fed.opened() == [0, 1, 2, 3]
    assert [(len(one.published), one.published[0].trades, one.trades) for one in fed.doubts] == ([(1, trades, 2)] if doubted else [])
    assert (fed.metrics.registry.get_sample_value("klinestream_producer_doubtful_spans_total") or 0) == doubted
    fed.live(4, 5, 6, 7)
    assert len(fed.doubts) == doubted


def test_a_hole_leaves_it_unproved() -> None:
    """Where the series goes on after a hole no trade can prove what came from REST before it: a doubt without a number of trades."""
    fed = Fed()
    fed.live(0, 2)
    fed.rest([2])
    fed.live(6)
    fed.feed.expire(["BTCUSDT"], {})
    assert fed.opened() == [0, 1, 2, 6]
    assert [one.trades for one in fed.doubts] == [None]
