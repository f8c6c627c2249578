"""The laws of the engine: how the input is split, repeated or mixed changes no value."""

import pickle
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klinestream.market.batch import from_klines
from klinestream.market.errors import EngineError
from klinestream.market.events import SECOND_MS, Kline, LateReason, Window
from klinestream.market.windows import Held, WindowEngine, WindowSettings, rounds
from tests.klines import feeds

ANY_SETTINGS = st.sampled_from(
    [
        WindowSettings(),
        WindowSettings(3000, 3000, 2),
        WindowSettings(2500, 500, 3, remembered_s=5),
        WindowSettings(1000, 100, 14),
        WindowSettings(4000, 2000, 5, remembered_s=3),
    ]
)


class Run:
    """An engine and all that it gave."""

    def __init__(self, chosen: WindowSettings) -> None:
        self.engine = WindowEngine(chosen)
        self.windows: list[Window] = []
        self.repeats = 0
        self.late: list[tuple[Kline, LateReason]] = []
        self.repairs: list[Kline] = []

    def take(self, batches: Iterable[Sequence[Kline]]) -> "Run":
        for klines in batches:
            batch = from_klines(klines)
            step = self.engine.step(batch)
            self.windows += [window for rows in step.windows for window in rows.events()]
            self.repeats += step.repeats
            self.late += [(batch.kline(row), reason) for row, reason in step.late]
            self.repairs += [batch.kline(row) for row in step.repairs]
        return self

    def of(self, symbol: str) -> list[Window]:
        return [window for window in self.windows if window.symbol == symbol]

    def same_values(self, other: "Run") -> bool:
        """Equal to the last bit, in the same order for each symbol."""
        symbols = {window.symbol for window in (*self.windows, *other.windows)}
        return all(self.of(symbol) == other.of(symbol) for symbol in symbols)


def splits(feed: list[Kline]) -> st.SearchStrategy[list[list[Kline]]]:
    """The feed cut into batches anywhere."""
    cuts = st.lists(st.integers(0, len(feed)), max_size=8).map(sorted)
    return cuts.map(lambda at: [feed[a:b] for a, b in zip([0, *at], [*at, len(feed)], strict=True)])


@given(data=st.data(), feed=feeds(), chosen=ANY_SETTINGS)
def test_batches_do_not_matter(data: st.DataObject, feed: list[Kline], chosen: WindowSettings) -> None:
    """Any split of the feed into batches gives the same windows, repeats, late klines and repairs."""
    whole = Run(chosen).take([feed])
    single = Run(chosen).take([kline] for kline in feed)
    split = Run(chosen).take(data.draw(splits(feed)))
    for other in (single, split):
        assert whole.same_values(other)
        assert (whole.repeats, sorted(map(str, whole.late)), sorted(map(str, whole.repairs))) == (
            other.repeats,
            sorted(map(str, other.late)),
            sorted(map(str, other.repairs)),
        )


@given(feed=feeds(), chosen=ANY_SETTINGS)
def test_symbols_do_not_matter(feed: list[Kline], chosen: WindowSettings) -> None:
    """A symbol's windows are the same alone, among others, and whatever the others' order."""
    together = Run(chosen).take([feed])
    by_symbol = Run(chosen).take([sorted(feed, key=lambda kline: kline.symbol)])
    assert together.same_values(by_symbol)
    for symbol in {kline.symbol for kline in feed}:
        alone = Run(chosen).take([[kline for kline in feed if kline.symbol == symbol]])
        assert alone.of(symbol) == together.of(symbol)


@given(data=st.data(), feed=feeds(), chosen=ANY_SETTINGS)
def test_repeats_do_not_matter(data: st.DataObject, feed: list[Kline], chosen: WindowSettings) -> None:
    """A kline that comes again, at once or a little later, changes no window."""
    once = Run(chosen).take([feed])
    again = []
    for place, kline in enumerate(feed):
        again.append(kline)
        if data.draw(st.booleans()):
            again.append(feed[data.draw(st.integers(max(0, place - 3), place))])
    twice = Run(chosen).take([again])
    assert once.same_values(twice)


