"""Trades through a lane and the backlog of what it went on without: in what order all is told, and what REST is asked for."""

import time
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from klinestream.market import codec
from klinestream.market.events import IdGap, IdGapState
from klinestream.market.topics import ID_GAPS, TRADE_REPAIRS, TRADES
from klinestream.runtime.config import Config
from klinestream.runtime.kafka import Record
from klinestream.runtime.weights import Weights
from producer.feed_fleet import FeedFleet
from producer.feed_metrics import FeedMetrics
from producer.feed_outlet import FeedOutlet
from producer.feeds.binance_trades import BinanceTrades
from producer.feeds.interface import Entry, Settled, Want
from producer.id_backlog import IdBacklog
from producer.lane import Lane
from producer.wants import WantRequest
from tests.canned_rest import Answer, canned_rest
from tests.eventually import eventually
from tests.unit.test_trade_frames import AGGREGATE, NOW_MS, SINGLE, feed, frame
from tests.unit.test_trades_series import BTC, aggregate, feed_of, single

PATIENCE_S = 3600.0
TICK_S = 0.1
ASK_AGAIN_S = 0.3
SOON_S = 10.0


def raw(number: int, first: int, last: int) -> bytes:
    """The frame of an aggregate, as `aggregate` reads it."""
    return frame(AGGREGATE, a=number, f=first, l=last, T=NOW_MS - 1000 + first)


