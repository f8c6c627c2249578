"""The laws of repair: what is published again is what a replay of the repaired series gives, and nothing else is touched."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from klinestream.market.batch import from_klines
from klinestream.market.events import SECOND_MS, Kline, Window
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.replay.repairs.index import RepairIndex
from klinestream.replay.repairs.windows import recomputations, republished, warm_up_ms
from tests.klines import START_MS, kline

# Short periods, so that a warm-up has about twenty seconds and hypothesis gets past it.
ANY_SETTINGS = st.sampled_from(
    [
        WindowSettings(3000, 500, 2),
        WindowSettings(3000, 3000, 2),
        WindowSettings(2500, 500, 2),
        WindowSettings(1000, 100, 2),
        WindowSettings(30_000, 1000, 2),
    ]
)
Identity = tuple[int, int, int]
"""(end, since, revision)."""


@dataclass(frozen=True)
class Story:
    """A feed with holes, and the repairs that came, with their offsets."""

    feed: tuple[Kline, ...]
    repairs: tuple[tuple[int, Kline], ...]

    def until(self, klines: int, repairs: int) -> "Story":
        return Story(self.feed[:klines], self.repairs[:repairs])

    @property
    def held(self) -> dict[int, Kline]:
        held: dict[int, Kline] = {}
        for one in self.feed:
            if not held or one.open_time_ms > max(held):
                held[one.open_time_ms] = one
        return held

    def used(self) -> dict[int, tuple[int, Kline]]:
        """Second → offset and kline of the repair that counts, by the definition."""
        held, used = self.held, dict[int, tuple[int, Kline]]()
        for offset, one in self.repairs:
            now = used[one.open_time_ms][1] if one.open_time_ms in used else held.get(one.open_time_ms)
            if (now is None or now.close != one.close) and held and one.open_time_ms <= max(held):
                used[one.open_time_ms] = (offset, one)
        return used

    def series(self) -> dict[int, Kline]:
        return dict(sorted((self.held | {time: one for time, (_, one) in self.used().items()}).items()))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Stretches of klines and holes; some holes are filled, in part or whole; some seconds are corrected, some back again."""
    feed: list[Kline] = []
    lost: list[int] = []
    second = 0
    for length, hole in draw(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 6)), min_size=1, max_size=6)):
        feed += [kline(second=second + step, price=10**8 * (50 + (7 * (second + step)) % 29) + second) for step in range(length)]
        lost += range(second + length, second + length + hole)
        second += length + hole
    if draw(st.booleans()):
        feed.insert(len(feed) // 2, feed[0])
    late = [kline(second=one, price=10**8 * draw(st.integers(40, 90))) for one in lost if draw(st.integers(0, 4))]
    corrected = [draw(st.integers(0, second)) for _ in range(draw(st.integers(0, 3)))]
    late += [kline(second=one, price=10**8 * draw(st.integers(40, 42))) for one in corrected]
    late += draw(st.lists(st.sampled_from(feed), max_size=2))
    came = draw(st.permutations(late))
    offsets = sorted(draw(st.sets(st.integers(0, 500), min_size=len(came), max_size=len(came))))
    return Story(tuple(feed), tuple(zip(offsets, came, strict=True)))


def again(story: Story, chosen: WindowSettings) -> list[Window]:
    """What is published again."""
    offsets = np.array([offset for offset, _ in story.repairs], np.int64)
    parts = recomputations(from_klines(story.feed), from_klines([one for _, one in story.repairs]), offsets, chosen)
    return [one.window for one in republished(parts, chosen)]


def replayed(series: Iterable[Kline], chosen: WindowSettings) -> dict[int, Window]:
    rows = WindowEngine(chosen).step(from_klines(list(series))).windows
    return {window.end_ms: window for row in rows for window in row.events()}


def begins(series: dict[int, Kline], time: int) -> int:
    """Where the contiguous run of a second begins."""
    while time - SECOND_MS in series:
        time -= SECOND_MS
    return time


def completed_by(window: Window) -> int:
    """Open time of the kline that completes a window."""
    return (window.end_ms - SECOND_MS) // SECOND_MS * SECOND_MS


def expected(story: Story, chosen: WindowSettings) -> set[int]:
    """The seconds whose windows must be published again, by the definition, second by second."""
    held, used, series = story.held, story.used(), story.series()
    original = replayed(held.values(), chosen)
    # Windows of one kline are ready together, so the first of them counts.
    whole = {points: min(ends) for points, ends in chosen.shapes()}
    found = set()
    for time in series:
        run, own = begins(series, time), begins(held, time) if time in held else time
        after_filled = own > run
        mine = [original.get(time + end) for end in whole.values()]
        ready = all(w.rsi_ready and w.points == points for points, w in zip(whole, mine, strict=True) if w is not None)
        recently = any(c in held and run <= c <= time < c + warm_up_ms(chosen) for c in used)
        if time not in held or (after_filled and not ready) or recently:
            found.add(time)
    return found


@settings(max_examples=40)
@given(story=stories(), chosen=ANY_SETTINGS)
def test_each_window_is_that_of_a_replay_of_the_repaired_series(story: Story, chosen: WindowSettings) -> None:
    """A replay of the repaired series that starts at a window's `since` gives the same bits."""
    series, cache = story.series(), dict[int, dict[int, Window]]()
    for window in again(story, chosen):
        since = window.since_ms
        if since not in cache:
            cache[since] = replayed((one for time, one in series.items() if time >= since), chosen)
        assert replace(window, revision=0) == cache[since][window.end_ms]


@settings(max_examples=40)
@given(story=stories(), chosen=ANY_SETTINGS)
def test_just_the_windows_that_a_repair_touches_are_published(story: Story, chosen: WindowSettings) -> None:
    """From the first window that holds a repaired second until the feed's own run is ready again, or ends; each once, no other."""
    times = expected(story, chosen)
    right = sorted(window.end_ms for window in replayed(story.series().values(), chosen).values() if completed_by(window) in times)
    assert [window.end_ms for window in again(story, chosen)] == right


@settings(max_examples=40)
@given(story=stories(), chosen=ANY_SETTINGS)
def test_since_and_revision_follow_from_the_repairs(story: Story, chosen: WindowSettings) -> None:
    """`since` is a warm-up before the first repaired second, or the run's begin; `revision` tells the last repair used."""
    used, series, warm_up = story.used(), story.series(), warm_up_ms(chosen)
    for window in again(story, chosen):
        time = completed_by(window)
        run = begins(series, time)
        first = max(one for one in used if one <= time)
        while earlier := [one for one in used if first - warm_up < one < first and one >= run]:
            first = max(earlier)
        assert window.since_ms == max(run, first - warm_up)
        assert window.revision == 1 + max(offset for one, (offset, _) in used.items() if window.since_ms <= one <= time)


@settings(max_examples=40)
@given(data=st.data(), story=stories(), chosen=ANY_SETTINGS)
def test_no_identity_has_two_values_whenever_it_is_done(data: st.DataObject, story: Story, chosen: WindowSettings) -> None:
    """However much of the feed and of the repairs is there each time: one value an identity, and readers end with the newest."""
    stops = data.draw(st.lists(st.tuples(st.integers(0, len(story.feed)), st.integers(0, len(story.repairs))), max_size=4))
    klines, repairs = sorted(a for a, _ in stops), sorted(b for _, b in stops)
    moments = [story.until(*stop) for stop in zip(klines, repairs, strict=True)] + [story, story]
    values: dict[Identity, Window] = {}
    shown: dict[int, Window] = {}
    for moment in moments:
        for window in again(moment, chosen):
            assert values.setdefault((window.end_ms, window.since_ms, window.revision), window) == window
            held = shown.get(window.end_ms)
            if held is None or (window.revision, -window.since_ms) > (held.revision, -held.since_ms):
                shown[window.end_ms] = window
    assert shown == {window.end_ms: window for window in again(story, chosen)}


@settings(max_examples=40)
@given(stories_of=st.lists(stories(), min_size=2, max_size=3), chosen=ANY_SETTINGS)
def test_symbols_do_not_matter(stories_of: list[Story], chosen: WindowSettings) -> None:
    """Symbols repaired together get the windows that each gets alone."""
    parts = []
    alone: list[Window] = []
    for number, story in enumerate(stories_of):
        named = Story(
            tuple(replace(one, symbol=f"COIN{number}") for one in story.feed),
            tuple((offset, replace(one, symbol=f"COIN{number}")) for offset, one in story.repairs),
        )
        offsets = np.array([offset for offset, _ in named.repairs], np.int64)
        parts += recomputations(from_klines(named.feed), from_klines([one for _, one in named.repairs]), offsets, chosen)
        alone += again(named, chosen)

    def by_symbol(windows: Iterable[Window]) -> list[Window]:
        return sorted(windows, key=lambda window: (window.symbol, window.end_ms))

    assert by_symbol(one.window for one in republished(parts, chosen)) == by_symbol(alone)


@settings(max_examples=40)
@given(story=stories(), chosen=ANY_SETTINGS, cut=st.integers(0, 3))
@example(story=Story(tuple(kline(second=s, price=10**8 + s) for s in (*range(100), *range(103, 300))), ()), chosen=WindowSettings(), cut=0)
def test_only_the_surroundings_are_needed(story: Story, chosen: WindowSettings, cut: int) -> None:
    """A cluster's repairs with the feed from a warm-up before it to a warm-up after it give what the whole topics give."""
    index, warm_up = RepairIndex(warm_up_ms(chosen)), warm_up_ms(chosen)
    for offset, one in story.repairs:
        index.add(one.symbol, one.open_time_ms, 0, offset)
    found: list[Window] = []
    newest = max(one.open_time_ms for one in story.feed)
    for cluster in index.clusters():
        first, last = cluster.first_ms - warm_up - cut * SECOND_MS, cluster.last_ms + warm_up + cut * SECOND_MS
        feed = [one for one in story.feed if first <= one.open_time_ms <= last]
        mine = [(o, one) for o, one in story.repairs if cluster.first_ms <= one.open_time_ms <= cluster.last_ms]
        offsets = np.array([offset for offset, _ in mine], np.int64)
        parts = recomputations(from_klines(feed), from_klines([one for _, one in mine]), offsets, chosen, newest)
        found += [one.window for one in republished(parts, chosen)]
    assert found == again(story, chosen)


def hole(first: int, end: int, seconds: int) -> Sequence[Kline]:
    """A feed of so many seconds without some."""
    return [kline(second=s, price=10**8 * (50 + 7 * s % 29)) for s in range(seconds) if not first <= s < end]


def test_after_a_filled_hole_as_many_windows_as_the_own_run_takes_to_be_ready() -> None:
    """With the job's settings: 153 s before the hole, and to 150 changes after it."""
    chosen = WindowSettings()
    late = tuple((10 + s, kline(second=s, price=10**8 * 60)) for s in range(400, 403))
    windows = again(Story(tuple(hole(400, 403, 900)), late), chosen)
    assert {window.since_ms for window in windows} == {START_MS + (400 - 153) * SECOND_MS}
    assert [completed_by(window) for window in windows[::2]] == [START_MS + s * SECOND_MS for s in range(400, 403 + 150)]
    assert all(window.rsi_ready and window.points == 3 for window in windows)
    assert windows[-1].revision == 413
