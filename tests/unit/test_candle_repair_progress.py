"""When a cluster of corrected candles is looked at again. Time is ours here."""

import threading

import pytest

from klinestream.market.intervals import INTERVALS
from klinestream.replay.repairs.candle_follow import CandleProgress
from klinestream.replay.repairs.candles import REMEMBERED, Reach
from klinestream.replay.repairs.index import Cluster, RepairIndex
from klinestream.replay.repairs.loop import Companion
from tests.eventually import eventually
from tests.klines import START_MS

REACH = Reach("5m", 100)
LENGTH_MS = INTERVALS["5m"]
LENGTH_S = LENGTH_MS // 1000


def at(place: int) -> int:
    return START_MS - START_MS % LENGTH_MS + place * LENGTH_MS


def progress_of(*places: int) -> CandleProgress:
    index = RepairIndex(LENGTH_MS // 2)
    for offset, place in enumerate(places):
        index.add("BTCUSDT", at(place), 0, offset)
    progress = CandleProgress(REACH, index, settle_s=5.0)
    progress.touched({"BTCUSDT"}, 0.0)
    return progress


def finish_all(progress: CandleProgress, now_s: float, corrected: bool) -> list[Cluster]:
    due = progress.due(now_s)
    for one in due:
        progress.finished(one)
        progress.known(one, corrected, now_s)
    return due


def test_candles_side_by_side_make_a_cluster() -> None:
    """Others stand alone, however near: each is computed with what is around it."""
    progress = progress_of(7, 9, 8, 11)
    assert [(one.first_ms, one.last_ms) for one in progress.index.clusters()] == [(at(7), at(9)), (at(11), at(11))]
    assert [one.first_ms for one in progress.index.within("BTCUSDT", at(9), at(10))] == [at(7)]
    assert len(progress.index.within("BTCUSDT", at(9), at(11))) == 2
    assert progress.index.within("ETHUSDT", at(9), at(11)) == []


def test_the_reach_is_looked_at_more_and_more_rarely_and_at_its_end() -> None:
    """At first after each candle, then after a quarter of the time since the correction; never later than the end of the reach."""
    progress = progress_of(0)
    (cluster,) = progress.index.clusters()
    assert [progress.pause_s(cluster, at(newest)) / LENGTH_S for newest in (0, 3, 8, 40, 96, 99)] == [1, 1, 2, 10, 4, 1]


def test_what_becomes_known_makes_what_is_near_due_again() -> None:
    """Once, and only where something may be corrected."""
    progress = progress_of(0)
    assert len(finish_all(progress, 5.0, corrected=True)) == 1
    near, far = 90, 2 * (REACH.candles + REMEMBERED)
    for offset, place in enumerate((near, far), 10):
        progress.index.add("BTCUSDT", at(place), 0, offset)
    progress.touched({"BTCUSDT"}, 10.0)
    assert [one.first_ms for one in finish_all(progress, 15.0, corrected=False)] == [at(near), at(far)]
    assert [one.first_ms for one in finish_all(progress, 20.0, corrected=True)] == [at(0)]
    assert progress.due(60.0) == []


def test_what_waits_begins_anew_when_it_is_opened_again() -> None:
    """What was published of it counts no more."""
    progress = progress_of(0)
    (cluster,) = progress.due(5.0)
    progress.waits(cluster, at(3), 5.0)
    assert progress.done_ms(cluster) == at(3)
    progress.reopen(cluster)
    assert (progress.done_ms(cluster), len(progress)) == (-1, 0)
    progress.touched({"BTCUSDT"}, 6.0)
    assert progress.due(11.0) == [cluster]


def test_a_companion_ends_when_it_shall_and_says_what_it_failed_with() -> None:
    """Its failure is raised where the process looks for it."""
    ran = threading.Event()

    def work(going_on: object) -> None:
        assert callable(going_on)
        while True:
            going_on()
            ran.wait(0.01)

    companion = Companion("test", work)
    companion.check()
    companion.stop(5.0)
    companion.check()

    def failing(_going_on: object) -> None:
        raise ValueError("of some kind")

    broken = Companion("test", failing)
    with pytest.raises(ValueError, match="of some kind"):
        eventually(lambda: looked(broken), 5.0, "it fails")


def looked(companion: Companion) -> bool:
    companion.check()
    return False