class Carried:
    """One symbol's lane and its backlog, with a clock that the test moves; what they publish, and what they ask for, stays here."""

    def __init__(self, of: BinanceTrades | None = None, tail: bytes | None = None, *detected: IdGap) -> None:
        self.records: list[Record] = []
        self.asked: list[WantRequest] = []
        self.now_s = 0.0
        trades, metrics = of or feed(), FeedMetrics("trades", "binance")
        outlet = FeedOutlet(self, "trades", "test", "wss://venue.example", metrics, lambda: NOW_MS)  # type: ignore[arg-type]  # publishes only
        clock: Callable[[], float] = lambda: self.now_s  # noqa: E731  # one for both
        self.backlog = IdBacklog(trades, outlet, metrics, self._ask, PATIENCE_S, clock)
        self.lane = Lane(
            trades, 0, outlet, metrics,
            ask=self._ask, withdraw=lambda _: None, deferred=self.backlog.add, now_ms=lambda: NOW_MS, now_s=clock,
        )  # fmt: skip  # what it is told of, and what it tells
        self.lane.follow([BTC], {} if tail is None else {BTC: tail}, {BTC: detected})

    def publish(self, record: Record) -> None:
        self.records.append(record)

    def _ask(self, request: WantRequest) -> bool:
        self.asked.append(request)
        return True

    def takes(self, *frames: bytes) -> None:
        for one in frames:
            self.lane.take(one, set())

    def lasts(self, seconds: float) -> None:
        """The clock ticks for so long."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            self.lane.look()
            self.backlog.tick()

    @property
    def wants(self) -> list[Want]:
        """What the lane asked for so far."""
        return [request.want for request in self.asked if not request.deferred]

    @property
    def repairing(self) -> list[WantRequest]:
        """What the backlog asked for so far."""
        return [request for request in self.asked if request.deferred]

    @property
    def ledger(self) -> list[IdGap]:
        return [codec.decode_id_gap(record.value or b"") for record in self.records if record.topic == ID_GAPS.name]

    def told(self) -> list[tuple[int, int, IdGapState]]:
        return [(gap.from_id, gap.to_id, gap.state) for gap in self.ledger]

    def ids(self, topic: str = TRADES.name) -> list[int]:
        """Every id in a topic, in its order."""
        trades = [codec.decode_trade(record.value or b"") for record in self.records if record.topic == topic]
        return [number for trade in trades for number in range(trade.first_id, trade.last_id + 1)]

    def story(self) -> list[str | IdGapState]:
        """What was published, trades and entries of the ledger, in order."""
        return [codec.decode_id_gap(record.value or b"").state if record.topic == ID_GAPS.name else record.topic for record in self.records]


TAIL = aggregate(7, 40, 42).content[1]


def single_ids(first: int, count: int) -> list[Entry]:
    """Aggregates of one trade each; aggregate 8 holds trade 43."""
    return [aggregate(number - 35, number, number) for number in range(first, first + count)]


def test_the_first_live_trade_ends_the_look_back() -> None:
    """It tells all that the look-back could: from then on nothing is asked for while trades follow each other."""
    carried = Carried(None, TAIL)
    assert len(carried.wants) == 1
    for number in range(43, 143):
        carried.takes(raw(number - 35, number, number))
        carried.lasts(TICK_S)
    assert carried.ids() == list(range(43, 143))
    assert len(carried.wants) == 1


def test_a_live_trade_beyond_a_gap_ends_the_look_back_too() -> None:
    """What is missing before it is asked for, urgently, and once that has come, live, nothing more."""
    carried = Carried(None, TAIL)
    carried.takes(raw(9, 47, 48))
    assert [(want.from_id, want.to_id, want.urgent) for want in carried.wants] == [(43, None, False), (43, 47, True)]
    carried.takes(raw(8, 43, 46))
    carried.lasts(1.0)
    assert carried.ids() == list(range(43, 49))
    assert len(carried.wants) == 2


def test_a_gap_that_was_filled_in_part_is_deferred_once_and_fetched_from_where_it_lacks() -> None:
    """Under the name that it was detected with: what was obtained is in the feed, and isn't fetched again, after a restart neither."""
    carried = Carried(feed(), TAIL)
    carried.takes(raw(10, 47, 48))
    carried.lane.answered(carried.asked[-1], [aggregate(8, 43, 44)])
    carried.lasts(11.0)
    assert carried.ids() == [43, 44, 47, 48]
    assert carried.told() == [(43, 47, IdGapState.DETECTED), (43, 47, IdGapState.DEFERRED)]
    (request,) = carried.repairing
    assert (request.want.from_id, request.want.to_id) == (45, 47)
    carried.backlog.answered(request, [aggregate(8, 43, 44), aggregate(9, 45, 46)])
    assert carried.ids(TRADE_REPAIRS.name) == [45, 46]
    assert (carried.told()[-1], carried.ledger[-1].obtained) == ((43, 47, IdGapState.REPAIRED), 4)
    later = Carried(feed(), aggregate(10, 47, 48).content[1])
    known = carried.ledger[1]
    later.backlog.add(BTC, Settled(known.from_id, known.to_id, known.state, known.after_ms, known.before_ms, known.obtained))
    later.backlog.tick()
    assert later.repairing == [request]


def test_what_is_given_up_is_told_before_what_was_held_behind_it_goes_out() -> None:
    """Whoever is killed in between leaves an entry too many, and no missing trade that the ledger doesn't know."""
    by_clock, by_count = Carried(feed(), TAIL), Carried(feed_of(held_most=2), TAIL)
    for carried in (by_clock, by_count):
        carried.takes(raw(10, 47, 48), raw(11, 49, 49))
    by_clock.lasts(11.0)
    for carried in (by_clock, by_count):
        assert carried.story() == [IdGapState.DETECTED, IdGapState.DEFERRED, TRADES.name, TRADES.name]
        assert [request.want.from_id for request in carried.asked if request.deferred] == ([43] if carried is by_clock else [])
        assert len(carried.backlog) == 1


def test_what_was_filled_is_told_after_it_went_out() -> None:
    """So that the ledger never says of trades that they are there before they are."""
    carried = Carried(feed(), TAIL)
    carried.takes(raw(10, 47, 48))
    carried.lane.answered(carried.asked[-1], [aggregate(8, 43, 44), aggregate(9, 45, 46)])
    assert carried.story() == [IdGapState.DETECTED, TRADES.name, TRADES.name, TRADES.name, IdGapState.REFILLED]


