"""A symbol's trades, step by step: what is wanted, what an answer is worth, what the ledger is told. No socket, no clock."""

import pytest

from klinestream.market.codec import decode_trade
from klinestream.market.events import IdGapState
from klinestream.market.topics import TRADE_REPAIRS, TRADES
from klinestream.runtime.config import Config
from klinestream.runtime.rest import AGG_TRADES_WEIGHT, OLD_TRADES_WEIGHT
from producer.feeds.binance_trades import BinanceTrades
from producer.feeds.interface import Entry, Step, Verdict, Want
from tests.unit.test_trade_frames import AGGREGATE, NOW_MS, SINGLE, entry, feed, frame

BTC = "BTCUSDT"


def aggregate(number: int, first: int, last: int) -> Entry:
    """An aggregate of these trades."""
    return entry(feed(), frame(AGGREGATE, a=number, f=first, l=last, T=NOW_MS - 1000 + first))


def single(number: int) -> Entry:
    """A single trade."""
    return entry(feed("trade"), frame(SINGLE, t=number, T=NOW_MS - 1000 + number))


def ids(step: Step, topic: str = TRADES.name) -> list[tuple[int, int]]:
    """The ids of what a step publishes."""
    assert all(out.topic == topic for out in step.out)
    trades = [decode_trade(out.value) for out in step.out]
    assert [out.time_ms for out in step.out] == [trade.time_ms for trade in trades]
    return [(trade.first_id, trade.last_id) for trade in trades]


def told(step: Step) -> list[tuple[int, int, IdGapState]]:
    return [(gap.from_id, gap.to_id, gap.state) for gap in step.gaps]


def feed_of(held_most: int) -> BinanceTrades:
    config = Config()
    return BinanceTrades(config.model_copy(update={"trades": config.trades.model_copy(update={"held_most": held_most})}))


def test_a_gap_is_told_wanted_filled_and_told_again() -> None:
    """What is missing is asked for from the next aggregate on, page by page; all goes out in order."""
    series = feed().series(BTC, None)
    assert ids(series.live(aggregate(7, 40, 42))) == [(40, 42)]
    step = series.live(aggregate(10, 47, 48))
    assert (step.verdict, ids(step), told(step)) == (Verdict.HOLD, [], [(43, 47, IdGapState.DETECTED)])
    assert series.wants() == [Want(BTC, 43, 47, 8, NOW_MS - 1000 + 40, AGG_TRADES_WEIGHT)]
    step = series.live(aggregate(12, 50, 50))
    assert told(step) == [(49, 50, IdGapState.DETECTED)]
    (want,) = series.wants()
    step = series.answered(want, [aggregate(8, 43, 44)])
    assert (ids(step), told(step)) == ([(43, 44)], [])
    (want,) = series.wants()
    assert (want.from_id, want.to_id, want.cursor) == (45, 47, 9)
    step = series.answered(want, [aggregate(9, 45, 46), aggregate(10, 47, 48), aggregate(11, 49, 49), aggregate(12, 50, 50)])
    assert ids(step) == [(45, 46), (47, 48), (49, 49), (50, 50)]
    assert told(step) == [(43, 47, IdGapState.REFILLED), (49, 50, IdGapState.REFILLED)]
    assert series.wants() == ()
    assert series.newest_id == 50


@pytest.mark.parametrize("answer", [[], [aggregate(6, 38, 39)], [aggregate(9, 50, 51)]])
def test_a_useless_answer_leaves_all_as_it_is(answer: list[Entry]) -> None:
    """Nothing, what is there already, or what lies beyond: the same is wanted still, of aggregates unless they can't be had so."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(9, 45, 46))
    (want,) = series.wants()
    assert not series.answered(want, answer).out
    (again,) = series.wants()
    assert (again.from_id, again.to_id) == (43, 45)


def test_an_aggregate_that_straddles_is_had_one_by_one() -> None:
    """After single trades an aggregate holds some that are there: the others come as single trades, the next aggregate as itself."""
    series = feed().series(BTC, single(41).content[1])
    step = series.live(aggregate(7, 40, 43))
    assert (step.verdict, ids(step), told(step)) == (Verdict.HOLD, [], [(42, 44, IdGapState.DETECTED)])
    (want,) = series.wants()
    assert (want.from_id, want.to_id, want.cursor, want.weight) == (42, 44, None, OLD_TRADES_WEIGHT)
    step = series.live(aggregate(8, 44, 44))
    assert step.verdict is Verdict.HOLD
    step = series.answered(want, [single(42), single(43)])
    assert (ids(step), told(step)) == ([(42, 42), (43, 43), (44, 44)], [(42, 44, IdGapState.REFILLED)])


def test_rest_s_aggregates_that_straddle_lead_to_single_trades() -> None:
    """Where REST's aggregate begins before what is missing it isn't used, and what is missing is asked for one by one."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(9, 46, 46))
    (want,) = series.wants()
    assert not series.answered(want, [aggregate(8, 42, 44), aggregate(9, 45, 46)]).out
    (want,) = series.wants()
    assert (want.from_id, want.to_id, want.weight) == (43, 46, OLD_TRADES_WEIGHT)


