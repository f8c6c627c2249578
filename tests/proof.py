"""The proof of a whole stack's output, from its topics: nothing lost but where it is known, nothing twice, every window right."""

from dataclasses import dataclass, replace

import orjson
import polars as pl

from klinestream.market.batch import from_klines
from klinestream.market.codec import decode_kline, encode_event
from klinestream.market.events import SECOND_MS, Kline
from klinestream.market.topics import KLINES, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.standin.seeded.market import SeededMarket
from tests import truth
from tests.eventually import eventually
from tests.topics import Topic, windows_by_identity
from tests.whole_stack import TestStack

# A quarter of an hour of the seeded market opens with a trade: from there on every close is known.
_BEFORE_MS = 1_800_000
_CAUSES_HOLES = frozenset({"producer", "standin"})

Held = dict[tuple[str, int], Kline]
"""(symbol, open time) → kline."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What was checked."""

    klines: int
    windows: int
    missing_seconds: int
    repeated_klines: int
    repeated_windows: int


def prove(stack: TestStack) -> Proved:
    """Check all that the topics hold, next to the seeded market's trades and to a replay; raises AssertionError."""
    klines, windows = Topic(stack.bootstrap_servers, KLINES.name), Topic(stack.bootstrap_servers, WINDOWS.name)
    held = _held(klines)
    times = {symbol: sorted(time for name, time in held if name == symbol) for symbol in {name for name, _ in held}}
    missing = _missing(stack, times)
    ends = {(symbol, end) for symbol, mine in times.items() for end in truth.ends_of(mine)}
    eventually(lambda: ends <= windows_by_identity(windows.read()).keys(), 60, "a window for every end")
    live = {identity: value for identity, value in windows_by_identity(windows.read()).items() if identity in ends}

    seconds = _from_trades(stack, times)
    mistakes = [mistake for value in live.values() if (mistake := truth.wrong(orjson.loads(value), seconds))]
    assert not mistakes, mistakes[:5]
    assert live == _replayed(held), "a replay of the topic gives other bits"
    proved = Proved(len(held), len(live), missing, len(klines.records) - len(held), len(windows.records) - len(live))
    klines.close()
    windows.close()
    return proved


def _held(klines: Topic) -> Held:
    held: Held = {}
    for kline in [decode_kline(record.value or b"") for record in klines.read()]:
        known = held.setdefault((kline.symbol, kline.open_time_ms), kline)
        assert replace(kline, last_trade_id=known.last_trade_id) == known, f"one identity, two values: {known} and {kline}"
    return held


def _missing(stack: TestStack, times: dict[str, list[int]]) -> int:
    """How many seconds lack a kline; all must lie where producer or exchange were away."""
    missing = [time for mine in times.values() for time in set(range(mine[0], mine[-1], SECOND_MS)) - set(mine)]
    away = [(began, back) for part, began, back in stack.outages if part in _CAUSES_HOLES]
    unexplained = [time for time in missing if not any(began - 2 * SECOND_MS <= time <= back for began, back in away)]
    assert not unexplained, f"seconds are missing that no outage explains: {sorted(unexplained)[:5]}"
    return len(missing)


def _from_trades(stack: TestStack, times: dict[str, list[int]]) -> truth.Seconds:
    market = SeededMarket(stack.config.standin.seed, stack.config.standin.symbols)
    last_ms = max(mine[-1] for mine in times.values()) + SECOND_MS
    rows = [
        (symbol, trade.time_ms, trade.price / 1e8, trade.quantity / 1e8, trade.id)
        for symbol, mine in times.items()
        for trade in market.trades(symbol, mine[0] - _BEFORE_MS, last_ms)
    ]
    trades = pl.DataFrame(rows, ["symbol", "time", "price", "quantity", "id"], orient="row").sort("symbol", "id")
    return truth.seconds_of(trades, until_ms=last_ms)


def _replayed(held: Held) -> dict[tuple[str, int], bytes]:
    in_order = [held[identity] for identity in sorted(held, key=lambda identity: identity[1])]
    rows = WindowEngine(WindowSettings()).step(from_klines(in_order)).windows
    return {(window.symbol, window.end_ms): encode_event(window) for row in rows for window in row.events()}
