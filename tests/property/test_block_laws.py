"""Blocks of seconds give what the live engine gives kline by kline, to the last bit."""

import random
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.batch import from_klines
from klinestream.market.block_candles import BlockMinute
from klinestream.market.blocks import BlockWindows, KlineBlock
from klinestream.market.candle_engine import CandleEngine, CandleSettings, CandleStep
from klinestream.market.candle_lines import built_lines, indicator_lines
from klinestream.market.candles import BASE, CLOSE, COUNT, HIGH, LOW, OPEN, price, volume
from klinestream.market.decimals import ratio
from klinestream.market.events import SECOND_MS, Kline, Window
from klinestream.market.intervals import MINUTE_MS
from klinestream.market.windows import WindowEngine, WindowSettings
from tests.klines import START_MS, kline
from tests.property.test_engine_laws import ANY_SETTINGS

NAMES = ("AUSDT", "BUSDT", "CUSDT")
SECONDS = 60


@st.composite
def series(draw: st.DrawFn) -> list[Kline]:
    """Klines that count, in order: symbols that begin late, end early, and have holes; wide volumes and prices."""
    found = []
    for symbol in NAMES:
        first = draw(st.integers(0, SECONDS))
        lost = draw(st.sets(st.integers(0, SECONDS - 1), max_size=8))
        for second in range(first, draw(st.integers(0, SECONDS))):
            if second not in lost:
                price, spread = 10**8 * 50 + (7919 * (second + first) ** 2) % 10**9, draw(st.integers(0, 3))
                fields = {"low": price - spread, "high": price + 2 * spread, "open": price + spread}
                found.append(kline(symbol, second, price, base_volume=draw(st.integers(0, 10**22)), **fields))
    return sorted(found, key=lambda one: one.open_time_ms)


def block_of(klines: Sequence[Kline], names: Sequence[str], first: int, seconds: int) -> KlineBlock:
    """The klines of a stretch as a block; where there is none stands what a fault would show."""
    there = np.zeros((len(names), seconds), np.bool_)
    columns = (np.full((4, len(names), seconds), 123_456_789) for _ in range(3))
    block = KlineBlock(START_MS + first * SECOND_MS, there, *columns, np.full(there.shape, 123_456_789))
    batch = from_klines(klines)
    for row, one in enumerate(klines):
        second = (one.open_time_ms - block.first_ms) // SECOND_MS
        if one.symbol in names and 0 <= second < seconds:
            place = names.index(one.symbol), second
            block.there[place] = True
            for into, values in ((block.prices, batch.prices), (block.volumes, batch.volumes), (block.remainders, batch.remainders)):
                into[(slice(None), *place)] = values[:, row]
            block.trades[place] = batch.trades[row]
    return block


def by_blocks(klines: Sequence[Kline], names: Sequence[str], chosen: WindowSettings, cuts: Sequence[int]) -> dict[str, list[Window]]:
    engine = BlockWindows(chosen, len(names))
    found: dict[str, list[Window]] = {name: [] for name in names}
    for first, end in zip([0, *cuts], [*cuts, SECONDS], strict=True):
        block = block_of(klines, names, first, end - first)
        if not block.there.any():
            continue
        shapes = engine.step(block)
        for second, opened in enumerate(block.open_times.tolist()):
            for shape in shapes:
                for place in np.flatnonzero(shape.there[:, second]).tolist():
                    at = place, second
                    rsi = None if np.isnan(shape.rsi[at]) else float(shape.rsi[at])
                    prices = [float(each[at]) for each in (shape.close, shape.average_price, shape.low, shape.high, shape.volume)]
                    rest = int(shape.points[at]), rsi, bool(shape.rsi_ready[at]), int(shape.since[at])
                    ends = [opened + end for end in shape.ends]
                    found[names[place]] += [Window(names[place], end - chosen.size_ms, end, *prices, *rest) for end in ends]
    return found


def live(klines: Sequence[Kline], chosen: WindowSettings) -> dict[str, list[Window]]:
    engine = WindowEngine(chosen)
    found: dict[str, list[Window]] = {name: [] for name in NAMES}
    for one in klines:
        for rows in engine.step(from_klines([one])).windows:
            for window in rows.events():
                found[window.symbol].append(window)
    return found


