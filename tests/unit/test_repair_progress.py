"""Which repairs belong together, what fits into a pass, and what is due when. Time is ours here."""

from klinestream.replay.repairs.index import Cluster, RepairIndex
from klinestream.replay.repairs.progress import Progress, tell
from klinestream.replay.repairs.window_topics import passes
from tests.klines import START_MS

WARM_UP_MS = 100_000


def at(second: int) -> int:
    return START_MS + second * 1000


def cluster(symbol: str, first: int, last: int, partition: int = 0, offset: int = 0) -> Cluster:
    return Cluster(symbol, partition, at(first), at(last), offset, offset + last - first)


def index_of(*seconds: int, symbol: str = "BTCUSDT", most: int = 100) -> RepairIndex:
    index = RepairIndex(WARM_UP_MS, most)
    for offset, second in enumerate(seconds):
        index.add(symbol, at(second), 0, offset)
    return index


def progress_of(*seconds: int) -> Progress:
    progress = Progress(index_of(*seconds), WARM_UP_MS, settle_s=5.0)
    progress.touched(["BTCUSDT"], 0.0)
    return progress


def test_seconds_that_may_touch_each_other_make_a_cluster_in_any_order() -> None:
    """Up to twice the warm-up apart they are one, and one that comes between two joins them."""
    assert [(one.first_ms, one.last_ms) for one in index_of(200, 0, 1).clusters()] == [(at(0), at(200))]
    apart = index_of(201, 0)
    assert len(apart) == len(apart.clusters()) == 2
    apart.add("BTCUSDT", at(150), 0, 7)
    assert apart.clusters() == [Cluster("BTCUSDT", 0, at(0), at(201), 0, 7)]
    assert len(apart) == 1


def test_symbols_have_clusters_of_their_own() -> None:
    """What another symbol repairs is no part of it."""
    index = index_of(0)
    index.add("ETHUSDT", at(0), 0, 9)
    assert [one.symbol for one in index.clusters()] == ["BTCUSDT", "ETHUSDT"]


def test_what_there_is_no_room_for_is_forgotten_oldest_first() -> None:
    """The index has a bound."""
    index = index_of(*range(0, 300_000, 1000), most=100)
    assert len(index) == len(index.clusters()) <= 100
    assert index.clusters()[-1].last_ms == at(299_000)
    assert index.forgotten == 300 - len(index)


def test_passes_hold_each_cluster_once_within_their_bounds() -> None:
    """One partition, one cluster a symbol, near each other, and no more klines than may be; a cluster that is too long is alone."""
    clusters = [cluster(f"S{n}", 10 * n, 10 * n + 5) for n in range(20)]
    clusters += [cluster("S1", 900, 905), cluster("FAR", 90_000, 90_001), cluster("OTHER", 0, 1, partition=1), cluster("LONG", 0, 5000)]
    found = list(passes(clusters, WARM_UP_MS, klines_most=1000))
    assert sorted(one.symbol for chosen in found for one in chosen) == sorted(one.symbol for one in clusters)
    for chosen in found:
        assert len({one.partition for one in chosen}) == 1
        assert len({one.symbol for one in chosen}) == len(chosen)
        assert len(chosen) == 1 or sum((one.last_ms - one.first_ms + 2 * WARM_UP_MS) // 1000 for one in chosen) <= 1000
    assert ["FAR"] in [[one.symbol for one in chosen] for chosen in found]
    assert ["LONG"] in [[one.symbol for one in chosen] for chosen in found]


def test_a_symbol_is_due_once_it_has_settled() -> None:
    """A further kline makes it wait again; the ledger's word ends the wait; it comes once."""
    progress = progress_of(0)
    assert progress.due(4.9) == []
    progress.touched(["BTCUSDT"], 4.9)
    assert progress.due(6.0) == []
    assert [one.first_ms for one in progress.due(9.9)] == [at(0)]
    assert progress.due(60.0) == []
    progress.touched(["BTCUSDT"], 60.0)
    progress.settled("BTCUSDT")
    assert [one.first_ms for one in progress.due(60.0)] == [at(0)]


def test_what_waits_for_the_feed_is_due_when_the_feed_should_be_there() -> None:
    """It knows up to where it is published; while the feed stands still the waits grow to a bound."""
    progress = progress_of(0)
    (waiting,) = progress.due(5.0)
    progress.waits(waiting, at(40), 5.0)
    assert progress.done_ms(waiting) == at(40)
    assert progress.due(64.9) == []
    assert progress.due(65.0) == [waiting]
    now_s, pauses = 65.0, []
    for _ in range(8):
        progress.waits(waiting, at(40), now_s)
        before = now_s
        while not progress.due(now_s):
            now_s += 1
        pauses.append(now_s - before)
    assert pauses == sorted(pauses)
    assert pauses[0] == 120
    assert pauses[-1] == 600


def test_one_that_grew_is_due_in_its_new_form_only() -> None:
    """What was published of the former one says nothing of the new one, whose revisions are others."""
    progress = progress_of(0)
    (former,) = progress.due(5.0)
    progress.waits(former, at(40), 5.0)
    progress.index.add("BTCUSDT", at(1), 0, 8)
    progress.touched(["BTCUSDT"], 100.0)
    assert progress.due(104.0) == []
    (grown,) = progress.due(200.0)
    assert (grown.last_offset, progress.done_ms(grown)) == (8, -1)
    progress.finished(grown)
    assert len(progress) == 0
    assert progress.due(9000.0) == []


def test_what_is_told_of_a_finished_cluster_is_remembered() -> None:
    """A later process knows it by the event; further klines make it due again; other words are passed over."""
    progress = progress_of(0, 1, 2)
    progress.remember("nothing of ours")
    progress.remember(tell(progress.index.clusters()[0], 3, 306))
    assert progress.due(10.0) == []
    progress.index.add("BTCUSDT", at(1), 0, 3)
    progress.touched(["BTCUSDT"], 10.0)
    assert [one.last_offset for one in progress.due(15.0)] == [3]
