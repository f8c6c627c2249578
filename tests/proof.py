"""The proof of a whole stack's output, from its topics: nothing lost, or repaired and on record, nothing twice, every window right."""

from dataclasses import dataclass, replace

import numpy as np
import orjson
import polars as pl

from klinestream.market.batch import from_klines
from klinestream.market.codec import decode_kline, encode_event
from klinestream.market.events import SECOND_MS, GapState, Kline
from klinestream.market.topics import KLINE_REPAIRS, KLINES, WINDOWS
from klinestream.market.windows import WindowEngine, WindowSettings
from klinestream.replay.repairs.window_topics import klines_of
from klinestream.replay.repairs.windows import recomputations, republished, symbols_of
from klinestream.runtime.gap_ledger import read_ledger
from klinestream.runtime.sections import KafkaConfig
from klinestream.standin.seeded.market import SeededMarket
from tests import truth
from tests.candle_proof import prove_candles
from tests.eventually import eventually
from tests.topics import Topic, windows_by_identity, windows_by_revision
from tests.whole_stack import TestStack

# A quarter of an hour of the seeded market opens with a trade: from there on every close is known.
_BEFORE_MS = 1_800_000
_REPAIRED_S = 90
_AGAIN_S = 90

Held = dict[tuple[str, int], Kline]
"""(symbol, open time) → kline."""
Values = dict[tuple[str, int], bytes]
"""(symbol, window end) → a window's record."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What was checked."""

    klines: int
    windows: int
    missing_seconds: int
    repeated_klines: int
    repeated_windows: int
    republished_windows: int
    candles: int


def prove(stack: TestStack) -> Proved:
    """Check all that the topics hold, next to the seeded market's trades and to a replay; raises AssertionError."""
    klines, windows = Topic(stack.bootstrap_servers, KLINES.name), Topic(stack.bootstrap_servers, WINDOWS.name)
    held = _held(klines)
    times = {symbol: sorted(time for name, time in held if name == symbol) for symbol in {name for name, _ in held}}
    missing = _missing(stack, times)
    ends = {(symbol, end) for symbol, mine in times.items() for end in truth.ends_of(mine)}
    eventually(lambda: ends <= _original(windows).keys(), 60, "a window for every end")
    live = {identity: value for identity, value in _original(windows).items() if identity in ends}
    again = _published_again(stack, klines, windows)

    seconds = _from_trades(stack, times)
    mistakes = [mistake for value in (*live.values(), *again.values()) if (mistake := truth.wrong(orjson.loads(value), seconds))]
    assert not mistakes, mistakes[:5]
    assert live == _replayed(held), "a replay of the topic gives other bits"
    identities = sum(map(len, windows_by_revision(windows.records).values()))
    repeated = len(klines.records) - len(held), len(windows.records) - identities
    candles = prove_candles(stack, _in_order(held))
    proved = Proved(len(held), len(live), missing, *repeated, len(again), candles)
    klines.close()
    windows.close()
    return proved


def _original(windows: Topic) -> Values:
    """The windows that no repair led to."""
    return {identity: values[0] for identity, values in windows_by_revision(windows.read()).items() if 0 in values}


def _published_again(stack: TestStack, klines: Topic, windows: Topic) -> Values:
    """The windows that were published again, each as a recomputation has it, once all are there that hold a repaired second.

    Those that follow a repaired second come as the feed goes on.
    """
    repairs = Topic(stack.bootstrap_servers, KLINE_REPAIRS.name)

    def settled() -> tuple[Values]:
        shown = windows_by_identity(windows.read())
        expected, needed = _recomputed(klines, repairs)
        found = {identity: value for identity, value in shown.items() if orjson.loads(value)["revision"]}
        strange = [(value, expected.get(identity)) for identity, value in found.items() if expected.get(identity) != value]
        assert not strange, f"published again, and not as it should be: {strange[:3]}"
        assert needed <= found.keys(), f"hold repaired seconds, and are not published again: {sorted(needed - found.keys())[:5]}"
        return (found,)

    (found,) = eventually(settled, _AGAIN_S, "every window that holds a repaired second is published again")
    repairs.close()
    return found


def _recomputed(klines: Topic, repairs: Topic) -> tuple[Values, set[tuple[str, int]]]:
    """What must be published again, and those of it that hold a repaired second."""
    settings = WindowSettings()
    late, offsets = klines_of(repairs.read())
    feed = symbols_of(klines_of(klines.read())[0])
    names = np.array(late.symbols)
    parts = [
        part
        for symbol, mine in symbols_of(late).items()
        for part in recomputations(feed.get(symbol, from_klines([])), mine, offsets[names == symbol], settings)
    ]
    filled = {(symbol, time) for symbol, time in zip(late.symbols, late.open_times.tolist(), strict=True)}
    expected: Values = {}
    needed = set()
    for one in republished(parts, settings):
        identity = (one.window.symbol, one.window.end_ms)
        expected[identity] = encode_event(one.window)
        if any((one.window.symbol, one.open_time_ms - back * SECOND_MS) in filled for back in range(settings.depth)):
            needed.add(identity)
    return expected, needed


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


def _in_order(held: Held) -> list[Kline]:
    return [held[identity] for identity in sorted(held, key=lambda identity: identity[1])]


def _replayed(held: Held) -> dict[tuple[str, int], bytes]:
    rows = WindowEngine(WindowSettings()).step(from_klines(_in_order(held))).windows
    return {(window.symbol, window.end_ms): encode_event(window) for row in rows for window in row.events()}
