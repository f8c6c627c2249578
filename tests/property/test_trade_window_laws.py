"""The laws of windows over trades: how the two topics are split, mixed, repeated or read again changes no value."""

import math
import pickle
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klinestream.market.batch import from_klines
from klinestream.market.codec import encode_event
from klinestream.market.errors import EngineError
from klinestream.market.events import Kline, Trade, TradeWindow, wire_fields
from klinestream.market.indicators.rsi import Rsi
from klinestream.market.trade_batch import from_trades
from klinestream.market.trade_windows import TradeStep, TradeWindowEngine, TradeWindowSettings
from tests.trades import Market, markets, runs_of, trade, windows_of

ANY_SETTINGS = st.sampled_from(
    [
        TradeWindowSettings(silence_ms=8000, waiting_most=10_000),
        TradeWindowSettings(3000, 3000, 2, silence_ms=8000, waiting_most=10_000),
        TradeWindowSettings(2500, 500, 3, silence_ms=8000, waiting_most=10_000),
        TradeWindowSettings(1000, 100, 14, silence_ms=8000, waiting_most=10_000),
        TradeWindowSettings(4000, 2000, 5, silence_ms=8000, waiting_most=10_000),
    ]
)
Batch = list[Trade] | list[Kline]


class Run:
    """An engine and all that it gave."""

    def __init__(self, chosen: TradeWindowSettings) -> None:
        self.engine = TradeWindowEngine(chosen)
        self.windows: list[TradeWindow] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.unusable: list[Trade] = []
        self.differences: list[str] = []

    def take(self, batches: Iterable[Batch]) -> "Run":
        for records in batches:
            if not records:
                continue
            if isinstance(records[0], Trade):
                batch = from_trades(records)  # type: ignore[arg-type]  # all of one kind
                step = self.engine.take_trades(batch)
                self.unusable += [batch.trade(row) for row, _ in step.unusable]
            else:
                step = self.engine.take_klines(from_klines(records))  # type: ignore[arg-type]
            self._note(step)
        return self

    def _note(self, step: TradeStep) -> None:
        self.windows += [window for rows in step.windows for window in rows.events()]
        for name in ("trades", "repeats", "back_in_time", "holes", "klines_equal", "klines_unchecked"):
            self.counts[name] += getattr(step, name)
        self.differences += map(str, step.differences)

    def by_run(self) -> dict[tuple[str, int], list[TradeWindow]]:
        """Windows of each run, in the order they came: the windows of a run come in their order, whatever comes between."""
        found: dict[tuple[str, int], list[TradeWindow]] = defaultdict(list)
        for window in self.windows:
            found[window.symbol, window.since_id].append(window)
        return dict(found)


def splits(records: Batch) -> st.SearchStrategy[list[Batch]]:
    """Records cut into batches anywhere."""
    cuts = st.lists(st.integers(0, len(records)), max_size=8).map(sorted)
    return cuts.map(lambda at: [records[a:b] for a, b in zip([0, *at], [*at, len(records)], strict=True)])


@st.composite
def mixed(draw: st.DrawFn, market: Market) -> list[Batch]:
    """Both topics in batches, each in its own order, and one before the other as it happens."""
    queues = [draw(splits(market.trades)), draw(splits(market.klines))]
    order = draw(st.permutations([0] * len(queues[0]) + [1] * len(queues[1])))
    turns = [iter(queue) for queue in queues]
    return [next(turns[which]) for which in order]


@given(data=st.data(), market=markets(), chosen=ANY_SETTINGS)
def test_neither_batches_nor_what_is_read_first_matter(data: st.DataObject, market: Market, chosen: TradeWindowSettings) -> None:
    """However the two topics are split and mixed, the windows of each run are the same, and what was set aside, too."""
    trades_first = Run(chosen).take([market.trades, market.klines])
    singly = Run(chosen).take([[kline] for kline in market.klines]).take([[each] for each in market.trades])
    for other in (singly, Run(chosen).take(data.draw(mixed(market)))):
        assert other.by_run() == trades_first.by_run()
        assert sorted(map(str, other.unusable)) == sorted(map(str, trades_first.unusable))
        assert all(other.counts[name] == trades_first.counts[name] for name in ("trades", "repeats", "back_in_time", "holes"))


