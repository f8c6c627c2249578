"""What a repair reads and publishes: over topics in memory, since what matters here no broker does on demand."""

import itertools
from collections.abc import Sequence

import pytest

from klinestream.market.codec import encode_kline
from klinestream.market.errors import BrokerError
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.topics import KLINE_REPAIRS, KLINES
from klinestream.market.windows import WindowSettings
from klinestream.replay.repairs.window_topics import Outcome, TopicRepair
from klinestream.replay.repairs.windows import warm_up_ms
from klinestream.runtime.kafka import Record
from tests.kept_topics import KeptTopics
from tests.klines import START_MS, kline

SETTINGS = WindowSettings(rsi_period=2)
WARM_UP_S = warm_up_ms(SETTINGS) // SECOND_MS


class Topics(KeptTopics):
    """A feed and its repairs."""

    def __init__(self, feed: Sequence[Kline], repairs: Sequence[Kline]) -> None:
        super().__init__()
        self.records |= {KLINES.name: _records(KLINES.name, feed), KLINE_REPAIRS.name: _records(KLINE_REPAIRS.name, repairs)}


def _records(topic: str, klines: Sequence[Kline]) -> list[Record]:
    return [Record(topic, b"BTCUSDT", encode_kline(k), k.close_time_ms, (), 0, offset) for offset, k in enumerate(klines)]


class Repairing:
    """A repair of topics in memory, and what it published."""

    def __init__(self, topics: Topics) -> None:
        self.published: list[Record] = []
        seconds = itertools.count()
        self.topics = TopicRepair(topics, SETTINGS, self.published.append, lambda: START_MS, clock_s=lambda: float(next(seconds)))

    def all(self) -> list[Outcome]:
        return [one for outcomes in self.topics.repair(self.topics.index().clusters(), {}) for one in outcomes]


def klines(*spans: range) -> list[Kline]:
    return [kline(second=second, price=10**8 * (50 + 7 * second % 29)) for span in spans for second in span]


def test_it_tells_what_was_repaired() -> None:
    """Seconds, since, revision and the number of windows; complete, since the feed goes on long enough."""
    repairing = Repairing(Topics(klines(range(100), range(103, 200)), klines(range(100, 103))))
    ((outcome,), published) = repairing.all(), repairing.published
    (one,) = outcome.repaired
    assert outcome.complete
    assert (one.filled, one.corrected, one.revision, one.complete) == (3, 0, 3, True)
    assert (one.from_ms, one.to_ms) == (START_MS + 100 * SECOND_MS, START_MS + 103 * SECOND_MS)
    assert one.since_ms == START_MS + (100 - WARM_UP_S) * SECOND_MS
    assert one.windows == len(published) > 2 * 3


def test_what_retention_has_reached_is_passed_over() -> None:
    """A repair whose warm-up the feed may not hold any more publishes nothing, and is finished; the next one is repaired."""
    topics = Topics(klines(range(100), range(103, 400), range(401, 500)), klines(range(100, 103), range(400, 401)))
    # Of the second with which the feed begins now some symbols' klines may be gone.
    topics.first[KLINES.name] = 100 - WARM_UP_S
    old, new = sorted(Repairing(topics).all(), key=lambda outcome: outcome.cluster.first_ms)
    assert (old.held, old.complete, old.repaired) == (False, True, ())
    assert (new.held, new.complete, len(new.repaired)) == (True, True, 1)
    topics.first[KLINES.name] = 100 - WARM_UP_S - 1
    assert all(outcome.held for outcome in Repairing(topics).all())


def test_a_kline_that_the_feed_has_too_late_does_not_count() -> None:
    """One that comes after a newer one is not held by the job, even where that newer one lies beyond what is needed."""
    repairing = Repairing(Topics(klines(range(100), range(200, 230), range(101, 102)), klines(range(100, 101))))
    (outcome,) = repairing.all()
    assert [one.windows for one in outcome.repaired] == [2]


def test_markers_of_transactions_end_nothing() -> None:
    """The repairs may end with offsets that no reader sees; of the feed, where every offset counts, that is an error."""
    topics = Topics(klines(range(100), range(103, 110)), klines(range(100, 103)))
    topics.markers[KLINE_REPAIRS.name] = 2
    repairing = Repairing(topics)
    assert len(repairing.topics.index()) == 1
    topics.markers[KLINES.name] = 2
    with pytest.raises(BrokerError, match=r"expected records up to these offsets: .*crypto_kline_data.* but nothing came"):
        repairing.all()


def test_repairs_that_came_after_the_look_are_not_used() -> None:
    """What a revision says must hold: what was looked at is used, nothing newer."""
    topics = Topics(klines(range(100), range(103, 110)), klines(range(100, 102)))
    repairing = Repairing(topics)
    clusters = repairing.topics.index().clusters()
    topics.records[KLINE_REPAIRS.name] = _records(KLINE_REPAIRS.name, klines(range(100, 103)))
    ((outcome,),) = list(repairing.topics.repair(clusters, {}))
    assert outcome.repaired[0].filled == 2


def test_what_was_published_before_is_left_out() -> None:
    """With the kline up to which its windows are published already, only the rest comes."""
    topics = Topics(klines(range(100), range(103, 110)), klines(range(100, 103)))
    first = Repairing(topics)
    (outcome,) = first.all()
    assert (outcome.complete, outcome.newest_ms) == (False, START_MS + 109 * SECOND_MS)
    topics.records[KLINES.name] = _records(KLINES.name, klines(range(100), range(103, 200)))
    second, whole = Repairing(topics), Repairing(topics)
    list(second.topics.repair([outcome.cluster], {outcome.cluster: outcome.newest_ms}))
    whole.all()
    assert [record.value for record in first.published + second.published] == [record.value for record in whole.published]


def test_what_is_no_kline_is_passed_over() -> None:
    """Garbage in either topic changes nothing, as in the job."""
    sound, spoilt = (Topics(klines(range(100), range(103, 200)), klines(range(100, 103))) for _ in range(2))
    for records in spoilt.records.values():
        records.insert(1, Record(records[0].topic, b"BTCUSDT", b"garbage", records[0].timestamp_ms, (), 0, 1))
        for offset, record in enumerate(records):
            record.offset = offset
    right, found = Repairing(sound), Repairing(spoilt)
    (one,), (other,) = right.all(), found.all()
    assert other.repaired[0].windows == one.repaired[0].windows == len(found.published) > 0
