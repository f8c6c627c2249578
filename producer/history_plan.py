"""What of the exchange's candles is to be asked for next: the needs of all symbols and intervals, in order of importance.

look ─► needed ─► ready, by rank ─► asking ─► answered, or asked again later
 ▲                                              │
 └── when the next candle closes, something is ─┘
     lost or corrected, or what is stored is old
"""

import heapq
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count

from klinestream.market.history import Need, Row, Series, Span, Taken, hull, merged
from klinestream.market.intervals import INTERVALS

CORRECTED_SETTLE_MS = 5000
"""So long after the last correction of a symbol its candles are asked for: many corrections of one candle are one need."""
_SPANS_MOST = 100  # of a symbol that wait to be looked at: more become one, which at worst asks for candles in between
_AGAIN_FIRST_MS, _AGAIN_MOST_MS = 1000, 60_000
_UNUSABLE_MOST_MS = 600_000  # each answer that can't be used is a dead letter
_SPREAD = 0.25  # of the refresh: so that what was fetched at once isn't fetched at once again

Stored = Mapping[tuple[str, str], Iterable[Span]]
"""Symbol and interval → the candles that the topic holds."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: the candles of all needs of a symbol and interval."""

    symbol: str
    interval: str
    needs: tuple[Need, ...]

    @property
    def span(self) -> Span:
        """Open times of all of them, and of what lies between."""
        return hull(self.needs)


@dataclass(slots=True, eq=False)
class _Line:
    """One series, and where it stands."""

    series: Series
    order: int
    look_ms: int = 0
    ready: bool = False
    asking: bool = False
    needs: int = 0
    needed_ms: int | None = None
    """Since when it has needs."""
    again_ms: int = _AGAIN_FIRST_MS


@dataclass(slots=True)
class _Symbol:
    lines: dict[str, _Line]
    followed: bool = False
    looked_up: bool = False
    """The topic of klines was searched for it."""
    since_ms: int | None = None
    corrected: list[Span] = field(default_factory=list)
    settled_ms: int = 0


