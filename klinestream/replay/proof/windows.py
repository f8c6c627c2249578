"""Windows again from archived klines: by the engine, and where a repair published them anew by what the repair itself calls.

    live        since s0 ────────────────┐   since s1 ───        a job that had to start without its state began a run of its own
    feed     ···|──────────────────────────────────────────      in one the replay has a run for each `since` that was published
    replay      s0 ──────────────────────────────────────
                                 s1 ─────────────────────

A value depends on the klines from its `since` on, and on nothing else: so each run is replayed by itself, from there or from a
snapshot of its state. Runs stand side by side in one engine, called by symbol and, where they didn't begin with the feed, by `since`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from klinestream.market.batch import KlineBatch, join
from klinestream.market.decimals import Ints
from klinestream.market.events import SECOND_MS
from klinestream.market.windows import Names, WindowEngine, WindowRows, WindowSettings, WindowState
from klinestream.replay.proof.columns import WINDOW_FIELDS
from klinestream.replay.proof.results import REVISION, SINCE, SYMBOL, TIME, Results, Symbols, floats, whole
from klinestream.replay.repairs.windows import recomputations, republished, symbols_of, warm_up_ms

AT = "@"
"""Between symbol and `since` in the name of a run; no symbol has it."""
_CHUNK = 32_768
_TRIES = 256
"""As many states of what was repaired are made again, a symbol and stretch."""

Runs = set[tuple[str, int]]
"""Symbol and since."""
Earlier = Callable[[str, int, int], KlineBatch]
"""The klines of a symbol that count, from one time to another."""


@dataclass(slots=True)
class WindowReplay:
    """The runs of any number of symbols."""

    settings: WindowSettings
    symbols: Symbols
    state: WindowState | None = None
    names: Names | None = None
    _engine: WindowEngine = field(init=False)

    def __post_init__(self) -> None:
        """Goes on from a state; raises EngineError if it was computed with other settings."""
        # Nothing is asked of what it remembers.
        self._engine = WindowEngine(replace(self.settings, remembered_s=1), self.state, self.names)

    @property
    def known(self) -> dict[str, int]:
        """Names of runs, and the `since` of each."""
        state = self._engine.state
        return {name: int(state.since[column]) for name, column in self._engine.names.columns.items()}

    def saved(self) -> tuple[WindowState, list[str]]:
        """The state, and the names of its columns; without runs that a hole has ended, for the symbol's own goes on with what follows."""
        state, known = self._engine.state, self.known
        kept = [name for name in known if AT not in name or name.endswith(f"{AT}{known[name]}")]
        columns = np.array([self._engine.names.columns[name] for name in kept], np.int64)
        runs = state.newest[columns], state.since[columns], state.points[columns]
        return WindowState(state.made_by, *runs, state.ring[:, :, columns], state.remainders[:, columns], state.rsi[:, columns]), kept

    def step(self, feed: KlineBatch, wanted: Runs, earlier: Earlier, until_ms: int, beginning: dict[str, int]) -> Results:
        """Take the klines of a stretch that ends at `until_ms`; `wanted` runs are begun where they aren't known."""
        parts = [self._stepped(feed)]
        mine = {name for name in self.known if AT in name and name.endswith(f"{AT}{self.known[name]}")}
        parts += [self._stepped(_renamed(rows, name)) for name in sorted(mine) if len(rows := _of(feed, name.partition(AT)[0]))]
        found = Results.joined(parts, WINDOW_FIELDS)
        have = {
            (self.symbols.names[symbol], since)
            for symbol, since in zip(*np.unique(found.keys[[SYMBOL, SINCE]], axis=1).tolist(), strict=True)
        }
        for symbol, since in sorted(wanted - have):
            if beginning.get(symbol, until_ms) <= since < until_ms:
                run = earlier(symbol, since, until_ms)
                found = Results.joined([found, self._stepped(_renamed(run, f"{symbol}{AT}{since}"))], WINDOW_FIELDS)
        return found

    def _stepped(self, klines: KlineBatch) -> Results:
        order = np.argsort(klines.open_times, kind="stable")
        parts = []
        for begin in range(0, len(order), _CHUNK):
            batch = klines.take(order[begin : begin + _CHUNK])
            parts += [as_results(rows, self.symbols) for rows in self._engine.step(batch).windows]
        return Results.joined(parts, WINDOW_FIELDS)


def _of(klines: KlineBatch, symbol: str) -> KlineBatch:
    return klines.take(np.flatnonzero(np.array([name == symbol for name in klines.symbols], np.bool_)))