def test_a_late_answer_says_nothing_of_the_next_gap() -> None:
    """What it was asked for came live meanwhile: the next gap is asked for as aggregates, which every address has."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(9, 45, 46))
    (late,) = series.wants()
    series.live(aggregate(8, 43, 44))
    series.live(aggregate(12, 50, 50))
    assert not series.answered(late, [aggregate(8, 43, 44), aggregate(9, 45, 46)]).out
    (want,) = series.wants()
    assert (want.from_id, want.to_id, want.cursor, want.weight) == (47, 50, 10, AGG_TRADES_WEIGHT)


def test_after_a_gap_that_was_had_otherwise_aggregates_are_asked_for_again() -> None:
    """Single trades were wanted, and a late live aggregate filled the gap: the next one begins with an aggregate."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(9, 45, 46))
    (want,) = series.wants()
    series.answered(want, [aggregate(8, 42, 44), aggregate(9, 45, 46)])
    (want,) = series.wants()
    assert want.weight == OLD_TRADES_WEIGHT
    assert ids(series.live(aggregate(8, 43, 44))) == [(43, 44), (45, 46)]
    series.live(aggregate(12, 50, 50))
    (want,) = series.wants()
    assert (want.from_id, want.cursor, want.weight) == (47, 10, AGG_TRADES_WEIGHT)


def test_what_is_given_up_is_deferred_and_the_rest_goes_out() -> None:
    """What was obtained of a gap stays in the feed; the gap is deferred from there on, and a late answer is none of the feed's."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(10, 47, 48))
    (want,) = series.wants()
    assert ids(series.answered(want, [aggregate(8, 43, 44)])) == [(43, 44)]
    step = series.give_up()
    assert (ids(step), told(step)) == ([(47, 48)], [(43, 47, IdGapState.DEFERRED)])
    assert (step.gaps[0].after_ms, step.gaps[0].obtained) == (NOW_MS - 1000 + 43, 2)
    assert series.wants() == ()
    assert series.live(aggregate(9, 45, 46)).verdict is Verdict.STALE
    assert ids(series.live(aggregate(11, 49, 49))) == [(49, 49)]


def test_a_gap_that_was_filled_behind_another_one_is_not_deferred_with_it() -> None:
    """All of it was held, so with the end of the hold it is in the feed; of one in pieces the first ids that lack are what is left."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(9, 45, 45))
    series.live(aggregate(11, 49, 49))
    series.live(aggregate(15, 56, 56))
    series.live(aggregate(10, 46, 48))
    series.live(aggregate(12, 50, 51))
    series.live(aggregate(14, 54, 54))
    step = series.give_up()
    assert ids(step) == [(45, 45), (46, 48), (49, 49), (50, 51), (54, 54), (56, 56)]
    assert told(step) == [(43, 45, IdGapState.DEFERRED), (50, 56, IdGapState.DEFERRED), (46, 49, IdGapState.REFILLED)]
    assert [(gap.after_ms, gap.obtained) for gap in step.gaps[:2]] == [(NOW_MS - 1000 + 40, 0), (NOW_MS - 1000 + 50, 2)]


def test_what_is_given_up_as_soon_as_it_is_missed_is_told_whole() -> None:
    """One trade may be held: the gap is detected and deferred at once, each time with the trades around it."""
    series = feed_of(held_most=1).series(BTC, None)
    series.live(aggregate(7, 40, 42))
    step = series.live(aggregate(10, 47, 48))
    assert (ids(step), told(step)) == ([(47, 48)], [(43, 47, IdGapState.DETECTED), (43, 47, IdGapState.DEFERRED)])
    assert {(gap.after_ms, gap.before_ms) for gap in step.gaps} == {(NOW_MS - 1000 + 40, NOW_MS - 1000 + 47)}