@given(market=markets(), chosen=ANY_SETTINGS)
def test_symbols_do_not_matter(market: Market, chosen: TradeWindowSettings) -> None:
    """A symbol's windows are the same alone and among others."""
    together = Run(chosen).take([market.trades, market.klines]).by_run()
    for symbol in {each.symbol for each in market.trades}:
        mine = [[r for r in records if r.symbol == symbol] for records in market]
        alone = Run(chosen).take(mine).by_run()  # type: ignore[arg-type]
        assert alone == {key: windows for key, windows in together.items() if key[0] == symbol}


@given(data=st.data(), market=markets(), chosen=ANY_SETTINGS)
def test_repeats_do_not_matter(data: st.DataObject, market: Market, chosen: TradeWindowSettings) -> None:
    """Trades and klines that come again, at once or later, change no window."""
    once = Run(chosen).take([market.trades, market.klines])
    trades, klines = ([], [])
    for records, again in ((market.trades, trades), (market.klines, klines)):
        for place, record in enumerate(records):
            again.append(record)
            if data.draw(st.booleans()):
                again.append(records[data.draw(st.integers(max(0, place - 3), place))])
    assert Run(chosen).take([trades, klines]).by_run() == once.by_run()


@given(data=st.data(), market=markets(), chosen=ANY_SETTINGS)
def test_saved_state_continues(data: st.DataObject, market: Market, chosen: TradeWindowSettings) -> None:
    """An engine made anew from saved state, at any place, gives what one that never stopped gives."""
    batches = data.draw(mixed(market))
    cut = data.draw(st.integers(0, len(batches)))
    whole = Run(chosen).take(batches)
    stopped = Run(chosen).take(batches[:cut])
    saved = pickle.loads(pickle.dumps(stopped.engine.state))  # noqa: S301  # our own bytes
    stopped.engine = TradeWindowEngine(chosen, saved)
    stopped.take(batches[cut:])
    assert (stopped.windows, stopped.counts, stopped.differences) == (whole.windows, whole.counts, whole.differences)


@given(market=markets(), chosen=ANY_SETTINGS)
def test_since_tells_where_a_replay_gives_the_same_bits(market: Market, chosen: TradeWindowSettings) -> None:
    """A replay of the trades from `since_id` on gives the run's windows again."""
    run = Run(chosen).take([market.trades, market.klines])
    for (symbol, since_id), windows in run.by_run().items():
        mine = next(held for held in runs_of([t for t in market.trades if t.symbol == symbol]) if held[0].first_id == since_id)
        klines = [kline for kline in market.klines if kline.symbol == symbol]
        assert Run(chosen).take([mine, klines]).by_run() == {(symbol, since_id): windows}


@given(market=markets(), chosen=ANY_SETTINGS)
def test_each_window_follows_from_its_trades(market: Market, chosen: TradeWindowSettings) -> None:
    """Just the windows that are complete are there, and each field is that of exact fractions, rounded once."""
    found = Run(chosen).take([market.klines, market.trades])
    expected: list[dict[str, Any]] = []
    for symbol in {each.symbol for each in market.trades}:
        mine, klines = ([r for r in records if r.symbol == symbol] for records in market)
        expected += windows_of(mine, klines, chosen.size_ms, chosen.slide_ms, chosen.silence_ms)
    names = {f.name: name for name, f in wire_fields(TradeWindow).items()}
    got = [
        {names[name]: getattr(window, name) for name in TradeWindow.__dataclass_fields__ if name not in {"rsi", "rsi_ready", "revision"}}
        for window in found.windows
    ]
    key = ["symbol", "since_id", "window_end"]
    assert sorted(got, key=lambda w: [w[k] for k in key]) == sorted(expected, key=lambda w: [w[k] for k in key])