@given(klines=series(), chosen=ANY_SETTINGS, cuts=st.sets(st.integers(1, SECONDS - 1), max_size=4).map(sorted))
def test_blocks_give_the_live_engines_windows(klines: list[Kline], chosen: WindowSettings, cuts: list[int]) -> None:
    """With holes, late listings and ends, and however the time is cut into blocks."""
    assert by_blocks(klines, NAMES, chosen, cuts) == live(klines, chosen)


@given(klines=series(), chosen=ANY_SETTINGS, names=st.permutations(NAMES), number=st.integers(1, 3))
def test_other_symbols_do_not_matter(klines: list[Kline], chosen: WindowSettings, names: list[str], number: int) -> None:
    """A symbol's windows are the same in any subset of symbols, in any order."""
    names = names[:number]
    expected = live(klines, chosen)
    assert by_blocks(klines, names, chosen, []) == {name: expected[name] for name in names}


def closed(engine: CandleEngine, steps: Iterable[CandleStep]) -> list[str]:
    """Candles and indicators as lines, trade ids apart: blocks don't hold them."""
    found = []
    for step in steps:
        found += [re.sub(r'"f":[^,]*,"L":[^,]*,', "", line) for line in built_lines(step, engine.symbols)]
        found += [line for rows in step.studies for line in indicator_lines(rows)]
    return sorted(found)


@pytest.mark.parametrize("seed", range(5))
def test_minutes_give_the_live_engines_candles(seed: int) -> None:
    """As each stood after every second, and when it closed: with holes, late listings and ends, and whatever the intervals."""
    drawn = random.Random(seed)
    minutes, start = 13, START_MS // MINUTE_MS * MINUTE_MS
    klines = []
    for symbol in NAMES:
        first, end = drawn.choice([0, drawn.randrange(100)]), minutes * 60 - drawn.randrange(100)
        lost = [(drawn.randrange(minutes * 60), drawn.randint(1, 150)) for _ in range(drawn.randint(0, 2))]
        for second in range(first, end):
            if not any(begin <= second < begin + length for begin, length in lost):
                at = 10**8 * 50 + (7919 * (second + first) ** 2) % 10**9
                fields = {"low": at - second % 3, "high": at + second % 5, "trades": second % 4, "base_volume": 10**21 + second}
                klines.append(kline(symbol, second + (start - START_MS) // SECOND_MS, at, **fields))
    klines.sort(key=lambda one: one.open_time_ms)
    chosen = CandleSettings(intervals=("1m", "5m"), history=0)
    live, replayed = CandleEngine(chosen), CandleEngine(chosen, aggregates=False)
    columns, steps, seen = replayed.follow(NAMES), [], []
    for minute in range(minutes):
        block = block_of(klines, NAMES, (start - START_MS + minute * MINUTE_MS) // SECOND_MS, 60)
        made = BlockMinute(block)
        held, table, newest = made.table()
        steps += [replayed.passed(columns[held], table[0]), replayed.minute(columns[held], table, newest)]
        soon = made.so_far()
        for second, opened in enumerate(block.open_times.tolist()):
            for place in np.flatnonzero(block.there[:, second]).tolist():
                values = [float(each[place, second]) for each in (soon.open, soon.high, soon.low, soon.close, soon.base_volume)]
                seen.append((opened, NAMES[place], *values, int(soon.klines[place, second])))
    expected, stepped = [], [live.step(from_klines(klines))]
    for step in stepped:
        for rows in step.provisional:
            minute = rows.tables[0]
            values = [price(minute, row).tolist() for row in (OPEN, HIGH, LOW, CLOSE)] + [ratio(*volume(minute, BASE)).tolist()]
            expected += zip(rows.open_times.tolist(), live.symbols(rows.columns), *values, minute[COUNT].tolist(), strict=True)
    assert sorted(seen) == sorted(expected)
    assert closed(replayed, steps) == closed(live, stepped)
