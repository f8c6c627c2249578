"""What windows over trades do where something is not as it should be."""

from klinestream.market.batch import from_klines
from klinestream.market.decimals import UNIT
from klinestream.market.events import Kline, Proof, Trade, TradeWindow
from klinestream.market.trade_batch import from_trades
from klinestream.market.trade_windows import TradeStep, TradeWindowEngine, TradeWindowSettings
from tests.klines import START_MS, kline
from tests.trades import klines_of, trade


def one(first_id: int, after_ms: int, **fields: object) -> Trade:
    return trade(first_id=first_id, time_ms=START_MS + after_ms, **fields)


def windows_of(step: TradeStep) -> list[TradeWindow]:
    return [window for rows in step.windows for window in rows.events()]


def ends(step: TradeStep) -> list[int]:
    return [window.end_ms - START_MS for window in windows_of(step)]


def take(engine: TradeWindowEngine, *trades: Trade) -> TradeStep:
    return engine.take_trades(from_trades(trades))


def test_a_trade_completes_what_ends_at_or_before_it() -> None:
    """A window is complete with the first trade at its end or after it, and not before."""
    engine = TradeWindowEngine(TradeWindowSettings())
    assert ends(take(engine, one(1, 100), one(2, 499))) == []
    assert ends(take(engine, one(3, 500))) == [500]
    assert ends(take(engine, one(4, 1999))) == [1000, 1500]


def test_a_kline_completes_what_its_trades_let_it() -> None:
    """A kline that comes before its last trade waits for it; one without an id, or with -1, proves nothing, and goes unchecked."""
    engine = TradeWindowEngine(TradeWindowSettings())
    for unknown in (None, -1):
        step = engine.take_klines(from_klines([kline(open_time_ms=START_MS, close_time_ms=START_MS + 999, last_trade_id=unknown)]))
        assert (ends(step), step.klines_unchecked, engine.state.waiting.shape[1]) == ([], 1, 0)
    assert ends(take(engine, one(1, 100))) == []
    (first,) = klines_of([one(1, 100), one(2, 200)], 0)
    assert ends(engine.take_klines(from_klines([first]))) == []
    assert ends(take(engine, one(2, 200))) == [500, 1000]


def test_only_so_many_klines_wait() -> None:
    """Of klines whose trades don't come the oldest are let go, and counted as unchecked."""
    engine = TradeWindowEngine(TradeWindowSettings(waiting_most=3))
    ahead = [kline(open_time_ms=START_MS + n * 1000, close_time_ms=START_MS + n * 1000 + 999, last_trade_id=9 + n) for n in range(5)]
    assert engine.take_klines(from_klines(ahead)).klines_unchecked == 2
    assert engine.state.waiting.shape[1] == 3


def test_windows_before_and_in_a_hole() -> None:
    """What is complete before a hole is published; windows that end within it are not; after it a new run begins, not whole."""
    engine = TradeWindowEngine(TradeWindowSettings())
    step = take(engine, one(1, 100), one(2, 1200), one(7, 5100), one(8, 5600))
    found = windows_of(step)
    assert [(window.end_ms - START_MS, window.since_id, window.whole) for window in found] == [
        (500, 1, False),
        (1000, 1, False),
        (5500, 7, False),
    ]
    assert step.holes == 1


def test_a_kline_completes_a_run_that_many_holes_ended() -> None:
    """However many holes a batch has, up to sixteen, a kline that is read before or after it completes what the first run still lacks."""
    trades = [one(1, 100), *(one(10 * n, 1200) for n in range(1, 17))]
    (first,) = klines_of([one(1, 100)], 0)
    for klines_first in (True, False):
        engine = TradeWindowEngine(TradeWindowSettings())
        takes = [lambda e: e.take_klines(from_klines([first])), lambda e: take(e, *trades)]
        found = [window for step in takes[:: 1 if klines_first else -1] for window in windows_of(step(engine))]
        assert [window.end_ms - START_MS for window in found if window.since_id == 1] == [500, 1000]