def _renamed(klines: KlineBatch, name: str) -> KlineBatch:
    return replace(klines, symbols=(name,) * len(klines))


def as_results(rows: WindowRows, symbols: Symbols) -> Results:
    """Windows as the engine gives them, each once for each of its ends."""
    held = symbols.numbers(name.partition(AT)[0] for name in rows.symbols)
    zeros = np.zeros(len(held), np.int64)
    parts = []
    for end in rows.ends:
        ends = rows.open_times + end
        prices = [floats(column) for column in (rows.close, rows.average_price, rows.low, rows.high, rows.volume)]
        values = np.stack([whole(ends - rows.size_ms), *prices, whole(rows.points), floats(rows.rsi), whole(rows.rsi_ready)])
        parts.append(Results(WINDOW_FIELDS, np.stack([held, zeros, ends, rows.since, zeros]), values))
    return Results.joined(parts, WINDOW_FIELDS)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What there is of one symbol: its feed, and its repairs with their offsets."""

    feed: KlineBatch
    klines: KlineBatch
    offsets: Ints


def repaired(
    settings: WindowSettings, given: dict[str, Repairs], published: Results, symbols: Symbols, span: tuple[int, int]
) -> tuple[Results, Results]:
    """Windows with a revision that repairs lead to: those that were published, of what was repaired by then; and those that must be there.

    The same revision means the same repairs: so a revision that the newest state of repairs doesn't give is made of those up to it.
    """
    found, needed = [], []
    for symbol, mine in given.items():
        rows = published.keys[:, published.keys[SYMBOL] == symbols.number(symbol)]
        wanted = {tuple(column) for column in rows.T.tolist()}
        newest = _recomputed(settings, mine, symbols, span)
        needed.append(_holding(newest, mine, settings))
        left = sorted({column[REVISION] for column in wanted}, reverse=True)
        states = [
            newest,
            *(_recomputed(settings, _until(mine, revision), symbols, span) for revision in left[:_TRIES] if _missing(wanted, newest)),
        ]
        for state in states:
            keep = np.array([tuple(column) in wanted for column in state.keys.T.tolist()], np.bool_)
            found.append(state.take(keep))
            wanted -= {tuple(column) for column in state.keys[:, keep].T.tolist()}
    return Results.joined(found, WINDOW_FIELDS), Results.joined(needed, WINDOW_FIELDS)


def _missing(wanted: set[tuple[int, ...]], state: Results) -> bool:
    return bool(wanted - {tuple(column) for column in state.keys.T.tolist()})


def _until(repairs: Repairs, revision: int) -> Repairs:
    keep = np.flatnonzero(repairs.offsets < revision)
    return Repairs(repairs.feed, repairs.klines.take(keep), repairs.offsets[keep])


def _recomputed(settings: WindowSettings, given: Repairs, symbols: Symbols, span: tuple[int, int]) -> Results:
    parts = recomputations(given.feed, given.klines, given.offsets, settings)
    keys, values = [], []
    for one in republished(parts, settings):
        if span[0] <= one.open_time_ms < span[1]:
            window = one.window
            rsi = np.nan if window.rsi is None else window.rsi
            prices = floats(np.array([window.close, window.average_price, window.low, window.high, window.volume, rsi]))
            start, points, ready = whole(np.array([window.start_ms, window.points, window.rsi_ready]))
            keys.append((symbols.number(window.symbol), 0, window.end_ms, window.since_ms, window.revision))
            values.append((start, *prices[:5], points, prices[5], ready))
    if not keys:
        return Results.none(WINDOW_FIELDS)
    return Results(WINDOW_FIELDS, np.array(keys, np.int64).T.copy(), np.array(values, np.uint64).T.copy())


def _holding(state: Results, given: Repairs, settings: WindowSettings) -> Results:
    """The windows that hold a second which the feed lacks."""
    filled = set(given.klines.open_times.tolist()) - set(given.feed.open_times.tolist())
    opened = (state.keys[TIME] // SECOND_MS - 1) * SECOND_MS
    return state.take(
        np.array([any(time - back * SECOND_MS in filled for back in range(settings.depth)) for time in opened.tolist()], np.bool_)
    )


def reach_ms(settings: WindowSettings) -> int:
    """How far before a window klines matter to what a repair published."""
    return 3 * warm_up_ms(settings)


def batches(parts: Iterable[KlineBatch]) -> dict[str, KlineBatch]:
    """Klines by symbol."""
    found: Sequence[KlineBatch] = list(parts)
    return symbols_of(join(list(found))) if found else {}
