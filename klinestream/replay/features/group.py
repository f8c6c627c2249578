"""The features of a group of symbols, slice after slice: what a worker does. It goes on after the last slice that was whole.

slice ─► minutes ─► BlockWindows, BlockMinute, CandleEngine ─► windows/…parquet, candles/…parquet ─► _state/GROUP
"""

import pickle
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from klinestream.archive.files import Files, date_of
from klinestream.market.block_candles import BlockMinute
from klinestream.market.blocks import BlockWindows
from klinestream.market.candle_engine import CandleSettings
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS, HistoryReason
from klinestream.market.intervals import DAY_MS, MINUTE_MS
from klinestream.market.windows import WindowSettings
from klinestream.replay.features.candle_rows import CandleRowsState, CandleTables, Told, history_of
from klinestream.replay.features.feed import Feed, FeedState, Minutes, with_imported
from klinestream.replay.features.final import Overlay, overlay, unrepaired
from klinestream.replay.features.window_rows import WindowTable
from klinestream.replay.klines import KlineArchive

WINDOWS_TABLE, CANDLES_TABLE = "windows", "candles"
_STATE = "_state"
_ROWS_A_GROUP = 128 * 1024
_PLAIN = (
    "known_ms",
    "close",
    "average_price",
    "low",
    "high",
    "volume",
    "rsi",
    "minute_high",
    "minute_low",
    "minute_close",
    "minute_volume",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What features are asked for, of whatever symbols."""

    archive: str
    out: str
    from_ms: int
    to_ms: int
    live: bool
    windows: WindowSettings
    candles: CandleSettings
    start_ms: int
    """Where reading begins: a warm-up before `from_ms`, at a minute's beginning."""
    slice_ms: int
    fingerprint: str

    def slices(self) -> list[tuple[int, int]]:
        """What is computed at once, in order; whole minutes."""
        end = -(-self.to_ms // MINUTE_MS) * MINUTE_MS
        firsts = [self.start_ms, *range((self.start_ms // self.slice_ms + 1) * self.slice_ms, end, self.slice_ms)]
        return list(zip(firsts, [*firsts[1:], end], strict=True))


@dataclass(frozen=True, slots=True)
class Group:
    """Symbols that are computed side by side, under a name."""

    name: str
    symbols: tuple[str, ...]


@dataclass(slots=True)
class _Progress:
    """What is saved after a slice."""

    fingerprint: str
    slices: int
    windows: BlockWindows
    candles: CandleRowsState
    feed: FeedState
    waiting: dict[int, deque[Told]]
    files: list[dict[str, Any]] = field(default_factory=list)


def run_group(asked: Asked, group: Group, told: Callable[[int], None] = lambda _: None) -> list[dict[str, Any]]:
    """Compute all that isn't there yet of a group; what its files are. `told` gets how many slices are done. Raises ArchiveError."""
    work = _Work(asked, group)
    for number in range(work.progress.slices, len(asked.slices())):
        work.slice(*asked.slices()[number])
        work.save(number + 1)
        told(number + 1)
    return work.progress.files


class _Work:
    def __init__(self, asked: Asked, group: Group) -> None:
        self._asked, self._group = asked, group
        self._out, archive = Files(asked.out), Files(asked.archive)
        history = history_of(archive, group.symbols, asked.start_ms, asked.to_ms, live=asked.live)
        # Where none will come, no candle has to wait for it.
        settings = asked.candles if history else replace(asked.candles, history=0)
        self._candles = CandleTables(group.symbols, settings, asked.from_ms, asked.to_ms)
        self.progress = self._held() or self._new(history)
        self._correct(history)
        slices = asked.slices()
        begin = slices[self.progress.slices][0] if self.progress.slices < len(slices) else asked.to_ms
        self._feed = Feed(KlineArchive(archive, with_ids=False), group.symbols, begin, asked.to_ms)
        self._overlay = Overlay() if asked.live else overlay(archive, group.symbols, asked.start_ms, asked.to_ms, asked.windows)

    def slice(self, from_ms: int, to_ms: int) -> None:
        """Compute and write one slice."""
        minutes = self._minutes(from_ms, to_ms)
        repaired, touched = self._overlay.repair(minutes, to_ms)
        table = WindowTable(self._group.symbols, from_ms, minutes.there.shape[0])
        table.times["known_ms"] = repaired.known_ms
        for minute in range(minutes.there.shape[0]):
            block = minutes.block(minute)
            if not block.there.any() and minute not in touched:
                continue
            (windows,) = self.progress.windows.step(block)
            table.put(minute, windows)
            made = BlockMinute(block)
            self._close(made, minutes.known_ms[:, minute])
            shown = BlockMinute(repaired.block(minute)) if minute in touched else made
            table.put_minute(minute, shown.so_far())
        self._overlay.lay(table, from_ms, to_ms)
        self._count_history(to_ms)
        self._write(WINDOWS_TABLE, from_ms, table.table(self._asked.from_ms, self._asked.to_ms))
        self._write(CANDLES_TABLE, from_ms, self._candles.table())

    def save(self, slices: int) -> None:
        """All up to here is whole."""
        self.progress.slices = slices
        self._out.put(f"{_STATE}/{self._group.name}", pickle.dumps(self.progress))

    def _new(self, history: list[Told]) -> _Progress:
        count = len(self._group.symbols)
        places = {symbol: place for place, symbol in enumerate(self._group.symbols)}
        waiting: dict[int, deque[Told]] = defaultdict(deque)
        for one in history:
            waiting[places[one.history.symbol]].append(one)
        windows = BlockWindows(self._asked.windows, count)
        return _Progress(self._asked.fingerprint, 0, windows, self._candles.state, FeedState.empty(count), dict(waiting))

    def _held(self) -> _Progress | None:
        """What an earlier run has left; nothing where that was another one."""
        text = self._out.read(f"{_STATE}/{self._group.name}")
        found = None if text is None else pickle.loads(text)  # noqa: S301  # our own, in the folder that is written to
        if found is None or found.fingerprint != self._asked.fingerprint:
            return None
        self._candles.state = found.candles
        return found  # type: ignore[no-any-return]  # what was pickled

    def _correct(self, history: list[Told]) -> None:
        if self._asked.live:
            return
        places = {symbol: place for place, symbol in enumerate(self._group.symbols)}
        for one in sorted(history, key=lambda each: each.history.revision):
            if one.history.reason is HistoryReason.CORRECTION:
                self._candles.corrections.add(places[one.history.symbol], one)
        self._candles.state.engine.corrected = self._candles.corrections

    def _minutes(self, from_ms: int, to_ms: int) -> Minutes:
        feed, state = self._feed.until(from_ms, to_ms), self.progress.feed
        imported = unrepaired(self._feed.imported(from_ms, min(to_ms, self._asked.to_ms)), self._overlay.repaired)
        klines = with_imported(feed, imported, state, live=self._asked.live)
        return Minutes.of(klines, from_ms, to_ms, state.known_ms)

    def _close(self, made: BlockMinute, known_ms: Ints) -> None:
        """Take a minute's klines into the candles, and history where it counts by then."""
        held, table, newest = made.table()
        if not len(held):
            return
        first = known_ms[held, table[0] // SECOND_MS % 60]
        last = known_ms[held, newest // SECOND_MS % 60]
        self._count_history_of(held, first)
        self._candles.passed(held, table[0], first)
        self._count_history_of(held, last)
        self._candles.minute(held, table, newest, last)

    def _count_history_of(self, places: Ints, limits: Ints) -> None:
        if self.progress.waiting:
            for place, limit in zip(places.tolist(), limits.tolist(), strict=True):
                self._take_history(place, limit)

    def _count_history(self, limit_ms: int) -> None:
        for place in sorted(self.progress.waiting):
            self._take_history(place, limit_ms)

    def _take_history(self, place: int, limit_ms: int) -> None:
        waiting = self.progress.waiting.get(place)
        while waiting and waiting[0].counts_ms <= limit_ms:
            self._candles.history(waiting.popleft())
        if waiting is not None and not waiting:
            del self.progress.waiting[place]

    def _write(self, name: str, from_ms: int, table: pa.Table) -> None:
        if not len(table):
            return
        sink = BytesIO()
        dictionaries = [each for each in table.column_names if each not in _PLAIN]
        pq.write_table(
            table,
            sink,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROWS_A_GROUP,
            use_dictionary=dictionaries,
            store_schema=False,
        )
        body = sink.getvalue()
        minute = from_ms % DAY_MS // MINUTE_MS
        place = f"{name}/date={date_of(from_ms)}/{minute // 60:02d}{minute % 60:02d}-{self._group.name}.parquet"
        self._out.put(place, body)
        digest = blake2b(body, digest_size=16).hexdigest()
        self.progress.files.append({"file": place, "rows": len(table), "bytes": len(body), "blake2b": digest})