def test_no_more_is_held_than_may_be() -> None:
    """With the most that is held the feed goes on by itself."""
    series = feed_of(held_most=3).series(BTC, None)
    series.live(aggregate(7, 40, 42))
    series.live(aggregate(10, 47, 48))
    series.live(aggregate(11, 49, 49))
    step = series.live(aggregate(12, 50, 50))
    assert (ids(step), told(step)) == ([(47, 48), (49, 49), (50, 50)], [(43, 47, IdGapState.DEFERRED)])
    assert step.gaps[0].reason == "more than 3 trades were held"


def test_a_start_looks_back_before_anything_is_traded() -> None:
    """After the newest record of the topic all that was traded meanwhile is asked for, without hurry, until no page is full."""
    series = feed().series(BTC, aggregate(7, 40, 42).content[1])
    assert series.wants() == [Want(BTC, 43, None, 8, NOW_MS - 1000 + 40, AGG_TRADES_WEIGHT, urgent=False)]
    (want,) = series.wants()
    page = [aggregate(8 + number, 43 + number, 43 + number) for number in range(1000)]
    assert ids(series.answered(want, page))[-1] == (1042, 1042)
    (want,) = series.wants()
    assert (want.from_id, want.cursor) == (1043, 1008)
    assert ids(series.answered(want, [])) == []
    assert series.wants() == ()


def test_each_gap_is_told_with_the_time_of_the_trade_before_it() -> None:
    """Which is held behind an earlier gap: what is fetched for a repair begins there, not thousands of trades before."""
    series = feed().series(BTC, None)
    series.live(aggregate(7, 40, 42))
    first, second = series.live(aggregate(10, 47, 48)), series.live(aggregate(12, 50, 50))
    assert [step.gaps[0].after_ms for step in (first, second)] == [NOW_MS - 1000 + 40, NOW_MS - 1000 + 47]
    assert [gap.after_ms for gap in series.give_up().gaps] == [NOW_MS - 1000 + 40, NOW_MS - 1000 + 47]


def test_a_page_of_repairs_that_ends_before_the_missing_ids_leads_to_the_next_page() -> None:
    """Until one holds them, however far after the time that the ledger knows they lie."""
    trades = feed()
    want = trades.missing(BTC, 2500, 2502, NOW_MS)
    for page in range(2):
        answer = [aggregate(number, number, number) for number in range(1000 * page, 1000 * page + 1000)]
        found = trades.repair(want, answer)
        assert (found.out, found.to_id) == ([], 2500)
        want = found.want
        assert (want.from_id, want.cursor, want.weight) == (2500, 1000 * page + 1000, AGG_TRADES_WEIGHT)
    found = trades.repair(want, [aggregate(number, number, number) for number in range(2000, 3000)])
    assert ids(Step(out=found.out), TRADE_REPAIRS.name) == [(2500, 2500), (2501, 2501)]
    assert found.to_id == 2502


def test_repairs_go_on_from_the_beginning() -> None:
    """What is deferred is found by the time before it, then aggregate by aggregate, and one by one where none begins with it."""
    trades = feed()
    want = trades.missing(BTC, 45, 49, NOW_MS - 1000 + 43)
    assert (want.cursor, want.weight) == (None, AGG_TRADES_WEIGHT)
    found = trades.repair(want, [aggregate(8, 43, 44), aggregate(9, 45, 46)])
    assert ids(Step(out=found.out), TRADE_REPAIRS.name) == [(45, 46)]
    assert (found.to_id, found.want.from_id, found.want.cursor) == (47, 47, 10)
    assert trades.repair(found.want, []).want == found.want
    found = trades.repair(found.want, [aggregate(10, 46, 49)])
    assert (found.out, found.to_id, found.want.weight) == ([], 47, OLD_TRADES_WEIGHT)
    found = trades.repair(found.want, [single(47), single(48)])
    assert ids(Step(out=found.out), TRADE_REPAIRS.name) == [(47, 47), (48, 48)]
    assert found.to_id == 49
