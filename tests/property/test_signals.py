"""The laws of signals, over random indicator values of several columns; a plain loop over one of them says what must fire."""

import math
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.decimals import Floats, Ints
from klinestream.market.events import Side
from klinestream.market.signals import Bools, Fired, SignalRules, SignalSettings

NAMES = ("ema_12", "rsi_14", "macd_signal_12_26_9", "ema_26", "macd_12_26_9")
COLUMNS = 4
# Values that meet limits and each other often.
LEVELS = (10.0, 29.0, 29.999, 30.0, 31.0, 32.0, 50.0, 68.0, 69.0, 70.0, 70.001, 71.0, 95.0, math.nan)
RULES = st.lists(st.sampled_from(("rsi", "macd_cross", "ema_cross")), min_size=1, max_size=3, unique=True).map(tuple)
SETTINGS = st.builds(SignalSettings, rules=RULES, hysteresis=st.sampled_from((0.0, 1.0, 2.0, 39.0)))


@dataclass(frozen=True)
class Update:
    """The next candle of some columns."""

    columns: Ints
    values: Floats
    ready: Bools

    def take(self, rows: Iterable[int]) -> "Update":
        """Only these, in this order."""
        chosen = list(rows)
        return Update(self.columns[chosen], self.values[:, chosen], self.ready[:, chosen])


@st.composite
def updates(draw: st.DrawFn) -> list[Update]:
    """A series of candles, each of some of the columns, in any order."""
    made = []
    for _ in range(draw(st.integers(0, 15))):
        columns = draw(st.lists(st.integers(0, COLUMNS - 1), max_size=COLUMNS, unique=True))
        shape = (len(NAMES), len(columns))
        cells = draw(st.lists(st.sampled_from(LEVELS), min_size=math.prod(shape), max_size=math.prod(shape)))
        unready = draw(st.lists(st.integers(0, max(0, math.prod(shape) - 1)), max_size=2))
        ready = np.ones(math.prod(shape), np.bool_)
        ready[[one for one in unready if one < ready.size]] = False
        made.append(Update(np.array(columns, np.int64), np.array(cells, np.float64).reshape(shape), ready.reshape(shape)))
    return made


Story = tuple[int, int, str, Side, float, float]
"""Column, how many candles of it came before, and what fired."""


class Run:
    """Rules over updates, and what they said of each column's n-th candle."""

    def __init__(self, settings: SignalSettings) -> None:
        self.rules = SignalRules(settings, NAMES)
        self.state = self.rules.init(COLUMNS)
        self.candles = [0] * COLUMNS
        self.fired: list[Story] = []

    def take(self, series: Iterable[Update]) -> "Run":
        for one in series:
            for fired in self.rules.update(self.state, one.columns, one.values, one.ready):
                self.fired.append(self._story(int(one.columns[fired.row]), fired))
            for column in one.columns.tolist():
                self.candles[column] += 1
        return self

    def _story(self, column: int, fired: Fired) -> Story:
        return (column, self.candles[column], fired.rule, fired.side, fired.value, fired.limit)


def of_column(series: Iterable[Update], column: int) -> Iterator[dict[str, float | None]]:
    """The candles of one column: value by name, None where unready."""
    for one in series:
        for row in np.flatnonzero(one.columns == column).tolist():
            cells = zip(NAMES, one.values[:, row].tolist(), one.ready[:, row].tolist(), strict=True)
            yield {name: value if ready and not math.isnan(value) else None for name, value, ready in cells}


def expected(settings: SignalSettings, candles: list[dict[str, float | None]]) -> list[tuple[int, str, Side]]:
    """What must fire by the rules as docs/signals.md words them: each candle looks back over the unbroken ready ones before it."""
    found = []
    for place in range(len(candles)):
        for rule in settings.rules:
            found += [(place, rule, side) for side in Side if fires(settings, rule, side, candles[: place + 1])]
    return found


def fires(settings: SignalSettings, rule: str, side: Side, candles: list[dict[str, float | None]]) -> bool:
    if rule == "rsi":
        past = unbroken([candle["rsi_14"] for candle in candles])
        limit, back = (settings.rsi_low, settings.hysteresis) if side is Side.BUY else (-settings.rsi_high, settings.hysteresis)
        return falls([one if side is Side.BUY else -one for one in past], limit, limit + back)
    names = ("ema_12", "ema_26") if rule == "ema_cross" else ("macd_12_26_9", "macd_signal_12_26_9")
    lines = [(candle[names[0]], candle[names[1]]) for candle in candles]
    past = unbroken([None if fast is None or slow is None else fast - slow for fast, slow in lines])
    return crosses([one if side is Side.BUY else -one for one in past])


def unbroken(values: list[float | None]) -> list[float]:
    """The known values at the end."""
    kept: list[float] = []
    for value in reversed(values):
        if value is None:
            break
        kept.insert(0, value)
    return kept