def test_what_comes_too_late_is_set_aside() -> None:
    """A trade of a hole, and one that was counted in part, are set aside with a reason; repeats are counted."""
    engine = TradeWindowEngine(TradeWindowSettings())
    batch = from_trades([one(1, 0), one(5, 10, last_id=6), one(3, 5), one(6, 20, last_id=8), one(5, 10, last_id=6), one(7, 30)])
    step = engine.take_trades(batch)
    assert [(batch.trade(row).first_id, reason.split(",")[2].strip()) for row, reason in step.unusable] == [
        (3, "these ids were missing when later ones came"),
        (6, "a part of these ids was counted already"),
    ]
    assert (step.trades, step.repeats, step.holes) == (3, 1, 1)


def test_time_does_not_go_back() -> None:
    """A trade whose time is before that of the trade before it counts at that one's time, and is counted."""
    engine = TradeWindowEngine(TradeWindowSettings())
    step = take(engine, one(1, 600), one(2, 400), one(3, 1000))
    assert step.back_in_time == 1
    assert [(window.end_ms - START_MS, window.points) for window in windows_of(step)] == [(1000, 2)]


def test_a_trade_that_a_kline_contradicts() -> None:
    """A kline said that all up to an id lies before its end, and the next id claims to be earlier: counted, and it counts at that end."""
    engine = TradeWindowEngine(TradeWindowSettings())
    early = one(1, 100)
    take(engine, early)
    assert ends(engine.take_klines(from_klines(klines_of([early], 0)))) == [500, 1000]
    step = take(engine, one(2, 900), one(3, 1500))
    assert (step.contradictions, step.back_in_time) == (1, 0)
    assert [(window.end_ms - START_MS, window.points) for window in windows_of(step)] == [(1500, 2)]


def second_of_trades() -> tuple[list[Trade], Kline]:
    """A second after the run's first one, and its kline."""
    trades = [
        one(1, 0),
        one(2, 1000, price=7 * UNIT, quantity=3 * UNIT, buyer_is_maker=True),
        one(3, 1700, price=5 * UNIT, proof=Proof.COUNT),
    ]
    return trades, klines_of(trades, 0)[1]


def test_a_kline_that_its_trades_contradict_is_told() -> None:
    """Each field that differs is named, with what the kline says and what its trades make."""
    trades, right = second_of_trades()
    engine = TradeWindowEngine(TradeWindowSettings())
    take(engine, *trades)
    equal = engine.take_klines(from_klines([right]))
    assert (equal.klines_equal, equal.differences) == (1, [])
    wrong = {name: getattr(right, name) for name in Kline.__dataclass_fields__}
    wrong |= {"high": 8 * UNIT, "base_volume": right.base_volume + 1, "taker_quote_volume": 0, "trades": 5, "first_trade_id": 1}
    step = engine.take_klines(from_klines([Kline(**wrong)]))
    (told,) = step.differences
    assert (told.symbol, told.open_time_ms, step.klines_equal) == ("BTCUSDT", right.open_time_ms, 0)
    assert told.fields == {
        "h": ("8.00000000", "7.00000000"),
        "v": ("4.00000001", "4.00000000"),
        "Q": ("0.00000000", "5.00000000"),
        "n": ("5", "2"),
        "f": ("1", "2"),
    }


def test_a_runs_first_second_is_not_compared() -> None:
    """Of the second in which a run begins earlier trades may be missing: its kline can't be checked."""
    trades, _ = second_of_trades()
    engine = TradeWindowEngine(TradeWindowSettings())
    take(engine, *trades)
    step = engine.take_klines(from_klines(klines_of(trades, 0)[:1]))
    assert (step.klines_equal, step.klines_unchecked) == (0, 1)


def test_a_long_silence() -> None:
    """After so long without a trade no more windows come, until the next trade: then they go on, and the run with them."""
    engine = TradeWindowEngine(TradeWindowSettings(silence_ms=5000))
    step = take(engine, one(1, 100), one(2, 100_000), one(3, 100_500))
    assert ends(step) == [*range(500, 8001, 500), 100_500]
    last = windows_of(step)[-1]
    assert (last.points, last.since_id, last.whole) == (1, 1, True)
