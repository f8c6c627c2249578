"""What klines that came late change: the windows that they touch, computed again by the same engine. Pure.

    feed       ··|10|11|        |14|15| …              12 and 13 came too late for it; with 14 a run of its own began
    repairs             |12|13|
    repaired   ··|10|11|12|13|14|15| … |163|164|165|
    windows      rev 0  |···· republished ·····|rev 0  until the run that 14 began is ready by itself
    since  ◄─ warm-up ─|

The repaired series is the feed with the repairs over it. A recomputation is a part of it without a hole: it begins a
warm-up before the first repaired second, or where the run begins, and a replay from there (`since`) gives the same bits.
A correction, a repair of a second that the feed has with other market fields, goes on to count for a warm-up.

No identity gets two values, whenever this is done and how often. A window depends on the klines from its `since` to its
end: the feed's, which are settled once the feed has gone past them, and the repairs among them. `revision` is the
greatest offset of these repairs plus one, and a topic only grows: the same revision means the same repairs, another
repair a higher revision. So nothing that stands beyond the feed's newest kline is published yet.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from klinestream.market.batch import KlineBatch, join
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS, Window
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.windows import WindowEngine, WindowSettings

Bools = npt.NDArray[np.bool_]

_CHUNK = 4096  # klines that the engine gets at once: bounds what it gives back


def warm_up_ms(settings: WindowSettings) -> int:
    """How long a run has to be before all its values are ready: as many steps as the RSI needs, and the depth of a window.

    >>> warm_up_ms(WindowSettings())
    153000
    """
    return Rsi(settings.rsi_period).ready_after * max(settings.slide_ms, SECOND_MS) + settings.depth * SECOND_MS


@dataclass(frozen=True, slots=True)
class Recomputation:
    """A stretch of one symbol's repaired series without a hole, one row a second."""

    symbol: str
    series: KlineBatch
    republish: Bools
    """Of which klines the windows that they complete are published again."""
    revisions: Ints
    repaired_ms: tuple[int, int]
    """Open times of the first repaired second and of the last one."""
    filled: int
    """Seconds that the feed lacks."""
    corrected: int
    """Seconds that the feed has otherwise."""
    complete: bool
    """False while the feed has not come to the end of what has to be republished."""

    @property
    def since_ms(self) -> int:
        """Where it begins: a replay from there gives the same bits."""
        return int(self.series.open_times[0])

    @property
    def revision(self) -> int:
        """The greatest one."""
        return int(self.revisions[-1])


@dataclass(frozen=True, slots=True)
class Republished:
    """One window to publish, and the open time of the kline that completes it."""

    window: Window
    open_time_ms: int


def accepted(feed: KlineBatch) -> KlineBatch:
    """Of one symbol's klines as they stand in the topic those that count, as the engine has it: each newer than all before."""
    if not len(feed):
        return feed
    newest = np.maximum.accumulate(feed.open_times)
    return feed.take(np.flatnonzero(np.append(True, feed.open_times[1:] > newest[:-1])))


def recomputations(
    feed: KlineBatch, repairs: KlineBatch, offsets: Ints, settings: WindowSettings, newest_ms: int | None = None
) -> list[Recomputation]:
    """What has to be computed again of one symbol, in order of time.

    `feed`: its klines in the topic's order, at least from a warm-up before the first repair to a warm-up after the last
    one, if the topic has them. `repairs`: its klines of `crypto_kline_repairs` in order of `offsets`. `newest_ms`: open
    time of the newest kline of the feed, where `feed` does not reach it.
    """
    feed = accepted(feed)
    if not len(feed):
        return []
    newest = max(int(feed.open_times[-1]), newest_ms or 0)
    series = _repaired(feed, repairs, offsets, newest)
    republish = _republish(series, settings)
    return [_recomputation(series, part, republish, newest) for part in _parts(series, warm_up_ms(settings))]


def republished(recomputed: Iterable[Recomputation], settings: WindowSettings) -> Iterator[Republished]:
    """The windows to publish, with their revisions; each symbol's recomputations in order of time."""
    waves: defaultdict[str, list[Recomputation]] = defaultdict(list)
    for one in recomputed:
        waves[one.symbol].append(one)
    # Symbols side by side, as the engine likes it; one symbol's own one after the other, since each begins anew.
    for number in range(max(map(len, waves.values()), default=0)):
        yield from _computed({symbol: mine[number] for symbol, mine in waves.items() if number < len(mine)}, settings)


def _computed(wave: dict[str, Recomputation], settings: WindowSettings) -> Iterator[Republished]:
    # Nothing is asked of what it remembers.
    engine = WindowEngine(replace(settings, remembered_s=1))
    klines = join([one.series for one in wave.values()])
    order = np.argsort(klines.open_times, kind="stable")
    for begin in range(0, len(order), _CHUNK):
        for rows in engine.step(klines.take(order[begin : begin + _CHUNK])).windows:
            opened = np.repeat(rows.open_times, len(rows.ends)).tolist()
            for window, open_time_ms in zip(rows.events(), opened, strict=True):
                one = wave[window.symbol]
                row = (open_time_ms - window.since_ms) // SECOND_MS
                if one.republish[row]:
                    yield Republished(replace(window, revision=int(one.revisions[row])), open_time_ms)


