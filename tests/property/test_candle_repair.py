"""The laws of repair for candles: what is published again is what a replay of the corrected series gives, and nothing else is touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.candle_engine import CandleEngine, CandleSettings
from klinestream.market.candle_history import HistoryTable, table_of_candles
from klinestream.market.candle_lines import indicator_lines, signals_of
from klinestream.market.events import Candle, CandleOrigin, HistoryReason, Signal, SignalState
from klinestream.market.indicators.catalogue import IndicatorSettings
from klinestream.market.intervals import INTERVALS
from klinestream.market.signals import SignalSettings
from klinestream.replay.repairs.candles import (
    REMEMBERED,
    CandleRecomputation,
    RepublishedCandle,
    Standing,
    Versions,
    reaches,
    recomputations,
    republished,
)
from klinestream.replay.repairs.index import RepairIndex

INTERVAL = "5m"
LENGTH_MS = INTERVALS[INTERVAL]
START_MS = 1_700_000_100_000
# Short periods, so that hypothesis gets past the reach.
CHOSEN = CandleSettings(
    ("1m", INTERVAL),
    provisional=False,
    indicators=IndicatorSettings(
        sma=(3,),
        ema=(2, 4),
        rsi=(3,),
        macd=(),
        bollinger=(),
        atr=(3,),
        vwap=(2,),
        stochastic=(),
        volatility=(3,),
        session_vwap=False,
    ),
    signals=SignalSettings(("rsi", "ema_cross"), rsi_period=3, rsi_low=45.0, rsi_high=55.0, ema=(2, 4)),
)
REACH = reaches(CHOSEN)[INTERVAL]
LONG = REACH.candles + REMEMBERED
Values = dict[int, tuple[bytes, tuple[str, ...]]]
"""Open time → record of indicators with revision 0, and ids of the signals that fire."""


def candle(place: int, price: int, offset: int | None = None) -> Candle:
    """One that was built, or the exchange's own."""
    opened = START_MS + place * LENGTH_MS
    low, high = price - 10**6, price + 10**6
    return Candle(
        symbol="BTCUSDT",
        interval=INTERVAL,
        open_time_ms=opened,
        close_time_ms=opened + LENGTH_MS - 1,
        open=price - 10**5,
        high=high,
        low=low,
        close=price,
        base_volume=10**10 + price,
        quote_volume=10**12 + price,
        taker_base_volume=0,
        taker_quote_volume=0,
        trades=7,
        first_trade_id=None,
        last_trade_id=None,
        klines=0 if offset is not None else 300,
        complete=True,
        origin=CandleOrigin.BUILT if offset is None else CandleOrigin.HISTORY,
        revision=0 if offset is None else offset + 1,
    )


def usual(place: int) -> int:
    return 10**8 * (100 + (7 * place * place + place) % 29)


