"""What repairs change in features as of final: the windows that the repair process publishes, by its own functions.

crypto_kline_repairs ─► clusters ─► passes ─► the feed around them ─► repair.recomputations, repair.republished ─► rows laid over live ones
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from klinestream.archive.files import Files
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS, Window
from klinestream.market.partitions import partition_of
from klinestream.market.topics import KLINE_REPAIRS
from klinestream.market.windows import WindowSettings
from klinestream.replay.features.feed import MINUTE_S, Bools, Minutes
from klinestream.replay.features.window_rows import WindowTable
from klinestream.replay.kline_columns import ArchivedKlines, counting, filled, joined
from klinestream.replay.klines import EVER_MS, KlineArchive
from klinestream.replay.repairs.index import Cluster, RepairIndex
from klinestream.replay.repairs.window_topics import passes
from klinestream.replay.repairs.windows import Recomputation, recomputations, republished, warm_up_ms


@dataclass(frozen=True, slots=True)
class Anew:
    """A row that a repair publishes again."""

    window: Window
    known_ms: int


@dataclass(slots=True)
class Overlay:
    """All that repairs change of some symbols."""

    rows: dict[int, dict[int, Anew]] = field(default_factory=lambda: defaultdict(dict))
    """Symbol's place → open time → row."""
    repaired: ArchivedKlines | None = None
    """The repaired seconds, each symbol's own in order of time, the newest of a second."""

    def lay(self, windows: WindowTable, from_ms: int, to_ms: int) -> None:
        """Put what lies in a slice over its live rows."""
        for place, rows in self.rows.items():
            for opened in [time for time in rows if from_ms <= time < to_ms]:
                second = (opened - from_ms) // SECOND_MS
                at = place, second // MINUTE_S, second % MINUTE_S
                windows.replace(at, rows[opened].window, rows[opened].known_ms)

    def repair(self, minutes: Minutes, to_ms: int) -> tuple[Minutes, set[int]]:
        """A slice with the repaired seconds, for the minutes as they stood, and which of its minutes those are."""
        if self.repaired is None:
            return minutes, set()
        inside = (self.repaired.open_times >= minutes.from_ms) & (self.repaired.open_times < to_ms)
        mine = self.repaired.take(inside)
        if not len(mine):
            return minutes, set()
        second = (mine.open_times - minutes.from_ms) // SECOND_MS
        at = second // MINUTE_S, mine.codes, second % MINUTE_S
        there, known = minutes.there.copy(), minutes.known_ms.copy()
        there[at] = True
        columns = [each.copy() for each in (minutes.prices, minutes.volumes, minutes.remainders, minutes.trades)]
        for column, values in zip(columns, (mine.prices, mine.volumes, mine.remainders, mine.trades), strict=True):
            column[(..., *at)] = values
        np.maximum.at(known, (mine.codes, second // MINUTE_S, second % MINUTE_S), mine.published_ms)
        touched = set((second // MINUTE_S).tolist())
        for minute in touched:
            known[:, minute] = np.maximum.accumulate(known[:, minute], axis=1)
        return Minutes(minutes.from_ms, there, columns[0], columns[1], columns[2], columns[3], known), touched


def overlay(files: Files, symbols: Sequence[str], from_ms: int, to_ms: int, settings: WindowSettings) -> Overlay:
    """What the repairs of a span change, whose seconds count from `from_ms` to before `to_ms`. Raises ArchiveError."""
    found, names = Overlay(), tuple(symbols)
    repairs = joined(list(KlineArchive(files, KLINE_REPAIRS, with_ids=False, late_ms=EVER_MS).read(names, from_ms, to_ms)), names)
    if not len(repairs):
        return found
    repairs = repairs.take(np.lexsort((repairs.offsets, repairs.codes)))
    warm_up, index = warm_up_ms(settings), RepairIndex(warm_up_ms(settings))
    for code, opened, offset in zip(repairs.codes.tolist(), repairs.open_times.tolist(), repairs.offsets.tolist(), strict=True):
        index.add(names[code], opened, partition_of(names[code], KLINE_REPAIRS.partitions), offset)
    clusters = index.clusters()
    archive = KlineArchive(files, with_ids=False)
    newest = _newest(archive, clusters, to_ms)
    for chosen in passes(clusters, warm_up):
        _lay(found, repairs, chosen, settings, _Around(archive, newest, from_ms, to_ms))
    last = repairs.take(np.array([opened <= newest.get(names[c], -1) for c, opened in zip(repairs.codes, repairs.open_times, strict=True)]))
    last = last.take(np.lexsort((-last.offsets, last.open_times, last.codes)))
    found.repaired = last.take(np.append(True, (np.diff(last.codes) != 0) | (np.diff(last.open_times) != 0))) if len(last) else None
    return found


def unrepaired(imported: ArchivedKlines, repairs: ArchivedKlines | None) -> ArchivedKlines:
    """Imported klines of seconds that no repair holds: those are the topic's."""
    if repairs is None or not len(imported):
        return imported
    held = set(zip(repairs.codes.tolist(), repairs.open_times.tolist(), strict=True))
    free = [pair not in held for pair in zip(imported.codes.tolist(), imported.open_times.tolist(), strict=True)]
    return imported.take(np.array(free, np.bool_))


def _newest(archive: KlineArchive, clusters: Sequence[Cluster], to_ms: int) -> dict[str, int]:
    """Of the symbols that have repairs the open time of the feed's newest kline."""
    found: dict[str, int] = {}
    for part in archive.read({one.symbol for one in clusters}, min(one.first_ms for one in clusters), to_ms):
        for code in np.unique(part.codes).tolist():
            name = part.names[code]
            found[name] = max(found.get(name, -1), int(part.open_times[part.codes == code].max()))
    return found


@dataclass(frozen=True, slots=True)
class _Around:
    """Where the feed around repairs is read, and how far it goes."""

    archive: KlineArchive
    newest: dict[str, int]
    from_ms: int
    to_ms: int


def _lay(found: Overlay, repairs: ArchivedKlines, clusters: Sequence[Cluster], settings: WindowSettings, around: _Around) -> None:
    archive, newest = around.archive, around.newest
    warm_up, places = warm_up_ms(settings), {name: place for place, name in enumerate(repairs.names)}
    symbols = {one.symbol for one in clusters}
    first, last = min(one.first_ms for one in clusters) - warm_up, max(one.last_ms for one in clusters) + warm_up + SECOND_MS
    first, last = max(first, around.from_ms), min(last, around.to_ms)
    feed = joined(list(archive.read(symbols, first, last)), repairs.names)
    feed = feed.take(counting(feed))
    imported = unrepaired(joined([archive.imported(symbols, first, last)], repairs.names), repairs)
    feed = filled(feed, imported) if len(imported) else feed
    parts: list[Recomputation] = []
    known: dict[str, dict[int, int]] = {}
    for one in clusters:
        mine = feed.take((feed.codes == places[one.symbol]) & _within(feed, one.first_ms - warm_up, one.last_ms + warm_up))
        own = repairs.take((repairs.codes == places[one.symbol]) & _within(repairs, one.first_ms, one.last_ms))
        parts += recomputations(mine.batch, own.batch, own.offsets, settings, newest.get(one.symbol, -1))
        known[one.symbol] = dict(zip(mine.open_times.tolist(), mine.published_ms.tolist(), strict=True))
        for opened, published in zip(own.open_times.tolist(), own.published_ms.tolist(), strict=True):
            known[one.symbol][opened] = max(published, known[one.symbol].get(opened, 0))
    when = {(part.symbol, part.since_ms): _running(part, known[part.symbol]) for part in parts}
    end = settings.shapes()[0][1][0]
    for again in republished(parts, settings):
        window = again.window
        if window.end_ms == again.open_time_ms + end:
            row = (again.open_time_ms - window.since_ms) // SECOND_MS
            anew = Anew(window, int(when[window.symbol, window.since_ms][row]))
            found.rows[places[window.symbol]][again.open_time_ms] = anew


def _running(part: Recomputation, known: dict[int, int]) -> Ints:
    """Of each kline of a stretch when it and all before it were known."""
    return np.maximum.accumulate(np.array([known[opened] for opened in part.series.open_times.tolist()], np.int64))


def _within(klines: ArchivedKlines, first_ms: int, last_ms: int) -> Bools:
    return (klines.open_times >= first_ms) & (klines.open_times <= last_ms)