def _counting(feed: KlineBatch, repairs: KlineBatch) -> dict[int, int]:
    """Repaired second → the row of repairs that counts.

    The newest one does; one that says what is known already changes nothing. One that takes an earlier repair back is
    needed too: readers hold what that one led to.
    """
    known = dict(zip(feed.open_times.tolist(), feed.content().tolist(), strict=True))
    counting: dict[int, int] = {}
    for row, (opened, digest) in enumerate(zip(repairs.open_times.tolist(), repairs.content().tolist(), strict=True)):
        if known.get(opened) != digest:
            known[opened] = digest
            counting[opened] = row
    return counting


@dataclass(frozen=True, slots=True)
class _Series:
    """A repaired series, one row a second that is there."""

    klines: KlineBatch
    used: Ints
    """Offset of the repair that counts, or -1."""
    held: Bools
    """Whether the feed has the second."""
    runs: Ints
    """The row with which the contiguous run begins."""

    @property
    def times(self) -> Ints:
        """Open times."""
        return self.klines.open_times

    def own_runs(self) -> Ints:
        """The row with which the feed's own run begins; of a second that the feed lacks its own row."""
        own = np.append(True, np.diff(self.times) != SECOND_MS) | ~self.held | np.append(True, ~self.held[:-1])
        return _newest_row(own)


def _newest_row(marked: Bools) -> Ints:
    """Of each row the newest marked one up to it, or -1."""
    return np.maximum.accumulate(np.where(marked, np.arange(len(marked)), -1))


def _repaired(feed: KlineBatch, repairs: KlineBatch, offsets: Ints, newest_ms: int) -> _Series:
    """The repaired series up to the feed's newest second."""
    counting = {opened: row for opened, row in _counting(feed, repairs).items() if opened <= newest_ms}
    places = dict(zip(feed.open_times.tolist(), range(len(feed)), strict=True))
    places |= {opened: len(feed) + row for opened, row in counting.items()}
    in_order = sorted(places)
    klines = join([feed, repairs]).take(np.array([places[time] for time in in_order], np.int64))
    used = np.array([offsets[counting[time]] if time in counting else -1 for time in in_order], np.int64)
    times = klines.open_times
    return _Series(klines, used, np.isin(times, feed.open_times), _newest_row(np.append(True, np.diff(times) != SECOND_MS)))


def _republish(series: _Series, settings: WindowSettings) -> Bools:
    """Of which rows the windows differ from those that the feed alone led to, or may still."""
    times, own = series.times, series.own_runs()
    # After a hole that was filled: until the run that began after it is ready by itself.
    unready = (own > series.runs) & ~_ready(times[own], times, settings)
    # After a correction: until it is a warm-up ago, in the same run.
    corrected = _newest_row((series.used >= 0) & series.held)
    recent = (corrected >= series.runs) & (times - times[corrected] < warm_up_ms(settings))
    return np.asarray(~series.held | unready | recent)


def _ready(began: Ints, times: Ints, settings: WindowSettings) -> Bools:
    """Whether all windows that a kline completes are whole and ready, in a run that began then."""
    # A step of the RSI falls on each kline that completes windows, for each shape of them.
    grid = max(settings.slide_ms, SECOND_MS)
    klines = (times + SECOND_MS) // grid - (began + SECOND_MS - 1) // grid
    # The first value is no change yet.
    changes = len(settings.shapes()) * (klines - 1)
    whole = (times - began) // SECOND_MS + 1 >= settings.depth
    return np.asarray(whole & (changes >= Rsi(settings.rsi_period).ready_after))


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of a series that are computed together: from `begin`; repaired from `first` to `last`; before `limit`."""

    begin: int
    first: int
    last: int
    limit: int


def _parts(series: _Series, warm_up: int) -> list[_Part]:
    """Repaired seconds of a run that are closer together than the warm-up share a part."""
    rows = np.flatnonzero(series.used >= 0)
    if not len(rows):
        return []
    apart = (np.diff(series.times[rows]) >= warm_up) | (np.diff(series.runs[rows]) != 0)
    firsts = rows[np.append(True, apart)].tolist()
    lasts = rows[np.append(apart, True)].tolist()
    # Without holes in between a row is a second.
    begins = [max(int(series.runs[first]), first - warm_up // SECOND_MS) for first in firsts]
    limits = [*firsts[1:], len(series.times)]
    return [_Part(*rows) for rows in zip(begins, firsts, lasts, limits, strict=True)]


def _recomputation(series: _Series, part: _Part, republish: Bools, newest_ms: int) -> Recomputation:
    last = part.first + int(np.flatnonzero(republish[part.first : part.limit])[-1])
    rows = np.arange(part.begin, last + 1)
    touched = slice(part.first, part.last + 1)
    repaired, held = series.used[touched] >= 0, series.held[touched]
    return Recomputation(
        symbol=series.klines.symbols[part.first],
        series=series.klines.take(rows),
        republish=republish[rows] & (rows >= part.first),
        revisions=np.maximum.accumulate(series.used[rows]) + 1,
        repaired_ms=(int(series.times[part.first]), int(series.times[part.last])),
        filled=int(np.count_nonzero(repaired & ~held)),
        corrected=int(np.count_nonzero(repaired & held)),
        complete=newest_ms > int(series.times[last]),
    )


def symbols_of(batch: KlineBatch) -> dict[str, KlineBatch]:
    """A batch of many symbols as one batch a symbol, each in its order."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, symbol in enumerate(batch.symbols):
        rows[symbol].append(row)
    return {symbol: batch.take(np.array(mine, np.int64)) for symbol, mine in rows.items()}