@dataclass(frozen=True)
class Story:
    """What comes to stand in `crypto_candles`, in its order."""

    said: tuple[Candle, ...]

    def until(self, count: int) -> "Story":
        return Story(self.said[:count])

    def versions(self, first_ms: int = 0, last_ms: int = 2**62) -> Versions:
        found = Versions("BTCUSDT", REACH)
        for one in self.said:
            if first_ms <= one.open_time_ms <= last_ms:
                found.add(one)
        return found

    def spans(self) -> list[tuple[int, int]]:
        """The exchange's own candles in clusters."""
        index = RepairIndex(LENGTH_MS // 2)
        for one in self.said:
            if one.origin is CandleOrigin.HISTORY:
                index.add(one.symbol, one.open_time_ms, 0, one.revision - 1)
        return [(one.first_ms, one.last_ms) for one in index.clusters()]

    def words(self) -> dict[int, list[Candle]]:
        """Open time → all that is said of it, the built one first, by the definition."""
        found: dict[int, list[Candle]] = {}
        for one in sorted(set(self.said), key=lambda each: (each.open_time_ms, each.revision)):
            found.setdefault(one.open_time_ms, []).append(one)
        return found

    def series(self) -> dict[int, Candle]:
        return {opened: words[-1] for opened, words in self.words().items()}

    def corrections(self) -> dict[int, int]:
        """Open time → offset of the newest word that differs from the one before it."""
        found = {}
        for opened, words in self.words().items():
            for before, after in pairwise(words):
                if before.close != after.close:
                    found[opened] = after.revision - 1
        return found

    def reached(self) -> set[int]:
        """Open times whose values a correction reaches, by the definition."""
        series, found = self.series(), set()
        for opened in self.corrections():
            for time in range(opened, opened + REACH.candles * LENGTH_MS, LENGTH_MS):
                if time not in series:
                    break
                found.add(time)
        return found


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Built candles in order, some missing; the exchange's own at any moment: equal ones, other ones, back again, for holes."""
    count = draw(st.integers(5, 2 * LONG))
    holes = draw(st.sets(st.integers(0, count - 1), max_size=3))
    said = [candle(place, usual(place)) for place in range(count) if place not in holes]
    places = draw(st.lists(st.one_of(st.integers(0, count - 1), st.sampled_from(sorted(holes) or [0])), max_size=6))
    side_by_side: bool = draw(st.booleans())
    if places and side_by_side:
        # Near each other, or side by side: in each other's reach and blocks.
        places += [min(place + draw(st.integers(1, 3)), count - 1) for place in places]
    moments = sorted(draw(st.lists(st.integers(0, len(said)), min_size=len(places), max_size=len(places))))
    offsets = sorted(draw(st.sets(st.integers(0, 500), min_size=len(places), max_size=len(places))))
    own = []
    for place, offset in zip(places, offsets, strict=True):
        price = draw(st.sampled_from([usual(place), 10**8 * 97, 10**8 * 131]))
        own.append(candle(place, price, offset))
    # From the back, so that places stay what they were.
    for moment, one in reversed(list(zip(moments, own, strict=True))):
        said.insert(moment, one)
    return Story(tuple(said))


def again(story: Story, surroundings: bool = False) -> list[RepublishedCandle]:
    """What is published again, cluster by cluster."""
    parts: list[CandleRecomputation] = []
    for first, last in story.spans():
        span = (first - REACH.before_ms, last + REACH.after_ms) if surroundings else (0, 2**62)
        parts += recomputations(story.versions(*span), first, last).parts
    return list(republished(parts, CHOSEN))


def replayed(series: dict[int, Candle], since: int) -> Values:
    """A fresh engine over the candles from a time on."""
    chosen: list[Candle] = []
    while since + len(chosen) * LENGTH_MS in series:
        chosen.append(series[since + len(chosen) * LENGTH_MS])
    table = HistoryTable("BTCUSDT", INTERVAL, HistoryReason.START, table_of_candles(chosen), 0)
    step = CandleEngine(CHOSEN).take([table])
    found = {}
    for rows in step.studies:
        (line,) = indicator_lines(rows)
        found[int(rows.open_times[0])] = line.split("\t")[2].encode(), tuple(one.id for one in signals_of(rows))
    return found


def zeroed(said: RepublishedCandle) -> bytes:
    return orjson.dumps(orjson.loads(said.indicators.split("\t")[2]) | {"revision": 0})


def assert_right(said: Iterable[RepublishedCandle], series: dict[int, Candle]) -> None:
    """Each equals a replay from its `since`."""
    cache: dict[int, Values] = {}
    for one in said:
        if one.since_ms not in cache:
            cache[one.since_ms] = replayed(series, one.since_ms)
        right = cache[one.since_ms]
        value, fired = right[one.open_time_ms]
        assert zeroed(one) == value
        assert tuple(signal.id for signal in one.fired) == fired


@settings(max_examples=25)
@given(story=stories())
def test_each_value_is_that_of_a_replay_of_the_corrected_series(story: Story) -> None:
    """A replay of the corrected series that starts at a value's `since` gives the same bits, and the same signals."""
    assert_right(again(story), story.series())


@settings(max_examples=25)
@given(story=stories())
def test_just_what_a_correction_reaches_is_published(story: Story) -> None:
    """From a corrected candle on until every indicator has converged again, or a hole; no other candle."""
    assert {one.open_time_ms for one in again(story)} == story.reached()


@settings(max_examples=25)
@given(story=stories())
def test_since_and_revision_follow_from_the_corrections(story: Story) -> None:
    """`since` is a warm-up before a corrected candle, or the run's begin; `revision` tells the newest correction since then."""
    corrections, series = story.corrections(), story.series()
    for one in again(story):
        first = max(time for time in corrections if time <= one.open_time_ms)
        while first - LENGTH_MS in corrections and first // LENGTH_MS % 256:
            first -= LENGTH_MS
        since = first
        while since - LENGTH_MS in series and first - since < REACH.before_ms:
            since -= LENGTH_MS
        assert one.since_ms == since
        assert one.revision == 1 + max(offset for time, offset in corrections.items() if since <= time <= one.open_time_ms)


@settings(max_examples=25)
@given(story=stories())
def test_only_the_surroundings_are_needed(story: Story) -> None:
    """The candles from a warm-up before a cluster to its reach give what the whole topic gives."""
    assert again(story, surroundings=True) == again(story)


@settings(max_examples=25)
@given(data=st.data(), story=stories())
def test_the_order_of_records_does_not_matter(data: st.DataObject, story: Story) -> None:
    """The topic may hold them in any order, and more than once."""
    mixed = Story((*data.draw(st.permutations(story.said)), *story.said[:9]))
    assert again(mixed) == again(story)


@settings(max_examples=40)
@given(data=st.data(), story=stories())
def test_no_identity_has_two_values_whenever_it_is_done(data: st.DataObject, story: Story) -> None:
    """However much is known each time: one value an identity, and those that count in the end are right."""
    stops = sorted(data.draw(st.lists(st.integers(0, len(story.said)), max_size=4)))
    values: dict[tuple[int, int, int], RepublishedCandle] = {}
    for moment in [*(story.until(stop) for stop in stops), story, story]:
        for one in again(moment):
            assert values.setdefault((one.open_time_ms, one.since_ms, one.revision), one) == one
    best: dict[int, RepublishedCandle] = {}
    for (opened, since, revision), one in values.items():
        held = best.get(opened)
        if held is None or (revision, -since) > (held.revision, -held.since_ms):
            best[opened] = one
    assert best.keys() == story.reached()
    assert_right(best.values(), story.series())


def of_the_job(story: Story) -> list[Signal]:
    """Signals of the built candles, run by run, before anything was corrected."""
    held = {one.open_time_ms: one for one in story.said if one.origin is CandleOrigin.BUILT}
    found: list[Signal] = []
    for opened, first in held.items():
        if opened - LENGTH_MS not in held:
            run = [first]
            while run[-1].open_time_ms + LENGTH_MS in held:
                run.append(held[run[-1].open_time_ms + LENGTH_MS])
            step = CandleEngine(CHOSEN).take([HistoryTable("BTCUSDT", INTERVAL, HistoryReason.START, table_of_candles(run), 0)])
            found += [signal for rows in step.studies for signal in signals_of(rows)]
    return found


def best_signals(published: Sequence[Signal]) -> dict[str, Signal]:
    """As readers have them. Fails where an identity has two values."""
    identities: dict[tuple[str, int, int], Signal] = {}
    for one in published:
        assert identities.setdefault((one.id, one.since_ms, one.revision), one) == one
    found: dict[str, Signal] = {}
    for one in published:
        held = found.get(one.id)
        if held is None or (one.revision, -one.since_ms) > (held.revision, -held.since_ms):
            found[one.id] = one
    return found


def standing_of(published: Iterable[Signal]) -> Standing:
    standing = Standing()
    for one in published:
        standing.take(one)
    return standing


@settings(max_examples=40)
@given(data=st.data(), story=stories())
def test_the_signals_that_stand_are_those_of_the_corrected_series(data: st.DataObject, story: Story) -> None:
    """Within the reach; those beyond it stay, those that stay the same are not published, and once more changes nothing."""
    stops = sorted(data.draw(st.lists(st.integers(0, len(story.said)), max_size=3)))
    job = of_the_job(story)
    published = list(job)
    for moment in [*(story.until(stop) for stop in stops), story]:
        standing = standing_of(published)
        for said in again(moment):
            changes = standing.changes(said)
            published += changes
            for one in changes:
                held = best_signals(published[: -len(changes)]).get(one.id)
                assert (held.state if held else SignalState.WITHDRAWN) != one.state
                standing.take(one)
    best = best_signals(published)
    firing = {signal.id: one for one in again(story) for signal in one.fired}
    judged = {(one.open_time_ms, rule) for one in again(story) for rule in one.looked_at}
    reached = story.reached()
    for signal in best.values():
        if signal.open_time_ms not in reached:
            assert signal.revision == 0
        elif (signal.open_time_ms, signal.rule) in judged:
            assert (signal.state == SignalState.FIRED) == (signal.id in firing)
    assert {one for one in firing if one in best} == set(firing)
    for one in published[len(job) :]:
        assert one.revision > 0
    assert not [one for said in again(story) for one in standing_of(published).changes(said)]


def test_one_correction_with_few_candles() -> None:
    """A warm-up before the candle, the reach after it, the offset of the correction plus one."""
    said = [candle(place, usual(place)) for place in range(2 * LONG)]
    story = Story((*said, candle(LONG + 3, 10**8 * 131, 40)))
    found = again(story)
    assert [one.open_time_ms for one in found] == [START_MS + (LONG + 3 + step) * LENGTH_MS for step in range(REACH.candles)]
    assert {(one.since_ms, one.revision, one.settled) for one in found} == {(START_MS + 3 * LENGTH_MS, 41, True)}
    assert all(orjson.loads(one.indicators.split("\t")[2])["unready"] == [] for one in found)
    assert not again(Story((*said, candle(LONG + 3, usual(LONG + 3), 40))))


def test_a_signal_that_lost_its_ground_is_withdrawn_with_its_id() -> None:
    """The withdrawn record has the id of the one that fired, the correction's revision, and says why."""
    said = [candle(place, usual(place)) for place in range(2 * LONG)]
    story = Story(tuple(said))
    fired = next(one for one in of_the_job(story) if one.rule == "rsi" and one.open_time_ms > START_MS + LONG * LENGTH_MS)
    place = (fired.open_time_ms - START_MS) // LENGTH_MS
    # The candle before it as it was: the RSI hardly moves.
    corrected = Story((*said, candle(place, usual(place - 1), 8)))
    (gone,) = [one for each in again(corrected) for one in standing_of(of_the_job(story)).changes(each) if one.id == fired.id]
    assert (gone.state, gone.revision, gone.side, gone.limit) == (SignalState.WITHDRAWN, 9, fired.side, fired.limit)
    assert gone.reason.startswith("withdrawn: candles were corrected")
    assert replace(gone, state=fired.state, reason=fired.reason, revision=0) != fired


def test_a_correction_that_is_taken_back_fires_again() -> None:
    """The signal that was withdrawn stands again, with its id and a higher revision; one that stays withdrawn is not told twice."""
    said = [candle(place, usual(place)) for place in range(2 * LONG)]
    published = of_the_job(Story(tuple(said)))
    fired = next(one for one in published if one.rule == "rsi" and one.open_time_ms > START_MS + LONG * LENGTH_MS)
    place = (fired.open_time_ms - START_MS) // LENGTH_MS
    words = [candle(place, usual(place - 1), 8), candle(place, usual(place - 1) + 1, 9), candle(place, usual(place), 10)]
    for known in range(1, 4):
        story = Story((*said, *words[:known]))
        published += [one for each in again(story) for one in standing_of(published).changes(each)]
    assert [(one.state, one.revision) for one in published if one.id == fired.id] == [("fired", 0), ("withdrawn", 9), ("fired", 11)]


def test_corrected_candles_in_a_row_share_a_warm_up() -> None:
    """Those apart have one each, and the later ones count from the later candle on."""
    said = [candle(place, usual(place)) for place in range(2 * LONG)]
    beginnings = []
    for second in (1, 2):
        own = (candle(LONG + 3, 10**8 * 131, 40), candle(LONG + 3 + second, 10**8 * 97, 39))
        found = again(Story((*said, *own)))
        beginnings.append({(one.since_ms - START_MS) // LENGTH_MS for one in found})
        assert {one.revision for one in found} == {41}
    assert beginnings == [{3}, {3, 5}]