class Plan:
    """For one thread at a time. All times are passed in."""

    def __init__(self, intervals: Iterable[str], history: int, refresh_ms: int, patience_ms: int) -> None:
        """`patience_ms`: how long a candle that closed is asked for in vain before it counts as absent."""
        self._intervals = sorted(intervals, key=lambda interval: INTERVALS[interval])
        self._history = history
        self._refresh_ms = refresh_ms
        self._patience_ms = patience_ms
        self._symbols: dict[str, _Symbol] = {}
        self._watched: frozenset[str] = frozenset()
        self._numbers = count()
        self._ready: list[tuple[tuple[bool, bool, int, int], int, _Line]] = []

    def load(self, stored: Stored) -> None:
        """Take in what the topic holds."""
        for (symbol, interval), spans in stored.items():
            if interval in self._intervals:
                self._symbol(symbol).lines[interval].series.store(spans)

    def follow(self, symbols: Collection[str]) -> bool:
        """Exactly these symbols are followed from now on; returns whether one is new."""
        joined = False
        for name in symbols:
            symbol = self._symbol(name)
            if not symbol.followed:
                joined = symbol.followed = True
                symbol.looked_up, symbol.since_ms = False, None
                self._look_at(symbol)
        for name, symbol in self._symbols.items():
            if symbol.followed and name not in symbols:
                symbol.followed = False
                for line in symbol.lines.values():
                    line.ready, line.needs, line.needed_ms = False, 0, None
        return joined

    def follows(self, name: str) -> bool:
        """Whether a symbol is followed."""
        symbol = self._symbols.get(name)
        return symbol is not None and symbol.followed

    def beginless(self) -> list[str]:
        """Followed symbols of which no kline is known."""
        return [name for name, symbol in self._symbols.items() if symbol.followed and symbol.since_ms is None]

    def begin(self, searched: Iterable[str], since_ms: Mapping[str, int]) -> None:
        """The topic was searched for klines of these symbols: those found are there from such a time on, but for lost ones."""
        for name in searched:
            symbol = self._symbol(name)
            symbol.looked_up = True
            symbol.since_ms = since_ms.get(name)
            self._look_at(symbol)

    def lose(self, name: str, spans: Iterable[Span]) -> None:
        """Klines of a symbol are not in the feed."""
        symbol, lost = self._symbol(name), merged(spans)
        for line in symbol.lines.values():
            line.series.lose(lost)
        self._look_at(symbol)

    def correct(self, name: str, spans: Iterable[Span], now_ms: int) -> None:
        """Klines of a symbol were corrected, or came after all."""
        symbol = self._symbol(name)
        symbol.corrected = bounded([*symbol.corrected, *spans])
        symbol.settled_ms = now_ms + CORRECTED_SETTLE_MS

    def look(self, watched: frozenset[str], now_ms: int) -> None:
        """Find out what is needed now."""
        for symbol in self._symbols.values():
            if symbol.corrected and now_ms >= symbol.settled_ms:
                for line in symbol.lines.values():
                    line.series.correct(symbol.corrected)
                symbol.corrected = []
                self._look_at(symbol)
            if not symbol.followed or not symbol.looked_up:
                continue
            for line in symbol.lines.values():
                if line.look_ms <= now_ms and not line.ready and not line.asking:
                    self._look(symbol, line, now_ms)
        if watched != self._watched:
            self._watched = watched
            self._ready = [(self._rank(line, now_ms), number, line) for _, number, line in self._ready if line.ready]
            heapq.heapify(self._ready)

    def next(self, now_ms: int) -> Ask | None:
        """What to ask for now."""
        while self._ready:
            line = heapq.heappop(self._ready)[-1]
            if not line.ready:
                continue
            line.ready = False
            series = line.series
            needs = series.needs(self._symbols[series.symbol].since_ms, now_ms)
            if needs:
                series.begin(needs)
                line.asking, line.needs = True, len(needs)
                return Ask(series.symbol, series.interval, tuple(needs))
            self._rest(line, now_ms)
        return None

    def put_back(self, ask: Ask, now_ms: int, wait_ms: int = 0) -> None:
        """It was not answered, or not sent."""
        line = self._line(ask)
        line.series.fail()
        line.asking, line.look_ms = False, now_ms + wait_ms

    def retry(self, ask: Ask, now_ms: int) -> None:
        """The answer can't be used: another time, ever later."""
        self.put_back(ask, now_ms, self._later_ms(self._line(ask), _UNUSABLE_MOST_MS))

    def take(self, ask: Ask, rows: Mapping[int, Row], now_ms: int, *, all_usable: bool = True) -> Taken:
        """The answer: its rows by open time, of closed candles. What it lacks is asked for later, each time later still."""
        line = self._line(ask)
        # Of few short candles the wanted ones move on before the patience ends: the asking would never.
        patience_ms = min(self._patience_ms, self._history * line.series.length_ms // 2)
        # A row that came and can't be used is no sign that there is none.
        absent_before_ms = now_ms - patience_ms if all_usable else 0
        taken = line.series.take(ask.needs, rows, absent_before_ms)
        line.asking, line.look_ms = False, now_ms
        if taken.waiting:
            line.look_ms += self._later_ms(line, _AGAIN_MOST_MS if all_usable else _UNUSABLE_MOST_MS)
        else:
            line.again_ms = _AGAIN_FIRST_MS
        return taken

    def waiting(self) -> int:
        """How many spans of candles are needed and not there."""
        return sum(line.needs for symbol in list(self._symbols.values()) for line in symbol.lines.values())

    def oldest_ms(self, now_ms: int) -> int:
        """For how long the oldest of them has been needed."""
        needed = [line.needed_ms for symbol in list(self._symbols.values()) for line in symbol.lines.values() if line.needed_ms is not None]
        return now_ms - min(needed, default=now_ms)

    def _look(self, symbol: _Symbol, line: _Line, now_ms: int) -> None:
        needs = line.series.needs(symbol.since_ms, now_ms)
        if not needs:
            self._rest(line, now_ms)
            return
        line.ready, line.needs = True, len(needs)
        line.needed_ms = now_ms if line.needed_ms is None else line.needed_ms
        heapq.heappush(self._ready, (self._rank(line, now_ms), next(self._numbers), line))

    def _rest(self, line: _Line, now_ms: int) -> None:
        """Nothing is needed for now."""
        line.needs, line.needed_ms, line.again_ms = 0, None, _AGAIN_FIRST_MS
        line.look_ms = line.series.look_again_ms(self._symbols[line.series.symbol].since_ms, now_ms)

    @staticmethod
    def _later_ms(line: _Line, most_ms: int) -> int:
        wait_ms = min(line.again_ms, most_ms)
        line.again_ms = 2 * wait_ms
        return wait_ms

    def _rank(self, line: _Line, now_ms: int) -> tuple[bool, bool, int, int]:
        """Watched symbols first, what has merely grown old last, and else a symbol after the other, its short intervals first."""
        series = line.series
        return series.symbol not in self._watched, series.newest_ms >= 0 and series.is_old(now_ms), line.order, series.length_ms

    @staticmethod
    def _look_at(symbol: _Symbol) -> None:
        for line in symbol.lines.values():
            line.look_ms = 0

    def _line(self, ask: Ask) -> _Line:
        return self._symbols[ask.symbol].lines[ask.interval]

    def _symbol(self, name: str) -> _Symbol:
        found = self._symbols.get(name)
        if found is None:
            order = len(self._symbols)
            found = _Symbol({interval: _Line(self._series(name, interval), order) for interval in self._intervals})
            self._symbols[name] = found
        return found

    def _series(self, symbol: str, interval: str) -> Series:
        share = zlib.crc32(f"{symbol}:{interval}".encode()) / 2**32
        return Series(symbol, interval, self._history, round(self._refresh_ms * (1 - _SPREAD * share)))


def bounded(spans: Iterable[Span]) -> list[Span]:
    """The same spans merged; one from the first to the last where they are too many."""
    found = merged(spans)
    return found if len(found) <= _SPANS_MOST else [(found[0][0], found[-1][1])]