def falls(past: list[float], limit: float, again: float) -> bool:
    """The last value is below the limit, and since one at `again` or above, or since a beginning not below, none was."""
    if not past or past[-1] >= limit:
        return False
    for place in reversed(range(len(past) - 1)):
        if past[place] >= again:
            return True
        if past[place] < limit:
            return False
    return len(past) > 1


def crosses(past: list[float]) -> bool:
    """The last value is above zero, and the last before it that was not zero was below; or all of them were zero."""
    if len(past) < 2 or past[-1] <= 0:
        return False
    others = [one for one in past[:-1] if one != 0]
    return not others or others[-1] < 0


@given(settings=SETTINGS, series=updates())
def test_each_fire_is_justified_and_none_is_missing(settings: SignalSettings, series: list[Update]) -> None:
    """What fires is what a plain loop over one column's candles says must fire."""
    run = Run(settings).take(series)
    for column in range(COLUMNS):
        mine = [(place, rule, side) for of, place, rule, side, _, _ in run.fired if of == column]
        assert sorted(mine) == sorted(expected(settings, list(of_column(series, column))))


@given(settings=SETTINGS, series=updates())
def test_what_fired_lies_beyond_its_limit(settings: SignalSettings, series: list[Update]) -> None:
    """A buy of the RSI lies below, a sell above; a line that crossed upwards stands above, one that crossed downwards below."""
    for _, _, rule, side, value, limit in Run(settings).take(series).fired:
        assert (value < limit) == ((side is Side.BUY) == (rule == "rsi"))
        assert value != limit


@given(data=st.data(), settings=SETTINGS, series=updates())
def test_splits_do_not_matter(data: st.DataObject, settings: SignalSettings, series: list[Update]) -> None:
    """Columns that are updated one by one, or in any parts, fire what they fire together."""
    parts = []
    for one in series:
        cut = data.draw(st.integers(0, len(one.columns)))
        parts += [one.take(range(cut)), one.take(range(cut, len(one.columns)))]
    singles = [one.take([row]) for one in series for row in range(len(one.columns))]
    whole = Run(settings).take(series)
    for other in (Run(settings).take(parts), Run(settings).take(singles)):
        assert sorted(other.fired) == sorted(whole.fired)
        assert np.array_equal(other.state, whole.state)


@given(data=st.data(), settings=SETTINGS, series=updates())
def test_order_does_not_matter(data: st.DataObject, settings: SignalSettings, series: list[Update]) -> None:
    """Any permutation of the columns gives the same signals for each."""
    mixed = [one.take(data.draw(st.permutations(range(len(one.columns))))) for one in series]
    assert sorted(Run(settings).take(mixed).fired) == sorted(Run(settings).take(series).fired)


@given(data=st.data(), settings=SETTINGS, series=updates())
def test_columns_that_miss_updates_harm_no_other(data: st.DataObject, settings: SignalSettings, series: list[Update]) -> None:
    """A column's signals depend on its own candles alone."""
    kept = data.draw(st.integers(0, COLUMNS - 1))
    alone = [one.take(np.flatnonzero(one.columns == kept).tolist()) for one in series]
    assert sorted(Run(settings).take(alone).fired) == sorted(story for story in Run(settings).take(series).fired if story[0] == kept)


@given(settings=SETTINGS, series=updates(), cut=st.integers(0, 15))
def test_saved_state_continues(settings: SignalSettings, series: list[Update], cut: int) -> None:
    """Rules made anew over a saved state go on as those that never stopped."""
    whole = Run(settings).take(series)
    first, second = Run(settings).take(series[:cut]), Run(settings)
    second.state = pickle.loads(pickle.dumps(first.state))  # noqa: S301  # our own bytes
    second.candles = first.candles
    second.take(series[cut:])
    assert first.fired + second.fired == whole.fired


@given(settings=SETTINGS, series=updates())
def test_a_side_fires_again_only_after_its_ground_was_gone(settings: SignalSettings, series: list[Update]) -> None:
    """Between two fires of a side the RSI was back by the hysteresis, or the lines crossed back, or the run began anew."""
    run = Run(settings).take(series)
    for column in range(COLUMNS):
        candles = list(of_column(series, column))
        for rule in settings.rules:
            for side in Side:
                places = [place for of, place, by, way, _, _ in run.fired if (of, by, way) == (column, rule, side)]
                for before, after in pairwise(places):
                    assert re_armed(settings, rule, side, candles[before + 1 : after])


def re_armed(settings: SignalSettings, rule: str, side: Side, between: list[dict[str, float | None]]) -> bool:
    if rule == "rsi":
        values = [candle["rsi_14"] for candle in between]
        if side is Side.BUY:
            return any(one is None or one >= settings.rsi_low + settings.hysteresis for one in values)
        return any(one is None or one <= settings.rsi_high - settings.hysteresis for one in values)
    fast, slow = ("ema_12", "ema_26") if rule == "ema_cross" else ("macd_12_26_9", "macd_signal_12_26_9")
    lines = [(candle[fast], candle[slow]) for candle in between]
    return any(a is None or b is None or (a < b if side is Side.BUY else a > b) for a, b in lines)
