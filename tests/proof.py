"""The proof of a whole stack's output, from its topics: nothing lost, or repaired and on record, nothing twice, every window right."""

from dataclasses import dataclass, replace

import orjson
import polars as pl

from klinestream.market.batch import from_klines
from klinestream.market.codec import decode_kline, encode_event
from klinestream.market.events import SECOND_MS, GapState, Kline
from klinestream.market.topics import KLINE_REPAIRS, KLINES, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.runtime.config import KafkaConfig
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.standin.seeded.market import SeededMarket
from tests import truth
from tests.eventually import eventually
from tests.topics import Topic, windows_by_identity
from tests.whole_stack import TestStack

# A quarter of an hour of the seeded market opens with a trade: from there on every close is known.
_BEFORE_MS = 1_800_000
_REPAIRED_S = 90

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
        # Origin and trade ids tell how a producer came by it, which may differ.
        same = replace(
            kline,
            origin=known.origin,
            first_trade_id=known.first_trade_id,
            last_trade_id_within=known.last_trade_id_within,
            last_trade_id=known.last_trade_id,
        )
        assert same == known, f"one identity, two values: {known} and {kline}"
    return held


def _missing(stack: TestStack, times: dict[str, list[int]]) -> int:
    """How many seconds the feed lacks; each must be on record, and among the repairs."""
    missing = {(name, time) for name, mine in times.items() for time in set(range(mine[0], mine[-1], SECOND_MS)) - set(mine)}
    config = KafkaConfig(bootstrap_servers=stack.bootstrap_servers)

    def settled() -> bool:
        ledger = read_ledger(config)
        assert not ledger.open_gaps(), ledger.open_gaps()[:5]
        gaps = [gap.record for gap in ledger.gaps()]
        assert all(gap.state is not GapState.UNFILLABLE for gap in gaps), gaps
        known = {(gap.symbol, time) for gap in gaps if gap.state is GapState.REPAIRED for time in range(gap.from_ms, gap.to_ms, SECOND_MS)}
        assert missing <= known, f"missing, and not repaired according to the ledger: {sorted(missing - known)[:5]}"
        return True

    eventually(settled, _REPAIRED_S, "every gap is refilled or repaired")
    repairs = Topic(stack.bootstrap_servers, KLINE_REPAIRS.name)
    repaired = {(kline.symbol, kline.open_time_ms) for kline in [decode_kline(record.value or b"") for record in repairs.read()]}
    repairs.close()
    assert missing <= repaired, f"missing, and not among the repairs: {sorted(missing - repaired)[:5]}"
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