def detected(first: int, end: int) -> IdGap:
    """What an earlier life told of missing ids."""
    times = (NOW_MS - 1000 + first - 1, NOW_MS - 1000 + end)
    return IdGap(f"trades:{BTC}:{first}-{end}", "trades", BTC, IdGapState.DETECTED, "test", first, end, *times, 0, "", NOW_MS)


@pytest.mark.parametrize(("newest", "known"), [(aggregate(10, 47, 48), False), (aggregate(9, 46, 46), False), (aggregate(7, 40, 42), True)])
def test_a_gap_that_the_topic_goes_on_beyond_is_fetched_once_more(newest: Entry, known: bool) -> None:
    """A process was killed while its hold ended: what was held is in the topic, or some of it, and the ledger says `detected` alone.

    Only if the topic ends before the gap is all of it refilled in order.
    """
    carried = Carried(None, newest.content[1], detected(43, 47))
    assert carried.told() == ([] if known else [(43, 47, IdGapState.DEFERRED)])
    assert len(carried.backlog) == (0 if known else 1)
    carried.takes(raw(12, 51, 52))
    first = newest.last_id + 1
    carried.lane.answered(carried.asked[-1], [entry for entry in single_ids(43, 8) if entry.first_id >= first])
    assert carried.told()[-1] == ((43, 47, IdGapState.REFILLED) if known else (first, 51, IdGapState.REFILLED))
    assert carried.ids() == list(range(first, 53))


def test_a_gap_of_an_earlier_life_that_was_filled_before_the_rest_was_given_up_is_refilled() -> None:
    """What was found anew in its place is larger: the ids of the former gap came, those after them didn't."""
    carried = Carried(None, TAIL, detected(43, 47))
    carried.takes(raw(20, 60, 60))
    carried.lane.answered(carried.asked[-1], [aggregate(8, 43, 47)])
    carried.lasts(11.0)
    assert carried.told() == [(43, 60, IdGapState.DETECTED), (43, 47, IdGapState.REFILLED), (43, 60, IdGapState.DEFERRED)]
    assert len(carried.backlog) == 1


def test_each_gap_ends_once_and_as_itself() -> None:
    """Three of them, of which the middle one was filled behind the first: the last one's end is not its end."""
    carried = Carried(feed(), TAIL)
    carried.takes(raw(9, 45, 45), raw(11, 49, 49), raw(15, 56, 56), raw(10, 46, 48), raw(12, 50, 51), raw(14, 54, 54))
    carried.lasts(11.0)
    assert carried.told() == [
        (43, 45, IdGapState.DETECTED),
        (46, 49, IdGapState.DETECTED),
        (50, 56, IdGapState.DETECTED),
        (43, 45, IdGapState.DEFERRED),
        (50, 56, IdGapState.DEFERRED),
        (46, 49, IdGapState.REFILLED),
    ]


def test_a_gap_of_an_earlier_life_is_refilled_only_where_all_its_ids_came() -> None:
    """It reaches out of the one that was found anew, whose ids are given up: what comes after that proves nothing of it."""
    carried = Carried(None, TAIL, detected(44, 47))
    carried.takes(raw(9, 45, 45))
    carried.lasts(11.0)
    assert carried.told() == [(43, 45, IdGapState.DETECTED), (43, 45, IdGapState.DEFERRED)]
    carried.takes(raw(10, 46, 48))
    assert carried.told()[2:] == [(44, 47, IdGapState.DEFERRED)]


def test_a_look_back_ends_a_gap_of_an_earlier_life() -> None:
    """No new gap is found in its place, since all came before any live trade."""
    carried = Carried(None, TAIL, detected(44, 47))
    carried.lane.answered(carried.asked[-1], [aggregate(8, 43, 45)])
    assert carried.told() == []
    carried.takes(raw(9, 46, 48))
    assert carried.told() == [(44, 47, IdGapState.REFILLED)]


