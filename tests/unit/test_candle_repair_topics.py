"""What a repair of candles reads and publishes: over topics in memory, since what matters here no broker does on demand."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of_candles
from klinestream.market.candle_lines import aggregate_lines, indicator_lines, signal_lines, signals_of
from klinestream.market.codec import encode_event
from klinestream.market.events import Candle, CandleOrigin, HistoryReason
from klinestream.market.indicators.catalogue import IndicatorSettings
from klinestream.market.intervals import INTERVALS
from klinestream.market.signals import SignalSettings
from klinestream.market.topics import AGGREGATES, CANDLE_HISTORY, CANDLES, INDICATORS, PUBLISHED_HEADER, SIGNALS
from klinestream.replay.repairs.candle_topics import CandleIndex, CandleOutcome, CandleTopicRepair
from klinestream.replay.repairs.candles import Versions, market_fields, reaches
from klinestream.runtime.kafka import Record
from tests.kept_topics import KeptTopics

SETTINGS = CandleSettings(
    ("1m", "5m"),
    provisional=False,
    indicators=IndicatorSettings(
        sma=(3,), ema=(), rsi=(3,), macd=(), bollinger=(), atr=(), vwap=(), stochastic=(), volatility=(), session_vwap=False
    ),
    signals=SignalSettings(("rsi",), rsi_period=3, rsi_low=45.0, rsi_high=55.0),
)
REACHES = reaches(SETTINGS)
REACH = REACHES["5m"]
BEFORE = REACH.before_ms // REACH.length_ms
START_MS = 1_700_000_100_000
SYMBOL = "BTCUSDT"


def candle(place: int, price: int | None = None, offset: int | None = None, interval: str = "5m") -> Candle:
    """One that was built, or the exchange's own."""
    length_ms = INTERVALS[interval]
    opened = START_MS + place * length_ms
    close = 10**8 * (price or 100 + (7 * place * place + place) % 29)
    return Candle(
        symbol=SYMBOL,
        interval=interval,
        open_time_ms=opened,
        close_time_ms=opened + length_ms - 1,
        open=close,
        high=close,
        low=close,
        close=close,
        base_volume=10**8 * (1 + place % 5),
        quote_volume=10**10,
        taker_base_volume=0,
        taker_quote_volume=0,
        trades=3,
        first_trade_id=None,
        last_trade_id=None,
        klines=length_ms // 1000 if offset is None else 0,
        complete=True,
        origin=CandleOrigin.BUILT if offset is None else CandleOrigin.HISTORY,
        revision=0 if offset is None else offset + 1,
    )