@given(feed=feeds(), chosen=ANY_SETTINGS)
def test_nothing_is_lost_unaccounted(feed: list[Kline], chosen: WindowSettings) -> None:
    """Each kline is held, a repeat, late or a repair, and no identity is published twice."""
    run = Run(chosen)
    held = 0
    for kline in feed:
        held += run.engine.step(from_klines([kline])).klines
    all_of_it = Run(chosen).take([feed])
    assert held + all_of_it.repeats + len(all_of_it.late) + len(all_of_it.repairs) == len(feed)
    identities = [(window.symbol, window.end_ms) for window in all_of_it.windows]
    assert len(set(identities)) == len(identities)


@given(feed=feeds(), chosen=ANY_SETTINGS, cut=st.integers(0, 60))
def test_saved_state_continues(feed: list[Kline], chosen: WindowSettings, cut: int) -> None:
    """An engine made anew from saved state gives what one that never stopped gives, bit for bit."""
    whole = Run(chosen).take([feed])
    first = Run(chosen).take([feed[:cut]])
    saved = pickle.loads(pickle.dumps((first.engine.state, first.engine.names, first.engine.memory)))  # noqa: S301  # our own bytes
    second = Run(chosen)
    second.engine = WindowEngine(chosen, *saved)
    second.take([feed[cut:]])
    first.windows += second.windows
    assert whole.same_values(first)


@given(feed=feeds(), chosen=ANY_SETTINGS)
def test_since_tells_where_a_replay_gives_the_same_bits(feed: list[Kline], chosen: WindowSettings) -> None:
    """A replay that begins at a window's `since` gives the same window."""
    run = Run(chosen).take([feed])
    for window in run.windows[-1:]:
        held: dict[int, Kline] = {}
        for kline in feed:
            if kline.symbol == window.symbol:
                held.setdefault(kline.open_time_ms, kline)
        series = [held[t] for t in range(window.since_ms, window.end_ms, SECOND_MS) if t in held]
        assert window in Run(chosen).take([series]).windows


@given(feed=feeds(), chosen=ANY_SETTINGS)
def test_each_window_is_the_mean_of_its_klines(feed: list[Kline], chosen: WindowSettings) -> None:
    """A window's values follow from the klines whose close lies in it, by the definitions and nothing else."""
    run = Run(chosen).take([feed])
    held: dict[tuple[str, int], Kline] = {}
    for kline in feed:
        held.setdefault((kline.symbol, kline.close_time_ms), kline)
    for window in run.windows:
        mine = [
            held[(window.symbol, close)]
            for close in range(window.start_ms - window.start_ms % SECOND_MS + SECOND_MS - 1, window.end_ms, SECOND_MS)
            if (window.symbol, close) in held and close >= window.since_ms
        ]
        assert window.points == len(mine)
        assert np.isclose(window.average_price, sum(k.close for k in mine) / len(mine) / 1e8, rtol=1e-12)
        assert window.close == mine[-1].close / 1e8
        assert window.low == min(k.low for k in mine) / 1e8
        assert window.high == max(k.high for k in mine) / 1e8
        assert np.isclose(window.volume, sum(k.base_volume for k in mine) / 1e8, rtol=1e-12)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_rounds_hold_each_row_once_and_in_order(symbols: list[int]) -> None:
    """Rounds hold every row once, no symbol twice, and each symbol's rows in their order."""
    columns = np.array(symbols, np.int64)
    found = rounds(columns)
    assert sorted(row for rows in found for row in rows.tolist()) == list(range(len(symbols)))
    assert all(len(set(columns[rows].tolist())) == len(rows) for rows in found)
    for symbol in set(symbols):
        assert [row for rows in found for row in rows.tolist() if symbols[row] == symbol] == [
            row for row, other in enumerate(symbols) if other == symbol
        ]


@pytest.mark.parametrize("other", [WindowSettings(rsi_period=7), WindowSettings(6000, 500), WindowSettings(3000, 1000)])
def test_a_state_made_with_other_settings_is_refused(other: WindowSettings) -> None:
    """An engine does not go on from values that other settings computed: they would be neither one nor the other."""
    with pytest.raises(EngineError, match="start the job without its state"):
        WindowEngine(other, WindowEngine(WindowSettings()).state)
    WindowEngine(WindowSettings(remembered_s=5), WindowEngine(WindowSettings()).state)


@settings(max_examples=20)
@given(feed=feeds())
def test_memory_is_bounded(feed: list[Kline]) -> None:
    """The engine remembers as many seconds as configured, and no more."""
    memory = Held()
    engine = WindowEngine(WindowSettings(remembered_s=4), memory=memory)
    engine.step(from_klines(feed))
    assert len(memory) <= 4