@given(market=markets(("BTCUSDT",), 60))
def test_the_rsi_steps_when_the_trades_change(market: Market) -> None:
    """Wilder's RSI, written out, of the averages of windows whose trades are others than those of the window before."""
    chosen = TradeWindowSettings(rsi_period=3, silence_ms=8000, waiting_most=10_000)
    for windows in Run(chosen).take([market.trades, market.klines]).by_run().values():
        mine = next(held for held in runs_of(market.trades) if held[0].first_id == windows[0].since_id)
        times = [max(t.time_ms for t in mine[: i + 1]) for i in range(len(mine))]
        averages: list[float] = []
        before: list[int] = []
        for window in windows:
            held = [i for i, at in enumerate(times) if window.start_ms <= at < window.end_ms]
            if held and held != before:
                assert window.average_price is not None
                averages.append(window.average_price)
            before = held
            assert window.rsi == (wanted if (wanted := wilder(averages, 3)) is None else pytest.approx(wanted, rel=1e-9, abs=1e-9))
            assert window.rsi_ready == (len(averages) > Rsi(3).ready_after)


def wilder(values: Sequence[float], period: int) -> float | None:
    """Wilder's RSI of all values; None before its seed."""
    moves = [after - before for before, after in pairwise(values)]
    if len(moves) < period:
        return None
    ups, downs = ([max(sign * move, 0.0) for move in moves] for sign in (1, -1))
    up, down = (math.fsum(side[:period]) / period for side in (ups, downs))
    for more_up, more_down in zip(ups[period:], downs[period:], strict=True):
        up, down = (up * (period - 1) + more_up) / period, (down * (period - 1) + more_down) / period
    return 100 * up / (up + down) if up + down else 50.0


@given(market=markets(), chosen=ANY_SETTINGS)
def test_each_trade_is_accounted_for(market: Market, chosen: TradeWindowSettings) -> None:
    """Each trade counts, is a repeat, or is set aside with a reason; no identity is published twice."""
    run = Run(chosen).take([market.trades, market.klines])
    assert run.counts["trades"] + run.counts["repeats"] + len(run.unusable) == len(market.trades)
    identities = [(window.symbol, window.end_ms, window.since_ms) for window in run.windows]
    assert len(set(identities)) == len(identities)


@given(data=st.data(), market=markets(), chosen=ANY_SETTINGS)
def test_klines_of_the_same_trades_never_differ(data: st.DataObject, market: Market, chosen: TradeWindowSettings) -> None:
    """However holes and repeats fall, a kline made from all trades, one by one, is equal or can't be compared."""
    run = Run(chosen).take(data.draw(mixed(market)))
    assert run.differences == []
    assert run.counts["klines_equal"] + run.counts["klines_unchecked"] + run.engine.state.waiting.shape[1] == len(market.klines)


@given(market=markets())
def test_lines_are_events_encoded(market: Market) -> None:
    """A line's value is byte for byte what the codec makes of the event; its time is the end less one."""
    engine = TradeWindowEngine(TradeWindowSettings())
    for rows in engine.take_trades(from_trades(market.trades)).windows if market.trades else ():
        for line, window in zip(rows.lines(), rows.events(), strict=True):
            assert line == f"{window.symbol}\t{window.end_ms - 1}\t{encode_event(window).decode()}"


def test_a_state_made_with_other_settings_is_refused() -> None:
    """An engine does not go on from values that other settings computed: they would be neither one nor the other."""
    engine = TradeWindowEngine(TradeWindowSettings())
    engine.take_trades(from_trades([trade()]))
    with pytest.raises(EngineError, match="start the job without its state"):
        TradeWindowEngine(TradeWindowSettings(slide_ms=1000), engine.state)