def history(own: Candle, reason: HistoryReason = HistoryReason.CORRECTION) -> bytes:
    """The record that the job copied it from."""
    one = orjson.loads(encode_event(own))
    row = [one[name] for name in ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q")]
    return orjson.dumps({"s": SYMBOL, "i": own.interval, "reason": reason, "rows": [row]})


def series(count: int, interval: str = "5m") -> list[Candle]:
    return [candle(place, interval=interval) for place in range(count)]


class Topics(KeptTopics):
    """Candles and the corrections of some."""

    def __init__(self, candles: Sequence[Candle], corrections: Sequence[bytes]) -> None:
        super().__init__()
        for one in candles:
            self.put(CANDLES.name, encode_event(one), one.close_time_ms)
        for value in corrections:
            self.put(CANDLE_HISTORY.name, value, orjson.loads(value)["rows"][-1][6])

    def put(self, topic: str, value: bytes, time_ms: int) -> None:
        headers = ((PUBLISHED_HEADER, b"%d" % time_ms),)
        self.records[topic].append(Record(topic, SYMBOL.encode(), value, time_ms, headers, 0, len(self.records[topic])))


class Repairing:
    """A repair of topics in memory, whose results stand in the topics too."""

    def __init__(self, topics: Topics) -> None:
        self.published: list[Record] = []
        seconds = itertools.count()
        self.topics = CandleTopicRepair(topics, SETTINGS, self._publish, lambda: START_MS, clock_s=lambda: float(next(seconds)))
        self._to = topics

    def _publish(self, record: Record) -> None:
        self.published.append(record)
        self._to.put(record.topic, record.value or b"", record.timestamp_ms)

    def all(self, done_ms: int | None = None) -> list[CandleOutcome]:
        return [
            one
            for interval, index in self.topics.index().of.items()
            for outcomes in self.topics.repair(
                interval, index.clusters(), {} if done_ms is None else dict.fromkeys(index.clusters(), done_ms)
            )
            for one in outcomes
        ]

    def of(self, topic: str) -> list[bytes]:
        return [record.value or b"" for record in self.published if record.topic == topic]


def corrected(count: int, place: int, price: int = 77, interval: str = "5m") -> Topics:
    """A series of which one candle was corrected."""
    own = candle(place, price, 0, interval)
    return Topics([*series(count, interval), own], [history(own)])


def test_it_tells_what_was_repaired() -> None:
    """Candles, since, revision and the number of records; complete, since candles go on long enough."""
    repairing = Repairing(corrected(300, 200))
    (one,) = repairing.all()
    assert (one.interval, one.corrected, one.revision, one.held, one.complete) == ("5m", 1, 1, True, True)
    assert one.since_ms == START_MS + (200 - BEFORE) * REACH.length_ms
    assert one.published.indicators == REACH.candles == len(repairing.of(INDICATORS.name))
    assert one.published.aggregates == len(repairing.of(AGGREGATES.name)) == 0
    assert one.published.fired == len(repairing.of(SIGNALS.name)) > 0
    assert all(dict(record.headers)[PUBLISHED_HEADER] == b"%d" % START_MS for record in repairing.published)


def test_a_second_time_gives_the_same_records_and_no_signal() -> None:
    """Signals that stand already are left alone."""
    topics = corrected(300, 200)
    first, second = Repairing(topics), Repairing(topics)
    first.all()
    (one,) = second.all()
    assert first.of(INDICATORS.name) == second.of(INDICATORS.name)
    assert (one.published.fired, one.published.withdrawn, second.of(SIGNALS.name)) == (0, 0, [])


def test_minutes_have_aggregates_of_the_whole_day() -> None:
    """For a day of minutes, as a replay of the corrected minutes from `since` gives them, with the revision."""
    count, place = 3100, 1600
    repairing = Repairing(corrected(count, place, interval="1m"))
    (one,) = repairing.all()
    whole = [candle(number, 77 if number == place else None, interval="1m") for number in range(count)]
    begin = place - REACHES["1m"].before_ms // REACHES["1m"].length_ms
    assert (one.complete, one.since_ms) == (True, whole[begin].open_time_ms)
    run = whole[begin : place + 1440]
    engine = CandleEngine(SETTINGS)
    steps = [engine.take([HistoryTable(SYMBOL, "1m", HistoryReason.START, table_of_candles([each]), 0)]) for each in run]
    right = [aggregate_lines(rows, [1])[0].split("\t")[2].encode() for step in steps for rows in step.aggregates][-1440:]
    assert repairing.of(AGGREGATES.name) == right
    assert {orjson.loads(value)["day_candles"] for value in right} == {1440}
    assert (
        repairing.of(INDICATORS.name)
        == [indicator_lines(rows, [1])[0].split("\t")[2].encode() for step in steps for rows in step.studies][-1440:]
    )


def test_a_candle_that_says_nothing_new_is_finished_at_once() -> None:
    """A hole that the exchange's own candle fills, and one that agrees with the built one, lead to no record."""
    filled, same = candle(100, None, 0), candle(150, None, 1)
    candles = [one for one in series(200) if one.open_time_ms != filled.open_time_ms]
    repairing = Repairing(Topics([*candles, filled, same], [history(filled, HistoryReason.GAP), history(same)]))
    outcomes = repairing.all()
    assert [(one.corrected, one.complete, one.held) for one in outcomes] == [(0, True, True)] * 2
    assert repairing.published == []


def test_what_the_job_has_not_copied_yet_waits() -> None:
    """The record is there, its candle not yet among the job's: nothing is known of it, and nothing finished."""
    own = candle(200, 77, 0)
    topics = Topics(series(300), [history(own)])
    (waiting,) = Repairing(topics).all()
    assert (waiting.complete, waiting.newest_ms, waiting.held) == (False, 0, True)
    topics.put(CANDLES.name, encode_event(own), own.close_time_ms)
    (one,) = Repairing(topics).all()
    assert (one.complete, one.corrected) == (True, 1)


def test_what_was_published_before_is_left_out() -> None:
    """As far as candles go at first; with the candle up to which values are published, only the rest comes."""
    own = candle(200, 77, 0)
    topics = Topics([*series(205), own], [history(own)])
    first = Repairing(topics)
    (outcome,) = first.all()
    assert (outcome.complete, outcome.newest_ms) == (False, START_MS + 204 * REACH.length_ms)
    for one in series(300)[205:]:
        topics.put(CANDLES.name, encode_event(one), one.close_time_ms)
    second, whole = Repairing(topics), Repairing(topics)
    second.all(outcome.newest_ms)
    whole.all()
    assert first.of(INDICATORS.name) + second.of(INDICATORS.name) == whole.of(INDICATORS.name)


def test_a_short_run_is_published_whole_each_time() -> None:
    """Its `since` becomes earlier when candles before it come to be known, so what was published is not all."""
    own = candle(30, 77, 0)
    repairing = Repairing(Topics([*series(40), own], [history(own)]))
    repairing.all(START_MS + 39 * REACH.length_ms)
    assert len(repairing.of(INDICATORS.name)) == 10


def test_what_retention_has_reached_is_passed_over() -> None:
    """Where the warm-up may be deleted, and what is left is too short to be ready; then it is finished."""
    topics = corrected(300, 200)
    topics.first[CANDLES.name] = 200 - REACH.candles
    assert Repairing(topics).all()[0].corrected == 1
    topics.first[CANDLES.name] += 1
    (gone,) = Repairing(topics).all()
    assert (gone.held, gone.complete, gone.corrected) == (False, True, 0)


def test_a_signal_of_the_job_is_withdrawn_once() -> None:
    """What the job fired and the corrected candles don't, with the same id; the others are left alone."""
    topics = corrected(300, 200, 300)
    run = series(300)
    step = CandleEngine(SETTINGS).take([HistoryTable(SYMBOL, "5m", HistoryReason.START, table_of_candles(run), 0)])
    fired = [signal for rows in step.studies for signal in signals_of(rows)]
    for line in signal_lines(fired):
        _, time_ms, value = line.split("\t")
        topics.put(SIGNALS.name, value.encode(), int(time_ms))
    topics.put(SIGNALS.name, b"garbage", run[-1].close_time_ms)
    first = Repairing(topics)
    (one,) = first.all()
    told = [orjson.loads(value) for value in first.of(SIGNALS.name)]
    withdrawn = {record["id"] for record in told if record["state"] == "withdrawn"}
    assert one.published.withdrawn == len(withdrawn) > 0
    assert withdrawn <= {signal.id for signal in fired}
    assert {record["id"] for record in told if record["state"] == "fired"}.isdisjoint(signal.id for signal in fired)
    assert Repairing(topics).all()[0].published.withdrawn == 0


def test_markers_of_transactions_end_nothing() -> None:
    """A topic that a transactional job wrote ends with offsets that no reader sees."""
    topics = corrected(300, 200)
    topics.markers[CANDLES.name] = topics.markers[CANDLE_HISTORY.name] = 2
    assert Repairing(topics).all()[0].corrected == 1


def test_garbage_is_passed_over() -> None:
    """In either topic, as the job passes it over."""
    sound, spoilt = corrected(300, 200), corrected(300, 200)
    for topic in (CANDLES.name, CANDLE_HISTORY.name):
        for value in (b"garbage", b'{"s":"BTCUSDT","i":"5m","reason":"correction"}'):
            spoilt.put(topic, value, START_MS + 210 * REACH.length_ms)
    right, found = Repairing(sound), Repairing(spoilt)
    right.all()
    found.all()
    assert found.of(INDICATORS.name) == right.of(INDICATORS.name)


def test_records_of_a_start_lead_to_no_look() -> None:
    """There are as many as candles wanted; those of other partitions and of intervals that aren't computed don't count either."""
    index = CandleIndex(["5m"])
    own = candle(3, 77, 0)
    start = Record(CANDLE_HISTORY.name, SYMBOL.encode(), history(own, HistoryReason.START), own.close_time_ms, (), 0, 0)
    other = replace_value(start, history(candle(3, 77, 0, "1m")))
    assert not index.take([start, other], 1)
    right = replace_value(start, history(own))
    assert not index.take([right], 1, {"5m": own.close_time_ms + 1})
    (cluster,) = index.take([right], 1)["5m"]
    assert (cluster.first_ms, cluster.last_ms, cluster.last_offset) == (own.open_time_ms, own.open_time_ms, 0)
    elsewhere = Record(CANDLE_HISTORY.name, SYMBOL.encode(), history(own), own.close_time_ms, (), 7, 0)
    assert not index.take([elsewhere], 4)


def replace_value(record: Record, value: bytes) -> Record:
    return Record(record.topic, record.key, value, record.timestamp_ms, (), record.partition, record.offset)


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "base_volume", "quote_volume", "taker_base_volume", "trades"])
def test_each_market_field_makes_a_correction(name: str) -> None:
    """A candle is corrected where one of the exchange's fields differs; who made it and of how many klines is no matter."""
    versions = Versions(SYMBOL, REACH)
    built, own = candle(3), candle(3, None, 5)
    versions.add(built)
    versions.add(own)
    assert versions.corrected(0, 2**62) == []
    assert market_fields(built) == market_fields(own)
    versions.add(replace(own, revision=8, **{name: getattr(own, name) + 1}))
    assert versions.corrected(0, 2**62) == [built.open_time_ms]


def test_an_incomplete_candle_is_no_version() -> None:
    """What the job's runs don't take can't be corrected."""
    versions = Versions(SYMBOL, REACH)
    versions.add(replace(candle(3, 50), complete=False))
    versions.add(candle(3, 77, 4))
    assert versions.corrected(0, 2**62) == []
    assert versions.newest_offset(0, 2**62) == 4