def test_what_is_refused_is_deferred_still_until_the_patience_ends() -> None:
    """One bad answer proves nothing: it is asked for again, ever more seldom, and is unfillable only after all that time."""
    carried = Carried()
    carried.backlog.add(BTC, Settled(43, 45, IdGapState.DEFERRED, NOW_MS, NOW_MS))
    pauses = []
    while not carried.told():
        before, refused_s = len(carried.repairing), carried.now_s
        while len(carried.repairing) == before:
            carried.now_s += 1.0
            carried.backlog.tick()
        pauses.append(carried.now_s - refused_s)
        carried.backlog.failed(carried.repairing[-1], "no use")
    assert pauses[1:8] == [1, 2, 4, 8, 16, 32, 60]
    assert PATIENCE_S <= carried.now_s <= PATIENCE_S + 60
    assert (carried.told(), carried.ledger[0].reason) == ([(43, 45, IdGapState.UNFILLABLE)], "no use")


def test_an_answer_after_a_refusal_repairs() -> None:
    """With what was refused once."""
    carried = Carried()
    carried.backlog.add(BTC, Settled(43, 45, IdGapState.DEFERRED, NOW_MS, NOW_MS))
    carried.backlog.tick()
    carried.backlog.failed(carried.repairing[-1], "no use")
    carried.lasts(1.5)
    carried.backlog.answered(carried.repairing[-1], [aggregate(8, 43, 44)])
    assert (carried.ids(TRADE_REPAIRS.name), carried.told()) == ([43, 44], [(43, 45, IdGapState.REPAIRED)])


def test_what_rest_refuses_is_asked_for_again_after_a_while() -> None:
    """Not with each tick: each refusal costs weight. Another want of the symbol doesn't wait for that."""
    carried = Carried(feed("trade"), single(42).content[1])
    carried.takes(frame(SINGLE, t=45, T=NOW_MS - 900))
    asked = len(carried.wants)
    carried.lane.failed(carried.asked[-1])
    carried.lasts(5.0)
    assert len(carried.wants) == asked
    carried.takes(frame(SINGLE, t=43, T=NOW_MS - 950))
    assert [(want.from_id, want.to_id) for want in carried.wants[asked:]] == [(44, 45)]
    carried.lane.failed(carried.asked[-1])
    carried.lasts(9.9)
    assert len(carried.wants) == asked + 1
    carried.lasts(0.2)
    assert len(carried.wants) == asked + 2


def test_the_fleet_tells_a_lane_what_rest_refused() -> None:
    """An address without single trades is asked once, and not three times a second."""
    metrics, failures = FeedMetrics("trades", "binance"), SimpleQueue[Exception]()
    outlet = FeedOutlet(Carried(), "trades", "test", "wss://venue.example", metrics, lambda: NOW_MS)  # type: ignore[arg-type]  # publishes only
    with canned_rest() as rest:
        rest.answer = lambda _: Answer({"code": -1, "msg": "no such path"}, 404)
        config = Config(exchange={"rest_url": rest.url})  # type: ignore[arg-type]  # as pydantic reads it
        fleet = FeedFleet(
            config, feed("trade"), 1, outlet, metrics, client_id="test", weights=Weights(6000), now_ms=lambda: NOW_MS, failures=failures
        )
        (lane,) = fleet._lanes
        lane.follow([BTC], {BTC: single(42).content[1]}, {})
        fleet.start()
        try:
            eventually(lambda: rest.asked, SOON_S, "REST is asked")
            until_s = time.monotonic() + 3 * ASK_AGAIN_S
            eventually(lambda: time.monotonic() > until_s, SOON_S, "the clock ticked")
            assert len(rest.asked) == 1
        finally:
            fleet.stop()
    assert failures.empty()
